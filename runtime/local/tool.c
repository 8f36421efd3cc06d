/*
 * See tool.h. A server is found by its address, or by its data directory, where it leaves its
 * address; what it is, it tells itself under /health. These are short-lived calls of a person or a
 * script: they block.
 */
#include "runtime/local/tool.h"

#include "common/base/buf.h"
#include "common/base/cleanup.h"
#include "common/base/mem.h"
#include "common/base/options.h"
#include "common/http/net.h"
#include "common/http/parser.h"
#include "runtime/local/daemon/workdir.h"
#include "runtime/local/edge/authority.h"

#include <errno.h>
#include <json-c/json_object.h>
#include <json-c/json_tokener.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

/* 3 as `systemctl status` has it. */
enum { EXIT_USAGE = 2, EXIT_NOT_RUNNING = 3, ANSWER_MAX = 64 << 10, WAIT_S = 10 };

#define ANY_KEY "e2b_0000000000000000000000000000000000000000"

struct tool {
    const char *listen;
    const char *data_dir;
    const char *api_key;
    bool raw; /* what the verb's own option asks for: env --plain, status --json, ca --pem */
    char address[80];
    struct json_object *health; /* owned; what the server says */
};

/* ---- asking ---- */

static bool read_address(struct tool *t, struct status *st)
{
    AUTO_FREE char *path = xasprintf("%s/address", t->data_dir);
    FILE *f = fopen(path, "re");
    bool ok = f != NULL && fgets(t->address, sizeof(t->address), f) != NULL;

    if (f != NULL)
        fclose(f);
    t->address[strcspn(t->address, "\n")] = '\0';
    return ok || status_set(st, CODE_UNAVAILABLE, 0, "no server has used %s", t->data_dir);
}

static bool find_address(struct tool *t, struct status *st)
{
    const char *colon;

    if (t->data_dir != NULL && !read_address(t, st))
        return false;
    if (t->data_dir == NULL)
        snprintf(t->address, sizeof(t->address), "%s", t->listen);
    /* A server that listens everywhere is asked here. */
    colon = strrchr(t->address, ':');
    if (colon != NULL && (strncmp(t->address, "0.0.0.0:", 8) == 0 || *t->address == '*' ||
                          strncmp(t->address, "[::]:", 5) == 0)) {
        char port[16];

        snprintf(port, sizeof(port), "%s", colon);
        snprintf(t->address, sizeof(t->address), "127.0.0.1%s", port);
    }
    return true;
}

static bool receive(int fd, struct buf *in)
{
    struct http_parser parser;
    enum http_event event = HTTP_NEED_MORE;
    struct http_slice body;
    uint8_t piece[4096];
    ssize_t n;

    http_parser_init(&parser, true);
    while (event != HTTP_END && event != HTTP_ERROR &&
           (n = recv(fd, piece, sizeof(piece), 0)) > 0) {
        size_t used = 0, step;

        do {
            event = http_parser_next(&parser, piece + used, (size_t)n - used, &step, &body);
            used += step;
            if (event == HTTP_BODY && !buf_append(in, body.data, body.len))
                event = HTTP_ERROR;
        } while (event == HTTP_HEAD || event == HTTP_BODY);
    }
    if (event == HTTP_END && parser.head.status != 200)
        event = HTTP_ERROR;
    http_parser_deinit(&parser);
    return event == HTTP_END;
}

static bool ask(struct tool *t, struct status *st)
{
    static const char request[] =
        "GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    const struct timeval wait = {.tv_sec = WAIT_S};
    AUTO(buf_deinit) struct buf in = BUF_INIT(ANSWER_MAX);
    AUTO_CLOSE int fd = -1;

    if (!find_address(t, st) || !net_connect_tcp(t->address, &fd, st))
        return false;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait));
    if (send(fd, request, sizeof(request) - 1, MSG_NOSIGNAL) == sizeof(request) - 1 &&
        receive(fd, &in))
        t->health = json_tokener_parse(buf_str(&in));
    if (json_object_object_get_ex(t->health, "tier", NULL))
        return true;
    return status_set(st, CODE_UNAVAILABLE, 0, "what answers at %s is no e2b-local", t->address);
}

static const char *text_of(const struct tool *t, const char *key)
{
    struct json_object *v = NULL;

    json_object_object_get_ex(t->health, key, &v);
    return json_object_is_type(v, json_type_string) ? json_object_get_string(v) : NULL;
}

static bool is_set(const struct tool *t, const char *key)
{
    struct json_object *v = NULL;

    return json_object_object_get_ex(t->health, key, &v) && json_object_get_boolean(v);
}

static int not_running(const struct status *st)
{
    fprintf(stderr, "e2b-local: %s\n", st->message);
    return st->code == CODE_INVALID_ARGUMENT ? EXIT_USAGE : EXIT_NOT_RUNNING;
}

/* ---- env ---- */

/* For a shell, unless wanted plain, as files of environment variables have it. */
static void print_variable(const struct tool *t, const char *name, const char *value)
{
    if (t->raw) {
        printf("%s=%s\n", name, value);
        return;
    }
    printf("export %s='", name);
    for (; *value != '\0'; value++) {
        if (*value == '\'')
            fputs("'\\''", stdout);
        else
            putchar(*value);
    }
    fputs("'\n", stdout);
}

static int run_env(struct tool *t)
{
    struct status st = STATUS_INIT;
    AUTO_FREE char *url = NULL, *ca = NULL;

    if (!ask(t, &st))
        return not_running(&st);
    url = xasprintf("http://%s", t->address);
    print_variable(t, "E2B_API_URL", url);
    print_variable(t, "E2B_SANDBOX_URL", url);
    if (text_of(t, "domain") != NULL)
        print_variable(t, "E2B_DOMAIN", text_of(t, "domain"));
    if (t->api_key != NULL || is_set(t, "anyKey"))
        print_variable(t, "E2B_API_KEY", t->api_key != NULL ? t->api_key : ANY_KEY);
    else
        fputs("e2b-local: E2B_API_KEY is the key this server was started with: give it to this "
              "command as --api-key, or set it yourself\n",
              stderr);
    if (is_set(t, "tls") && text_of(t, "dataDir") != NULL) {
        ca = xasprintf("%s/" AUTHORITY_CA_FILE, text_of(t, "dataDir"));
        print_variable(t, "NODE_EXTRA_CA_CERTS", ca);
    }
    return EXIT_SUCCESS;
}

/* ---- status ---- */

static int run_status(struct tool *t)
{
    struct status st = STATUS_INIT;
    struct json_object *count = NULL;
    const char *dir;

    if (!ask(t, &st))
        return not_running(&st);
    if (t->raw) {
        puts(json_object_to_json_string_ext(t->health, JSON_C_TO_STRING_PRETTY |
                                                           JSON_C_TO_STRING_SPACED |
                                                           JSON_C_TO_STRING_NOSLASHESCAPE));
        return EXIT_SUCCESS;
    }
    json_object_object_get_ex(t->health, "sandboxes", &count);
    dir = text_of(t, "dataDir");
    printf("e2b-local %s is running\n", text_of(t, "version") ?: "?");
    printf("address:   http://%s%s\n", t->address, is_set(t, "tls") ? " and https" : "");
    printf("domain:    %s\n", text_of(t, "domain") ?: "none");
    printf("tier:      %s\n", text_of(t, "tier"));
    printf("isolation: %s\n", text_of(t, "isolation") ?: "?");
    printf("sandboxes: %lld\n", (long long)json_object_get_int64(count));
    printf("data:      %s\n", dir != NULL ? dir : "?");
    return EXIT_SUCCESS;
}

/* ---- ca ---- */

static int print_file(const char *path)
{
    FILE *f = fopen(path, "re");
    char piece[4096];
    size_t n;

    if (f == NULL) {
        fprintf(stderr, "e2b-local: %s cannot be read: %s\n", path, strerror(errno));
        return EXIT_FAILURE;
    }
    while ((n = fread(piece, 1, sizeof(piece), f)) > 0)
        fwrite(piece, 1, n, stdout);
    fclose(f);
    return EXIT_SUCCESS;
}

/* The directory of the authority: as told, or the running server's. Owned by the caller. */
static char *authority_dir(struct tool *t, struct status *st)
{
    if (t->data_dir != NULL)
        return workdir_absolute(t->data_dir, st);
    if (!ask(t, st))
        return NULL;
    if (is_set(t, "tls") && text_of(t, "dataDir") != NULL)
        return xstrdup(text_of(t, "dataDir"));
    status_set(st, CODE_UNAVAILABLE, 0, "the server at %s was not started with --tls", t->address);
    return NULL;
}

static int run_ca(struct tool *t)
{
    AUTO(authority_deinit) struct authority a = {NULL};
    struct status st = STATUS_INIT;
    AUTO_FREE char *dir = authority_dir(t, &st);
    AUTO_FREE char *path = NULL;

    if (dir == NULL)
        return not_running(&st);
    path = xasprintf("%s/" AUTHORITY_CA_FILE, dir);
    /* Before the server's first start there is none yet: its users may want to trust it earlier. */
    if (access(path, R_OK) < 0 && (!workdir_ensure(dir, &st) || !authority_load(&a, dir, &st))) {
        fprintf(stderr, "e2b-local: %s\n", st.message);
        return EXIT_FAILURE;
    }
    if (t->raw)
        return print_file(path);
    puts(path);
    return EXIT_SUCCESS;
}

/* ---- the verbs ---- */

static const struct verb {
    const char *name;
    const char *summary;
    const char *more;
    int (*run)(struct tool *t);
    const char *raw, *raw_help; /* the option of its own */
} verbs[] = {
    {"env", "Prints what to export for E2B's SDKs and command line to use a running server.",
     "In a shell:           eval \"$(e2b-local env)\"\n"
     "In GitHub Actions:    e2b-local env --plain >> \"$GITHUB_ENV\"\n"
     "Exit codes: 0, 2 for wrong usage, 3 when no server is there.\n",
     run_env, "plain", "NAME=VALUE alone, as files of environment variables have it."},
    {"status", "Tells how a running server is, and how well it isolates.",
     "Exit codes: 0, 2 for wrong usage, 3 when no server is there.\n", run_status, "json",
     "As JSON."},
    {"ca", "Prints the path of the certificate that clients of a server with --tls must trust.",
     "For Node:             export NODE_EXTRA_CA_CERTS=\"$(e2b-local ca)\"\n"
     "With --data-dir the authority is made when there is none yet.\n",
     run_ca, "pem", "The certificate itself instead."},
};

static const struct verb *find_verb(const char *arg)
{
    for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++) {
        if (strcmp(arg, verbs[i].name) == 0)
            return &verbs[i];
    }
    return NULL;
}

bool tool_is_verb(const char *arg)
{
    return find_verb(arg) != NULL;
}

int tool_run(int argc, char **argv)
{
    const struct verb *verb = find_verb(argv[1]);
    struct tool t = {.listen = "127.0.0.1:3000"};
    AUTO_FREE char *name = xasprintf("e2b-local %s", verb->name);
    const struct option options[] = {
        {"listen", 'l', "E2B_LOCAL_LISTEN", OPTION_STRING, &t.listen, "HOST:PORT",
         "The address of the server. Default: 127.0.0.1:3000."},
        {"data-dir", 0, "E2B_LOCAL_DATA_DIR", OPTION_STRING, &t.data_dir, "DIR",
         "The data directory of the server, which is found by it."},
        {"api-key", 0, "E2B_LOCAL_API_KEY", OPTION_STRING, &t.api_key, "KEY",
         "The key the server was started with.", .secret = true},
        {verb->raw, 0, NULL, OPTION_BOOL, &t.raw, NULL, verb->raw_help},
        {NULL},
    };
    const struct program program = {
        .name = name,
        .summary = verb->summary,
        .usage = "[OPTIONS]",
        .options = options,
        .more = verb->more,
    };
    struct status st = STATUS_INIT;
    int args = 0, code = EXIT_USAGE;

    switch (options_parse(&program, argc - 1, argv + 1, &args, &st)) {
    case OPTIONS_DONE:
        return EXIT_SUCCESS;
    case OPTIONS_RUN:
        if (args == argc - 1) {
            code = verb->run(&t);
            json_object_put(t.health);
            return fflush(stdout) == 0 ? code : EXIT_FAILURE;
        }
        status_set(&st, CODE_INVALID_ARGUMENT, 0, "unexpected argument %s", argv[1 + args]);
        break;
    case OPTIONS_ERROR:
        break;
    }
    fprintf(stderr, "e2b-local: %s\n", st.message);
    return code;
}
