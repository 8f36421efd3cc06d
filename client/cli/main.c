/*
 * sandboxctl: finds the verb, reads its options, runs it. The options before the verb may also
 * stand behind it. What a verb does is in cmd_*.c; this file knows none of them.
 */
#include "client/cli/cli.h"

#include "common/base/buf.h"
#include "common/base/cleanup.h"
#include "common/base/mem.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct cli cli = {.addresses = "127.0.0.1:50051", .output = "text"};

static const struct option global_options[] = {
    {"address", 'a', "SANDBOXD_ADDRESS", OPTION_STRING, &cli.addresses, "HOST:PORT[,HOST:PORT…]",
     "Where sandboxd listens. With several, the next one is used when one does not answer, and "
     "streams go on there. 127.0.0.1:50051 if not set."},
    {"output", 'o', NULL, OPTION_STRING, &cli.output, "text|json",
     "text is for people, json one object per line, with the API's own names."},
    {"header", 'H', NULL, OPTION_STRINGS, &cli.headers, "KEY=VALUE",
     "gRPC metadata for every call. May be repeated."},
    {"call-timeout", 0, "SANDBOXD_CALL_TIMEOUT", OPTION_DURATION, &cli.call_timeout_ms, "TIME",
     "How long a call may take, its repetitions included (60s). Streams have no such limit."},
    {"heartbeat", 0, "SANDBOXD_HEARTBEAT_INTERVAL", OPTION_DURATION, &cli.heartbeat_ms, "TIME",
     "How often the servers send a sign of life (15s). A stream that is silent for two and a half "
     "times as long goes on at the next address."},
    {"give-up", 0, "SANDBOXD_GIVE_UP", OPTION_DURATION, &cli.give_up_ms, "TIME",
     "How long to try to go on with a broken stream (5m)."},
    {NULL},
};

enum { N_GLOBAL = sizeof(global_options) / sizeof(global_options[0]) - 1, MAX_OPTIONS = 32 };

static const struct verb *const families[] = {
    sandbox_verbs, file_verbs, stream_verbs, command_verbs, health_verbs,
};

enum { N_FAMILIES = sizeof(families) / sizeof(families[0]) };

static const struct verb *find_verb(const char *name)
{
    for (size_t i = 0; i < N_FAMILIES; i++) {
        for (const struct verb *v = families[i]; v->name != NULL; v++) {
            if (strcmp(v->name, name) == 0)
                return v;
        }
    }
    return NULL;
}

static const char *main_help(struct buf *text)
{
    buf_append_str(text, "Verbs (sandboxctl VERB --help says more):\n");
    for (size_t i = 0; i < N_FAMILIES; i++) {
        for (const struct verb *v = families[i]; v->name != NULL; v++) {
            AUTO_FREE char *usage = xasprintf("%s %s", v->name, v->operands);

            buf_printf(text, "  %-34s %s\n", usage, v->summary);
        }
    }
    buf_append_str(text, "\nExit codes: 0 done · 2 bad usage · 255 a call failed.\n"
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

    for (const struct option *o = verb->options; o->name != NULL; o++)
        to[n++] = *o;
    for (size_t i = 0; i < N_GLOBAL; i++) {
        to[n] = global_options[i];
        to[n++].env = NULL;
    }
    to[n] = (struct option){NULL};
}

static int run_verb(const struct verb *verb, int argc, char **argv)
{
    struct option options[MAX_OPTIONS];
    struct status st = STATUS_INIT;
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
    int at;

    join_options(options, verb);
    for (int i = 1; i < argc; i++)
        cli.dashes = cli.dashes || strcmp(argv[i], "--") == 0;
    switch (options_parse(&program, argc, argv, &at, &st)) {
    case OPTIONS_DONE:
        return 0;
    case OPTIONS_ERROR:
        return cli_usage("%s", st.message);
    case OPTIONS_RUN:
        break;
    }
    if (!understand_output())
        return EXIT_USAGE;
    if (argc - at < verb->min_operands || argc - at > verb->max_operands)
        return cli_usage("usage: sandboxctl %s %s", verb->name, verb->operands);
    return verb->run(&cli, argc - at, argv + at);
}

int main(int argc, char **argv)
{
    AUTO(buf_deinit) struct buf help = BUF_INIT(1 << 16);
    struct status st = STATUS_INIT;
    struct program program = {
        .name = "sandboxctl",
        .summary = "Isolated sandboxes from the command line: make them, fill them, run commands "
                   "in them.",
        .usage = "[OPTIONS] VERB [ARGS]",
        .options = global_options,
        .more = main_help(&help),
    };
    int at;

    /* A reader that went away is an error of write(), and gRPC's own log is for its developers. */
    signal(SIGPIPE, SIG_IGN);
    setenv("GRPC_VERBOSITY", "NONE", 0);
    switch (options_parse(&program, argc, argv, &at, &st)) {
    case OPTIONS_DONE:
        return 0;
    case OPTIONS_ERROR:
        return cli_usage("%s", st.message);
    case OPTIONS_RUN:
        break;
    }
    if (at == argc) {
        options_print_help(&program, stderr);
        return EXIT_USAGE;
    }

    const struct verb *verb = find_verb(argv[at]);

    if (verb == NULL)
        return cli_usage("there is no verb %s; see sandboxctl --help", argv[at]);
    return run_verb(verb, argc - at, argv + at);
}
