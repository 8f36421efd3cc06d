/* See config.h: reading, and what the options mean together. Called once by main, before there is
 * any thread. */
#include "service/config.h"

#include "common/base/options_page.h"
#include "service/config_table.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { READ_FILE_MARGIN = 64 * 1024 }; /* what a ReadFileResponse holds besides the file */

static const char more[] =
    "To try it without an account:  sandboxd --local\n"
    "With E2B:                      E2B_API_KEY=e2b_... sandboxd\n"
    "Then:                          grpcurl -plaintext 127.0.0.1:50051 list\n";

static const char about[] =
    "sandboxd serves isolated sandboxes over gRPC (sandbox.v1): create one, write and read files, "
    "run commands and follow their output without losing a line. It keeps no state: every call may "
    "go to any pod.\n"
    "\n"
    "Options come from flags, then the environment, then the file of --config; the first that "
    "names one wins. A name that is no option is an error wherever it stands. Durations are "
    "written "
    "500ms, 15s, 10m, 2h; sizes 4096, 64KiB, 4MiB, 1GiB; flags without a value can be switched off "
    "with --name=false. In the file a line is name = value, the name as of the flag, and # begins "
    "a "
    "comment on a line of its own: --print=config prints one to start from.\n"
    "\n"
    "SIGTERM and SIGINT drain: health says NOT_SERVING, long streams are told where to go on, and "
    "running calls may end within a budget. A second signal ends the program at once.\n";

/* Of sandboxctl, in the environment of people who use both. */
static const char *const others[] = {
    "SANDBOXD_ADDRESS",
    "SANDBOXD_TOKEN",
    "SANDBOXD_TOKEN_FILE",
    "SANDBOXD_TLS",
    "SANDBOXD_TLS_CA",
    "SANDBOXD_TLS_SERVER_NAME",
    "SANDBOXD_CLIENT_CERT",
    "SANDBOXD_CLIENT_KEY",
    "SANDBOXD_CALL_TIMEOUT",
    "SANDBOXD_GIVE_UP",
    NULL,
};

static enum options_result read_options(struct config *c, int argc, char **argv, struct status *st)
{
    const struct program program = {
        .name = "sandboxd",
        .summary = "Isolated sandboxes over E2B, as a gRPC service.",
        .usage = "[OPTIONS]",
        .options = c->options,
        .more = more,
        .about = about,
        .tells_defaults = true,
        .file_option = "config",
        .env_prefix = "SANDBOXD_",
        .env_others = others,
        .sources = c->sources,
        .print_page = options_page,
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

/* Of an option that exists. */
static size_t index_of(const struct config *c, const char *name)
{
    size_t i = 0;

    while (strcmp(c->options[i].name, name) != 0)
        i++;
    return i;
}

static bool check_admin(const struct config *c, struct status *st)
{
    char host[256];

    if (*c->admin_listen == '\0' || split_address(c->admin_listen, host, sizeof(host)))
        return true;
    return status_set(st, CODE_INVALID_ARGUMENT, 0,
                      "--admin-listen: %s is no address: write HOST:PORT, or [V6]:PORT",
                      c->admin_listen);
}

static bool is_auth(const struct config *c, const char *how)
{
    return strcmp(c->auth, how) == 0;
}

static bool check_tls(const struct config *c, struct status *st)
{
    if ((c->tls_cert != NULL) != (c->tls_key != NULL))
        return status_set(st, CODE_INVALID_ARGUMENT, 0, "--tls-cert and --tls-key go together");
    return c->tls_client_ca == NULL || c->tls_cert != NULL ||
           status_set(st, CODE_INVALID_ARGUMENT, 0, "--tls-client-ca needs --tls-cert");
}

static bool check_times(const struct config *c, struct status *st)
{
    if (c->idle_timeout_ms > 0 && c->idle_timeout_ms < 30 * 1000)
        return status_set(st, CODE_INVALID_ARGUMENT, 0, "--idle-timeout is shorter than 30s");
    return true;
}

static bool check_traces(struct config *c, struct status *st)
{
    char *end;

    c->trace_ratio = strtod(c->trace_ratio_text, &end);
    if (end == c->trace_ratio_text || *end != '\0' || !(c->trace_ratio >= 0 && c->trace_ratio <= 1))
        return status_set(st, CODE_INVALID_ARGUMENT, 0,
                          "--trace-ratio: %s is no number from 0.0 to 1.0", c->trace_ratio_text);
    if (c->otlp_endpoint != NULL && strncmp(c->otlp_endpoint, "http://", 7) != 0 &&
        strncmp(c->otlp_endpoint, "https://", 8) != 0)
        return status_set(st, CODE_INVALID_ARGUMENT, 0,
                          "--otlp-endpoint: %s must begin with http:// or https://",
                          c->otlp_endpoint);
    return true;
}

static bool check_listen(const struct config *c, struct status *st)
{
    char host[256];

    if (!split_address(c->listen, host, sizeof(host)))
        return status_set(st, CODE_INVALID_ARGUMENT, 0,
                          "%s is no address to listen on: write HOST:PORT, or [V6]:PORT",
                          c->listen);
    if (c->insecure || is_loopback(host))
        return true;
    if (c->tls_cert == NULL)
        return status_set(st, CODE_INVALID_ARGUMENT, 0,
                          "%s can be reached by others, and calls are not encrypted: give "
                          "--tls-cert and --tls-key, listen on 127.0.0.1, or say --insecure if the "
                          "network around this program keeps strangers out",
                          c->listen);
    if (is_auth(c, "none") && c->tls_client_ca == NULL)
        return status_set(st, CODE_INVALID_ARGUMENT, 0,
                          "%s can be reached by others, and nobody asks them who they are: give "
                          "--auth-keys or --tls-client-ca, listen on 127.0.0.1, or say --insecure "
                          "if the network around this program keeps strangers out",
                          c->listen);
    return true;
}

static bool check_auth(struct config *c, struct status *st)
{
    if (c->auth == NULL)
        c->auth = c->auth_keys != NULL ? "keys" : "none";
    if (is_auth(c, "keys") != (c->auth_keys != NULL))
        return status_set(st, CODE_INVALID_ARGUMENT, 0,
                          "--auth=keys and --auth-keys=FILE go together");
    if (is_auth(c, "passthrough") && c->local)
        return status_set(
            st, CODE_INVALID_ARGUMENT, 0,
            "--auth=passthrough is for E2B: the local runtime has one key of its own, "
            "which callers do not know");
    c->health_is_open = strstr(c->auth_exempt, "health") != NULL;
    c->reflection_is_open = strstr(c->auth_exempt, "reflection") != NULL;
    return true;
}

static bool check(struct config *c, struct status *st)
{
    if (!check_auth(c, st) || !check_tls(c, st) || !check_listen(c, st) || !check_admin(c, st) ||
        !check_times(c, st) || !check_traces(c, st))
        return false;
    if (!c->local && !is_auth(c, "passthrough") && c->e2b_api_key == NULL)
        return status_set(st, CODE_INVALID_ARGUMENT, 0,
                          "there is no E2B to use: set E2B_API_KEY to your key, or say --local to "
                          "run sandboxes on this machine");
    c->admin_any_port = c->sources[index_of(c, "admin-listen")] == OPTION_DEFAULT;
    c->read_file_max = c->message_max - READ_FILE_MARGIN;
    return true;
}

enum config_result config_read(struct config *ret, int argc, char **argv, struct status *st)
{
    config_defaults(ret);
    config_table(ret);
    switch (read_options(ret, argc, argv, st)) {
    case OPTIONS_DONE:
        return CONFIG_DONE;
    case OPTIONS_ERROR:
        return CONFIG_ERROR;
    case OPTIONS_RUN:
        break;
    }
    if (!check(ret, st))
        return CONFIG_ERROR;
    if (!ret->check_only)
        return CONFIG_RUN;
    printf("the configuration makes sense\n");
    return CONFIG_DONE;
}
