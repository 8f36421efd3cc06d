/*
 * See options.h. A process has one command line, so the table's targets are static; what comes of
 * them is the daemon's.
 */
#include "runtime/local/options.h"

#include "common/base/options.h"
#include "common/base/options_page.h"

#include <stdio.h>
#include <stdlib.h>

enum { EXIT_USAGE = 2 };

static const char more[] =
    "  e2b-local env       prints what to export for E2B's SDKs and command line\n"
    "  e2b-local status    tells how the server is\n"
    "  e2b-local ca        prints the certificate to trust, see --tls\n"
    "Each takes --help.\n"
    "A server on port 8000 in a sandbox is at http://8000-<sandbox id>.localhost:3000/.\n"
    "SIGTERM and SIGINT end the server and all sandboxes, SIGUSR1 the server alone.\n"
    "SIGUSR2 reads the templates of --template-dir again.\n";

static struct daemon_config config = {
    .listen = "127.0.0.1:3000",
    .max_lifetime_ms = INT64_C(24) * 3600 * 1000,
    .max_sandboxes = 200,
    .orphan_ms = INT64_C(5) * 60 * 1000,
};

static const struct option options[] = {
    {"listen", 'l', "E2B_LOCAL_LISTEN", OPTION_STRING, &config.listen, "HOST:PORT",
     "Address of the API and of the sandboxes' traffic. Port 0 lets the system choose; the "
     "ready line says which. Default: 127.0.0.1:3000."},
    {"data-dir", 0, "E2B_LOCAL_DATA_DIR", OPTION_STRING, &config.data_dir, "DIR",
     "Where sandboxes live; for one server at a time. Default: a directory of its own below "
     "the temporary one, which goes with the server, and all sandboxes with it."},
    {"api-key", 0, "E2B_LOCAL_API_KEY", OPTION_STRING, &config.api_key, "KEY",
     "The only key that is taken. Default: any of E2B's form, e2b_ and hexadecimal digits.",
     .secret = true},
    {"domain", 0, "E2B_LOCAL_DOMAIN", OPTION_STRING, &config.domain, "NAME[:PORT]",
     "Told to clients, which then name a port of a sandbox <port>-<sandbox id>.NAME. Default: "
     "localhost and the port of --listen. Empty: none is told."},
    {"max-lifetime", 0, NULL, OPTION_DURATION, &config.max_lifetime_ms, "DURATION",
     "The longest a sandbox may live. Default: 24h.", .min = 1000, .max = INT64_C(2592000000)},
    {"memory", 0, "E2B_LOCAL_MEMORY", OPTION_SIZE, &config.limits.memory_bytes, "SIZE",
     "Memory of a sandbox; what it writes to files counts on top, up to --disk. Where there "
     "are no control groups: of each of its processes. Default: 1GiB.",
     .min = 16 << 20, .max = INT64_C(1) << 50},
    {"disk", 0, "E2B_LOCAL_DISK", OPTION_SIZE, &config.limits.disk_bytes, "SIZE",
     "How much a sandbox may write to files. Default: 2GiB.", .min = 1 << 20,
     .max = INT64_C(1) << 50},
    {"inodes", 0, NULL, OPTION_INT, &config.limits.files, "N",
     "How many files and directories a sandbox may make. Default: 200000.", .min = 1000,
     .max = INT64_C(1) << 40},
    {"pids", 0, NULL, OPTION_INT, &config.limits.pids, "N",
     "How many processes and threads a sandbox may have. Default: 512.", .min = 16, .max = 4 << 20},
    {"cpu", 0, NULL, OPTION_INT, &config.limits.cpu_millis, "N",
     "CPU time of a sandbox, in thousandths of a core. Default: 2000.", .min = 10, .max = 1000000},
    {"open-files", 0, NULL, OPTION_INT, &config.limits.open_files, "N",
     "How many files a process of a sandbox may have open. Default: its share of half of what "
     "the machine may have open, 4096 to 65536.",
     .min = 64, .max = 1 << 30},
    {"template-dir", 0, "E2B_LOCAL_TEMPLATE_DIR", OPTION_STRING, &config.template_dir, "DIR",
     "Templates besides 'base': each folder DIR/NAME has a template.json, which says what is "
     "different in sandboxes of NAME. SIGUSR2 reads them again. The options above hold for "
     "templates that say nothing else."},
    {"max-sandboxes", 0, NULL, OPTION_INT, &config.max_sandboxes, "N",
     "How many sandboxes there may be at a time. Default: 200.", .min = 1, .max = 100000},
    {"orphan-time", 0, "E2B_LOCAL_ORPHAN_TIME", OPTION_DURATION, &config.orphan_ms, "DURATION",
     "How long sandboxes live on when this server is killed. One that is started with the same "
     "--data-dir within this time goes on with them. Default: 5m.",
     .max = INT64_C(2592000000)},
    {"egress-allow", 0, "E2B_LOCAL_EGRESS_ALLOW", OPTION_STRINGS, &config.egress_open,
     "ADDRESS[/BITS][:PORT][,…]",
     "Lets sandboxes reach addresses that none may otherwise: this machine's own and private "
     "ones. May be given more than once. A sandbox's own rules still hold."},
    {"egress-dns", 0, "E2B_LOCAL_EGRESS_DNS", OPTION_STRING, &config.name_servers, "IP[:PORT][,…]",
     "Name servers that are asked for sandboxes. Default: this machine's."},
    {"egress-proxy", 0, "E2B_LOCAL_EGRESS_PROXY", OPTION_BOOL, &config.egress_proxy, NULL,
     "Programs in sandboxes reach the internet by HTTP_PROXY only, as where the kernel cannot "
     "redirect their connections."},
    {"rate-limit", 0, NULL, OPTION_INT, &config.rate_limit, "N",
     "How many requests of a kind the API takes per second, and at once; then it answers 429, "
     "as E2B does. Default: any number.",
     .max = 1000000},
    {"tls", 0, "E2B_LOCAL_TLS", OPTION_BOOL, &config.tls, NULL,
     "Answers HTTPS too, on the same port, with certificates of an authority of its own, which "
     "is kept in --data-dir: see e2b-local ca."},
    {NULL},
};

bool options_read(struct daemon_config *ret, int argc, char **argv, int *ret_exit)
{
    const struct program program = {
        .name = "e2b-local",
        .summary = "Sandboxes with E2B's API on this machine.",
        .usage = "[OPTIONS | env | status | ca]",
        .options = options,
        .more = more,
        .print_page = options_page,
    };
    struct status st = STATUS_INIT;
    int args = 0;

    switch (options_parse(&program, argc, argv, &args, &st)) {
    case OPTIONS_DONE:
        *ret_exit = EXIT_SUCCESS;
        return false;
    case OPTIONS_RUN:
        if (args == argc) {
            *ret = config;
            return true;
        }
        status_set(&st, CODE_INVALID_ARGUMENT, 0, "unexpected argument %s", argv[args]);
        break;
    case OPTIONS_ERROR:
        break;
    }
    fprintf(stderr, "e2b-local: %s\n", st.message);
    *ret_exit = EXIT_USAGE;
    return false;
}
