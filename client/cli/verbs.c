/*
 * The command line of sandboxctl: finds the verb, reads its options, runs it. The options before
 * the verb may also stand behind it. What a verb does is in cmd_*.c; this file knows none of them.
 */
#include "client/cli/verbs.h"

#include "common/base/buf.h"
#include "common/base/cleanup.h"
#include "common/base/mem.h"
#include "common/base/options_page.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct cli cli = {.addresses = "127.0.0.1:50051", .output = "text"};

const struct option cli_global_options[] = {
    {"address", 'a', "SANDBOXD_ADDRESS", OPTION_STRING, &cli.addresses, "HOST:PORT[,HOST:PORT…]",
     "Where sandboxd listens. With several, the next one is used when one does not answer, and "
     "streams go on there. 127.0.0.1:50051 if not set."},
    {"output", 'o', NULL, OPTION_STRING, &cli.output, "text|json",
     "text is for people, json one object per line, with the API's own names."},
    {"header", 'H', NULL, OPTION_STRINGS, &cli.headers, "KEY=VALUE",
     "gRPC metadata for every call. May be repeated."},
    {"token", 0, "SANDBOXD_TOKEN", OPTION_STRING, &cli.token, "KEY",
     "The key to call with. Better in the environment or in a file: command lines are seen by "
     "every user.",
     .secret = true},
    {"token-file", 0, "SANDBOXD_TOKEN_FILE", OPTION_STRING, &cli.token_file, "FILE",
     "The file the key stands in."},
    {"tls", 0, "SANDBOXD_TLS", OPTION_BOOL, &cli.tls, NULL,
     "Connections are encrypted. So they are with any of the next four."},
    {"tls-ca", 0, "SANDBOXD_TLS_CA", OPTION_STRING, &cli.tls_ca, "FILE",
     "The authorities, PEM, one of which must have signed the server's certificate; the system's "
     "if not set."},
    {"tls-cert", 0, "SANDBOXD_CLIENT_CERT", OPTION_STRING, &cli.tls_cert, "FILE",
     "A certificate of your own, PEM, for servers that ask for one."},
    {"tls-key", 0, "SANDBOXD_CLIENT_KEY", OPTION_STRING, &cli.tls_key, "FILE",
     "Its key, PEM, without a passphrase."},
    {"tls-server-name", 0, "SANDBOXD_TLS_SERVER_NAME", OPTION_STRING, &cli.tls_server_name, "NAME",
     "The name that the server's certificate must have, where the address has another."},
    {"call-timeout", 0, "SANDBOXD_CALL_TIMEOUT", OPTION_DURATION, &cli.call_timeout_ms, "TIME",
     "How long a call may take, its repetitions included (60s). Streams have no such limit."},
    {"heartbeat", 0, "SANDBOXD_HEARTBEAT_INTERVAL", OPTION_DURATION, &cli.heartbeat_ms, "TIME",
     "How often the servers send a sign of life (15s). A stream that is silent for two and a half "
     "times as long goes on at the next address."},
    {"give-up", 0, "SANDBOXD_GIVE_UP", OPTION_DURATION, &cli.give_up_ms, "TIME",
     "How long to try to go on with a broken stream (5m)."},
    {NULL},
};

enum { N_GLOBAL = sizeof(cli_global_options) / sizeof(cli_global_options[0]) - 1 };

const struct verb *const cli_families[] = {
    sandbox_verbs,  lifecycle_verbs, snapshot_verbs, file_verbs,    entry_verbs,
    transfer_verbs, stream_verbs,    attach_verbs,   forward_verbs, command_verbs,
    health_verbs,   key_verbs,       NULL,
};

static const struct verb *find_verb(const char *name)
{
    for (size_t i = 0; cli_families[i] != NULL; i++) {
        for (const struct verb *v = cli_families[i]; v->name != NULL; v++) {
            if (strcmp(v->name, name) == 0)
                return v;
        }
    }
    return NULL;
}

static const char *main_help(struct buf *text)
{
    buf_append_str(text, "Verbs (sandboxctl VERB --help says more):\n");
    for (size_t i = 0; cli_families[i] != NULL; i++) {
        for (const struct verb *v = cli_families[i]; v->name != NULL; v++) {
            AUTO_FREE char *usage = xasprintf("%s %s", v->name, v->operands);

            buf_printf(text, "  %-34s %s\n", usage, v->summary);
        }
    }
    buf_append_str(
        text, "\nExit codes: 0 done · 1 a local file failed · 2 bad usage · 255 a call failed.\n"
              "run exits as the command did: its own code · 128 + signal · 126 or 127 "
              "it could not be\nstarted · 124 its timeout passed · 254 lost, its end is "
              "not known.\n");
    return buf_str(text);
}

static bool understand_output(void)
{
    cli.json = strcmp(cli.output, "json") == 0;
    if (cli.json || strcmp(cli.output, "text") == 0)
        return true;
    cli_usage("--output: %s is not text or json", cli.output);
    return false;
}

/* The verb's options, then those before the verb; the environment was read for these already. */
static void join_options(struct option *to, const struct verb *verb)
{
    size_t n = 0;

    for (const struct option *o = verb->options; o != NULL && o->name != NULL; o++)
        to[n++] = *o;
    for (size_t i = 0; i < N_GLOBAL; i++) {
        to[n] = cli_global_options[i];
        to[n++].env = NULL;
    }
    to[n] = (struct option){NULL};
}

/* False: that was all there was to do, and *ret_code is the exit code. */
static bool read_options(const struct program *program, int argc, char **argv, int *ret_at,
                         int *ret_code)
{
    struct status st = STATUS_INIT;

    switch (options_parse(program, argc, argv, ret_at, &st)) {
    case OPTIONS_RUN:
        return true;
    case OPTIONS_DONE:
        *ret_code = 0;
        break;
    case OPTIONS_ERROR:
        *ret_code = cli_usage("%s", st.message);
        break;
    }
    return false;
}

static int run_verb(const struct verb *verb, int argc, char **argv)
{
    struct option options[CLI_MAX_OPTIONS];
    AUTO_FREE char *name = xasprintf("sandboxctl %s", verb->name);
    AUTO_FREE char *usage = xasprintf("[OPTIONS] %s", verb->operands);
    struct program program = {
        .name = name,
        .summary = verb->summary,
        .usage = usage,
        .options = options,
        .more = verb->more,
        .anywhere = true,
    };
    int at, code;

    join_options(options, verb);
    for (int i = 1; i < argc; i++)
        cli.dashes = cli.dashes || strcmp(argv[i], "--") == 0;
    if (!read_options(&program, argc, argv, &at, &code))
        return code;
    if (!understand_output())
        return EXIT_USAGE;
    if (argc - at < verb->min_operands || argc - at > verb->max_operands)
        return cli_usage("usage: sandboxctl %s %s", verb->name, verb->operands);

    code = verb->run(&cli, argc - at, argv + at);

    if (fflush(stdout) != 0 && code == 0)
        code = cli_say(EXIT_LOCAL, "cannot write the output: %s", strerror(errno));
    return code;
}

int cli_main(int argc, char **argv)
{
    AUTO(buf_deinit) struct buf help = BUF_INIT(1 << 16);
    struct program program = {
        .name = "sandboxctl",
        .summary = "Isolated sandboxes from the command line: make them, fill them, run commands "
                   "in them.",
        .usage = "[OPTIONS] VERB [ARGS]",
        .options = cli_global_options,
        .more = main_help(&help),
        .manual = "1",
        .print_page = options_page,
    };
    int at, code;

    if (!read_options(&program, argc, argv, &at, &code))
        return code;
    if (at == argc) {
        options_print_help(&program, stderr);
        return EXIT_USAGE;
    }

    const struct verb *verb = find_verb(argv[at]);

    if (verb == NULL)
        return cli_usage("there is no verb %s; see sandboxctl --help", argv[at]);
    return run_verb(verb, argc - at, argv + at);
}
