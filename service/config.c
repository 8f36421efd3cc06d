/* See config.h. Called once by main, before there is any thread. */
#include "service/config.h"

#include "common/base/log.h"
#include "common/base/options.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    WORKERS_MAX = 256,
    READ_FILE_MARGIN = 64 * 1024, /* what a ReadFileResponse holds besides the file */
};

static const char more[] =
    "To try it without an account:  sandboxd --local\n"
    "With E2B:                      E2B_API_KEY=e2b_... sandboxd\n"
    "Then:                          grpcurl -plaintext 127.0.0.1:50051 list\n";

static struct config defaults(void)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);

    return (struct config){
        .listen = "127.0.0.1:50051",
        .workers = cores < 1             ? 1
                   : cores > WORKERS_MAX ? WORKERS_MAX
                                         : cores,
        .message_max = 4 << 20,
        .heartbeat_ms = 15 * 1000,
        .keepalive_ms = 60 * 1000,
        .connection_age_grace_ms = 60 * 1000,
        .drain_spread_ms = 5 * 1000,
        .drain_budget_ms = 20 * 1000,
        .log_level = "info",
        .e2b_domain = "e2b.app",
        .e2b_template = "base",
        .e2b_request_timeout_ms = 60 * 1000,
        .e2b_threads = 1,
        .lease_ms = 10 * 60 * 1000,
        .stream_buffer = 64 * 1024,
    };
}

static enum options_result read_options(struct config *c, int argc, char **argv, struct status *st)
{
    const struct option options[] = {
        {"listen", 'l', "SANDBOXD_LISTEN", OPTION_STRING, &c->listen, "HOST:PORT",
         "Where gRPC is served. Port 0 lets the system choose; the ready line says which. "
         "Default: 127.0.0.1:50051."},
        {"insecure", 0, "SANDBOXD_INSECURE", OPTION_BOOL, &c->insecure, NULL,
         "Allow an address that other machines reach. Calls are neither encrypted nor "
         "authenticated: whoever reaches the port can use every sandbox."},
        {"local", 0, "SANDBOXD_LOCAL", OPTION_BOOL, &c->local, NULL,
         "Start the local runtime, e2b-local, and use it in place of E2B. It ends with this "
         "program; E2B_API_KEY, E2B_API_URL and E2B_SANDBOX_URL are not used."},
        {"local-runtime", 0, "SANDBOXD_LOCAL_RUNTIME", OPTION_STRING, &c->local_runtime, "PATH",
         "The program of the local runtime. Default: e2b-local beside this program, where the "
         "build puts it, or in PATH."},
        {"local-data-dir", 0, "SANDBOXD_LOCAL_DATA_DIR", OPTION_STRING, &c->local_data_dir, "DIR",
         "Where the local runtime keeps its sandboxes. Default: a directory that is removed at "
         "the end."},
        {"e2b-api-key", 0, "E2B_API_KEY", OPTION_STRING, &c->e2b_api_key, "KEY",
         "E2B's API key. Better in the environment: command lines are seen by every user.",
         .secret = true},
        {"e2b-domain", 0, "E2B_DOMAIN", OPTION_STRING, &c->e2b_domain, "NAME",
         "The domain of E2B, or of your own installation. Default: e2b.app."},
        {"e2b-api-url", 0, "E2B_API_URL", OPTION_STRING, &c->e2b_api_url, "URL",
         "Where E2B's control plane is. Default: https://api.DOMAIN."},
        {"e2b-sandbox-url", 0, "E2B_SANDBOX_URL", OPTION_STRING, &c->e2b_sandbox_url, "URL",
         "Where the traffic to all sandboxes goes, named by header. Default: to each sandbox's "
         "own host."},
        {"e2b-template", 0, "E2B_TEMPLATE", OPTION_STRING, &c->e2b_template, "NAME",
         "The template of sandboxes that name none. Default: base."},
        {"e2b-request-timeout", 0, "SANDBOXD_E2B_REQUEST_TIMEOUT", OPTION_DURATION,
         &c->e2b_request_timeout_ms, "DURATION",
         "How long one attempt of a request to E2B may take. Default: 60s.", .min = 100,
         .max = 3600 * 1000},
        {"e2b-threads", 0, "SANDBOXD_E2B_THREADS", OPTION_INT, &c->e2b_threads, "N",
         "Threads that speak to E2B, 1 or 2. Default: 1.", .min = 1, .max = 2},
        {"workers", 0, "SANDBOXD_WORKERS", OPTION_INT, &c->workers, "N",
         "Threads that serve calls. Default: one for each processor.", .min = 1,
         .max = WORKERS_MAX},
        {"max-message", 0, "SANDBOXD_MAX_MESSAGE", OPTION_SIZE, &c->message_max, "SIZE",
         "The largest request; ReadFile takes files of 64KiB less. Default: 4MiB, which is what "
         "clients accept by themselves.",
         .min = 1 << 20, .max = 256 << 20},
        {"heartbeat-interval", 0, "SANDBOXD_HEARTBEAT_INTERVAL", OPTION_DURATION, &c->heartbeat_ms,
         "DURATION",
         "A stream with nothing to say sends an empty message this often, or proxies cut it. "
         "Default: 15s.",
         .min = 10, .max = 3600 * 1000},
        {"follower-lease", 0, "SANDBOXD_FOLLOWER_LEASE", OPTION_DURATION, &c->lease_ms, "DURATION",
         "A follower that this pod lost ends by itself after this time. Streams go on: a live one "
         "is replaced. Default: 10m.",
         .min = 100, .max = 24 * 3600 * 1000},
        {"stream-buffer", 0, "SANDBOXD_STREAM_BUFFER", OPTION_SIZE, &c->stream_buffer, "SIZE",
         "What may wait in memory for a client that reads slowly, per stream. Default: 64KiB.",
         .min = 16 << 10, .max = 16 << 20},
        {"keepalive-interval", 0, "SANDBOXD_KEEPALIVE_INTERVAL", OPTION_DURATION, &c->keepalive_ms,
         "DURATION",
         "How often a client's connection is probed, so that dead ones are noticed. 0: never. "
         "Default: 60s."},
        {"max-connection-age", 0, "SANDBOXD_MAX_CONNECTION_AGE", OPTION_DURATION,
         &c->connection_age_ms, "DURATION",
         "After this time a client is asked to connect anew, maybe to another pod. 0: never. "
         "Default: 0."},
        {"max-connection-age-grace", 0, "SANDBOXD_MAX_CONNECTION_AGE_GRACE", OPTION_DURATION,
         &c->connection_age_grace_ms, "DURATION",
         "Then the calls of the old connection have so long to end. Default: 60s."},
        {"drain-settle", 0, "SANDBOXD_DRAIN_SETTLE", OPTION_DURATION, &c->drain_settle_ms,
         "DURATION",
         "At SIGTERM health fails at once, and calls are still taken for this time, until load "
         "balancers have noticed. Default: 0s."},
        {"drain-spread", 0, "SANDBOXD_DRAIN_SPREAD", OPTION_DURATION, &c->drain_spread_ms,
         "DURATION",
         "From SIGTERM on streams are told to go on at another pod, each at some moment within "
         "this "
         "time, so that they do not all arrive there at once. Default: 5s.",
         .max = 3600 * 1000},
        {"drain-budget", 0, "SANDBOXD_DRAIN_BUDGET", OPTION_DURATION, &c->drain_budget_ms,
         "DURATION", "Then calls have so long to end before they are cut off. Default: 20s."},
        {"log-level", 0, "SANDBOXD_LOG_LEVEL", OPTION_STRING, &c->log_level, "LEVEL",
         "debug, info, warn or error. Default: info."},
        {NULL},
    };
    const struct program program = {
        .name = "sandboxd",
        .summary = "Isolated sandboxes over E2B, as a gRPC service.",
        .usage = "[OPTIONS]",
        .options = options,
        .more = more,
    };
    enum options_result result;
    int args = 0;

    result = options_parse(&program, argc, argv, &args, st);
    if (result == OPTIONS_RUN && args < argc) {
        status_set(st, CODE_INVALID_ARGUMENT, 0, "unexpected argument %s; see sandboxd --help",
                   argv[args]);
        return OPTIONS_ERROR;
    }
    return result;
}

/* --- what the options mean together --- */

static bool is_loopback(const char *host)
{
    struct in_addr v4;
    struct in6_addr v6;

    if (strcmp(host, "localhost") == 0)
        return true;
    if (inet_pton(AF_INET, host, &v4) == 1)
        return ntohl(v4.s_addr) >> 24 == 127;
    return inet_pton(AF_INET6, host, &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
}

static bool is_port(const char *text)
{
    size_t len = strspn(text, "0123456789");

    return len > 0 && len <= 5 && text[len] == '\0' && atoi(text) <= 65535;
}

/* HOST:PORT or [V6]:PORT; host: without the brackets. gRPC knows other forms (unix:, an address
 * without a port), which would pass by the rule about open addresses. */
static bool split_address(const char *text, char *host, size_t size)
{
    const char *colon = strrchr(text, ':');
    size_t len = colon != NULL ? (size_t)(colon - text) : 0;

    if (len == 0 || !is_port(colon + 1))
        return false;
    if (text[0] == '[') {
        if (len < 3 || text[len - 1] != ']')
            return false;
        text++;
        len -= 2;
    } else if (memchr(text, ':', len) != NULL) {
        return false;
    }
    if (len >= size)
        return false;
    memcpy(host, text, len);
    host[len] = '\0';
    return true;
}

static bool check_listen(const struct config *c, struct status *st)
{
    char host[256];

    if (!split_address(c->listen, host, sizeof(host)))
        return status_set(st, CODE_INVALID_ARGUMENT, 0,
                          "%s is no address to listen on: write HOST:PORT, or [V6]:PORT",
                          c->listen);
    if (!c->insecure && !is_loopback(host))
        return status_set(st, CODE_INVALID_ARGUMENT, 0,
                          "%s can be reached by others, and calls are neither encrypted nor "
                          "authenticated: listen on 127.0.0.1, or say --insecure if the network "
                          "around this program keeps strangers out",
                          c->listen);
    return true;
}

static bool check(struct config *c, struct status *st)
{
    enum log_level level;

    if (!check_listen(c, st))
        return false;
    if (!c->local && c->e2b_api_key == NULL)
        return status_set(st, CODE_INVALID_ARGUMENT, 0,
                          "there is no E2B to use: set E2B_API_KEY to your key, or say --local to "
                          "run sandboxes on this machine");
    if (!log_level_from_name(c->log_level, &level))
        return status_set(st, CODE_INVALID_ARGUMENT, 0,
                          "--log-level: %s is not debug, info, warn or error", c->log_level);
    c->read_file_max = c->message_max - READ_FILE_MARGIN;
    return true;
}

enum config_result config_read(struct config *ret, int argc, char **argv, struct status *st)
{
    *ret = defaults();
    switch (read_options(ret, argc, argv, st)) {
    case OPTIONS_DONE:
        return CONFIG_DONE;
    case OPTIONS_ERROR:
        return CONFIG_ERROR;
    case OPTIONS_RUN:
        break;
    }
    return check(ret, st) ? CONFIG_RUN : CONFIG_ERROR;
}
