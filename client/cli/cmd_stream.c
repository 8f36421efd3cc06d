/* The verbs that follow a command: run logs. */
#include "client/cli/cli.h"
#include "client/cli/forward.h"
#include "client/cli/output.h"

#include <stdio.h>
#include <string.h>

static struct {
    const char *sandbox, *id, *cwd, *user, *overflow;
    struct option_strings envs;
    int64_t timeout_ms, max_journal;
    bool text, detach, stdin_open, kill, until_closed;
} run = {.sandbox = "", .id = "", .cwd = "", .user = "", .overflow = ""};

static const struct option run_options[] = {
    {"sandbox", 's', NULL, OPTION_STRING, &run.sandbox, "ID",
     "The sandbox, instead of the first operand."},
    {"id", 0, NULL, OPTION_STRING, &run.id, "CMDID",
     "The command's id: a run that repeats it attaches instead of starting another. Random if not "
     "set."},
    {"env", 'e', NULL, OPTION_STRINGS, &run.envs, "KEY=VALUE",
     "An environment variable. May be repeated."},
    {"cwd", 'w', NULL, OPTION_STRING, &run.cwd, "DIR", "Where it runs."},
    {"user", 'u', NULL, OPTION_STRING, &run.user, "NAME", "Who runs it."},
    {"timeout", 't', NULL, OPTION_DURATION, &run.timeout_ms, "TIME",
     "How long it may run: SIGTERM then, SIGKILL 5 s later. No limit if not set."},
    {"text", 0, NULL, OPTION_BOOL, &run.text, NULL,
     "Output as valid UTF-8: U+FFFD stands for what is not. With -o json, readable."},
    {"detach", 'd', NULL, OPTION_BOOL, &run.detach, NULL,
     "Prints the command's id and leaves when it has started. See logs."},
    {"stdin", 'i', NULL, OPTION_BOOL, &run.stdin_open, NULL,
     "Gives it a standard input that the verb input writes to."},
    {"kill-on-disconnect", 0, NULL, OPTION_BOOL, &run.kill, NULL,
     "The command is killed when this stream ends before it does."},
    {"until-closed", 0, NULL, OPTION_BOOL, &run.until_closed, NULL,
     "Also waits for background processes that hold its output."},
    {"overflow", 0, NULL, OPTION_STRING, &run.overflow, "keep-up|drop-oldest|block",
     "What happens when the record of its output is full (keep-up)."},
    {"max-journal", 0, NULL, OPTION_SIZE, &run.max_journal, "SIZE",
     "How much output is kept (64MiB)."},
    {NULL},
};

static bool overflow_of(const char *text, Sandbox__V1__Overflow *ret)
{
    static const struct {
        const char *name;
        Sandbox__V1__Overflow value;
    } names[] = {
        {"", SANDBOX__V1__OVERFLOW__OVERFLOW_UNSPECIFIED},
        {"keep-up", SANDBOX__V1__OVERFLOW__OVERFLOW_KEEP_UP},
        {"drop-oldest", SANDBOX__V1__OVERFLOW__OVERFLOW_DROP_OLDEST},
        {"block", SANDBOX__V1__OVERFLOW__OVERFLOW_BLOCK},
    };

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcmp(text, names[i].name) == 0) {
            *ret = names[i].value;
            return true;
        }
    }
    cli_usage("--overflow: %s is not keep-up, drop-oldest or block", text);
    return false;
}

/* One word is a line for the shell; several are a program and its arguments. */
static void set_command(Sandbox__V1__RunCommandRequest *request, Sandbox__V1__Argv *argv, int n,
                        char **words, bool is_argv)
{
    if (n == 1 && !is_argv) {
        request->command_case = SANDBOX__V1__RUN_COMMAND_REQUEST__COMMAND_SHELL;
        request->shell = words[0];
        return;
    }
    argv->args = words;
    argv->n_args = (size_t)n;
    request->command_case = SANDBOX__V1__RUN_COMMAND_REQUEST__COMMAND_ARGV;
    request->argv = argv;
}

static bool set_options(Sandbox__V1__RunCommandRequest *request,
                        Google__Protobuf__Duration *timeout)
{
    request->cwd = (char *)run.cwd;
    request->user = (char *)run.user;
    request->timeout = cli_duration(run.timeout_ms, timeout);
    request->stdin = run.stdin_open;
    request->max_journal_bytes = (uint64_t)run.max_journal;
    if (run.text)
        request->encoding = SANDBOX__V1__ENCODING__ENCODING_TEXT;
    if (run.kill)
        request->on_disconnect = SANDBOX__V1__ON_DISCONNECT__ON_DISCONNECT_KILL;
    if (run.until_closed)
        request->until = SANDBOX__V1__UNTIL__UNTIL_CLOSED;
    return overflow_of(run.overflow, &request->overflow);
}

static int finish_run(const struct cli *cli, const struct output *output,
                      const struct sandbox_result *result, bool ok, bool wants_out,
                      const struct sandbox_error *err)
{
    if (wants_out) {
        fprintf(stderr,
                "sandboxctl: left; the command goes on: sandboxctl logs -f --from=%llu ID %s\n",
                (unsigned long long)result->last_seq + 1, output->command_id);
        return 130;
    }
    if (!ok)
        return cli_fail(cli, err);
    if (output->write_errno != 0)
        return cli_say(EXIT_LOCAL, "cannot write the output: %s; the command %s goes on",
                       strerror(output->write_errno), output->command_id);
    if (result->stopped) {
        if (!cli->json)
            printf("%s\n", output->command_id);
        return 0;
    }
    return output_exit_code(cli, result);
}

static int follow_run(struct cli *cli, struct sandbox_client *client,
                      Sandbox__V1__RunCommandRequest *request)
{
    struct output output = {.cli = cli, .leave_started = run.detach};
    struct forward *forward = forward_start(client, request->sandbox_id, request->command_id);
    struct sandbox_handlers handlers = output_handlers(&output);
    struct sandbox_result result;
    struct sandbox_error err;

    output.on_started = forward_started;
    output.arg = forward;

    bool ok = sandbox_run(client, request, &handlers, &result, &err);
    bool wants_out = forward_stop(forward);

    return finish_run(cli, &output, &result, ok, wants_out && !ok, &err);
}

static int run_run(struct cli *cli, int n, char **operands)
{
    Sandbox__V1__RunCommandRequest request = SANDBOX__V1__RUN_COMMAND_REQUEST__INIT;
    Sandbox__V1__Argv argv = SANDBOX__V1__ARGV__INIT;
    Google__Protobuf__Duration timeout;
    ProtobufCMessage **envs = NULL;
    char id[SANDBOX_ID_SIZE];
    int code = EXIT_USAGE;

    request.sandbox_id = (char *)run.sandbox;
    if (run.sandbox[0] == '\0') {
        request.sandbox_id = operands[0];
        operands++;
        n--;
    }
    if (n < 1)
        return cli_usage("what shall run? sandboxctl run ID 'SHELL LINE', or ID -- PROGRAM ARGS…");
    request.command_id = (char *)run.id;
    if (run.id[0] == '\0') {
        sandbox_make_id(id);
        request.command_id = id;
    }
    set_command(&request, &argv, n, operands, cli->dashes);
    if (set_options(&request, &timeout) &&
        cli_map("env", &run.envs, &sandbox__v1__run_command_request__envs_entry__descriptor,
                &request.n_envs, &envs)) {
        request.envs = (Sandbox__V1__RunCommandRequest__EnvsEntry **)envs;
        forward_block();

        struct sandbox_client *client = cli_connect(cli, cli->addresses);

        if (client != NULL)
            code = follow_run(cli, client, &request);
        sandbox_client_free(client);
    }
    cli_map_free(request.n_envs, envs);
    return code;
}

static struct {
    int64_t from;
    bool follow, text, until_closed;
} logs;

static const struct option logs_options[] = {
    {"from", 0, NULL, OPTION_INT, &logs.from, "SEQ",
     "The first event (1). Where a stream broke, the message says which is next."},
    {"follow", 'f', NULL, OPTION_BOOL, &logs.follow, NULL,
     "Goes on with what is still to come, until the command exits."},
    {"text", 0, NULL, OPTION_BOOL, &logs.text, NULL,
     "Output as valid UTF-8: U+FFFD stands for what is not. With -o json, readable."},
    {"until-closed", 0, NULL, OPTION_BOOL, &logs.until_closed, NULL,
     "With -f: also waits for background processes that hold its output."},
    {NULL},
};

static int run_logs(struct cli *cli, int n, char **operands)
{
    Sandbox__V1__LogsRequest request = SANDBOX__V1__LOGS_REQUEST__INIT;
    struct sandbox_client *client = cli_connect(cli, cli->addresses);
    struct output output = {.cli = cli};
    struct sandbox_handlers handlers = output_handlers(&output);
    struct sandbox_error err;
    int code = 0;

    if (client == NULL)
        return EXIT_USAGE;
    request.sandbox_id = operands[0];
    request.command_id = operands[1];
    request.from_seq = (uint64_t)logs.from;
    request.follow = logs.follow;
    if (logs.text)
        request.encoding = SANDBOX__V1__ENCODING__ENCODING_TEXT;
    if (logs.until_closed)
        request.until = SANDBOX__V1__UNTIL__UNTIL_CLOSED;
    if (!sandbox_logs(client, &request, false, &handlers, NULL, &err))
        code = cli_fail(cli, &err);
    else if (output.write_errno != 0)
        code = cli_say(EXIT_LOCAL, "cannot write the output: %s", strerror(output.write_errno));
    sandbox_client_free(client);
    return code;
}

const struct verb stream_verbs[] = {
    {"run", "ID 'LINE' | ID -- PROGRAM [ARG...]",
     "run a command, print its output, exit as it does", run_options,
     "A single word is a line for the shell in the sandbox; after -- come a program and its\n"
     "arguments, which no shell looks at. SIGINT (Ctrl-C), SIGTERM, SIGHUP and SIGQUIT are sent "
     "on\nto the command; the third within two seconds leaves at once and lets it go on.\n\n"
     "Exit code: the command's own · 128 + signal · 126 or 127 it could not be started · 124 its\n"
     "timeout passed · 254 it is lost · 255 a call failed · 2 bad usage.\n",
     1, 1000000, run_run},
    {"logs", "ID CMDID", "print what a command printed, during and after its run", logs_options,
     "Exits with 0 however the command ended; see ps, or -o json.\n", 2, 2, run_logs},
    {NULL},
};
