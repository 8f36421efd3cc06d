/* The verbs that follow a command: run logs. */
#include "client/cli/cli.h"
#include "client/cli/forward.h"
#include "client/cli/output.h"

#include <stdio.h>
#include <string.h>

static struct {
    const char *sandbox, *id, *cwd, *user, *overflow;
    const char *tty;
    struct option_strings envs, labels;
    int64_t timeout_ms, max_journal, idle_ms, grace_ms;
    int64_t memory, cpu_ms, files, processes, file_size;
    bool text, detach, stdin_open, kill, until_closed;
} run = {.sandbox = "", .id = "", .cwd = "", .user = ""};

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
    {"tty", 0, NULL, OPTION_STRING, &run.tty, "COLSxROWS",
     "Gives it a terminal of this size instead of pipes; see attach and resize."},
    {"label", 'l', NULL, OPTION_STRINGS, &run.labels, "KEY=VALUE",
     "A label to find it by (ps --label). May be repeated."},
    {"idle-timeout", 0, NULL, OPTION_DURATION, &run.idle_ms, "TIME",
     "Ends it when it printed nothing for so long."},
    {"kill-grace", 0, NULL, OPTION_DURATION, &run.grace_ms, "TIME",
     "From SIGTERM to SIGKILL when a timeout passed (5s)."},
    {"limit-memory", 0, NULL, OPTION_SIZE, &run.memory, "SIZE",
     "Address space of each of its processes."},
    {"limit-cpu", 0, NULL, OPTION_DURATION, &run.cpu_ms, "TIME",
     "Processor time of each of its processes."},
    {"limit-files", 0, NULL, OPTION_INT, &run.files, "N", "Open files of each of its processes."},
    {"limit-processes", 0, NULL, OPTION_INT, &run.processes, "N",
     "Processes of its user in the sandbox."},
    {"limit-file-size", 0, NULL, OPTION_SIZE, &run.file_size, "SIZE",
     "The largest file that it may write."},
    {NULL},
};

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

/* What the request points to beside its strings. */
struct run_parts {
    Sandbox__V1__Argv argv;
    Google__Protobuf__Duration timeout, idle, grace, cpu;
    Sandbox__V1__TerminalSize size;
    Sandbox__V1__ResourceLimits limits;
};

static void set_limits(Sandbox__V1__RunCommandRequest *request, struct run_parts *parts)
{
    Sandbox__V1__ResourceLimits *l = &parts->limits;

    sandbox__v1__resource_limits__init(l);
    l->memory_bytes = (uint64_t)run.memory;
    l->cpu_time = cli_duration(run.cpu_ms, &parts->cpu);
    l->open_files = (uint64_t)run.files;
    l->processes = (uint64_t)run.processes;
    l->file_size_bytes = (uint64_t)run.file_size;
    if (l->memory_bytes + l->open_files + l->processes + l->file_size_bytes > 0 ||
        l->cpu_time != NULL)
        request->limits = l;
}

static bool set_options(Sandbox__V1__RunCommandRequest *request, struct run_parts *parts)
{
    int overflow = SANDBOX__V1__OVERFLOW__OVERFLOW_UNSPECIFIED;

    if (run.tty != NULL) {
        if (!cli_terminal_size("--tty", run.tty, &parts->size))
            return false;
        request->pty = &parts->size;
    }
    set_limits(request, parts);
    request->idle_timeout = cli_duration(run.idle_ms, &parts->idle);
    request->kill_grace = cli_duration(run.grace_ms, &parts->grace);
    request->cwd = (char *)run.cwd;
    request->user = (char *)run.user;
    request->timeout = cli_duration(run.timeout_ms, &parts->timeout);
    request->stdin = run.stdin_open;
    request->max_journal_bytes = (uint64_t)run.max_journal;
    if (run.text)
        request->encoding = SANDBOX__V1__ENCODING__ENCODING_TEXT;
    if (run.kill)
        request->on_disconnect = SANDBOX__V1__ON_DISCONNECT__ON_DISCONNECT_KILL;
    if (run.until_closed)
        request->until = SANDBOX__V1__UNTIL__UNTIL_CLOSED;
    if (run.overflow != NULL && !cli_enum_of("--overflow", &sandbox__v1__overflow__descriptor,
                                             "OVERFLOW_", run.overflow, &overflow))
        return false;
    request->overflow = (Sandbox__V1__Overflow)overflow;
    return true;
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
    struct run_parts parts = {.argv = SANDBOX__V1__ARGV__INIT};
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
    set_command(&request, &parts.argv, n, operands, cli->dashes);
    if (set_options(&request, &parts) && cli_map("label", &run.labels, &request.base, "labels") &&
        cli_map("env", &run.envs, &request.base, "envs")) {
        forward_block();

        struct sandbox_client *client = cli_connect(cli, cli->addresses);

        if (client != NULL)
            code = follow_run(cli, client, &request);
        sandbox_client_free(client);
    }
    cli_map_free(&request.base, "envs");
    cli_map_free(&request.base, "labels");
    return code;
}

static struct {
    const char *since, *before;
    struct option_strings streams;
    int64_t from, tail, tail_bytes, tail_events, limit_bytes;
    bool follow, text, until_closed, lines, platform;
} logs = {.tail = -1, .tail_bytes = -1, .tail_events = -1};

static const struct option logs_options[] = {
    {"from", 0, NULL, OPTION_INT, &logs.from, "SEQ",
     "The first event (1). Where a stream broke, the message says which is next."},
    {"follow", 'f', NULL, OPTION_BOOL, &logs.follow, NULL,
     "Goes on with what is still to come, until the command exits."},
    {"tail", 'n', NULL, OPTION_INT, &logs.tail, "LINES", "Only so many lines at the end."},
    {"tail-bytes", 0, NULL, OPTION_INT, &logs.tail_bytes, "N", "Only so many bytes at the end."},
    {"tail-events", 0, NULL, OPTION_INT, &logs.tail_events, "N", "Only so many events at the end."},
    {"since", 0, NULL, OPTION_STRING, &logs.since, "TIME",
     "Only what was printed at this time (2026-01-31T12:00:00Z, or 10m for ten minutes ago) or "
     "later."},
    {"before", 0, NULL, OPTION_STRING, &logs.before, "TIME", "Only what was printed before it."},
    {"stream", 0, NULL, OPTION_STRINGS, &logs.streams, "stdout|stderr|terminal",
     "Only output of this stream. May be repeated."},
    {"limit-bytes", 0, NULL, OPTION_SIZE, &logs.limit_bytes, "SIZE",
     "Ends when so much output was printed."},
    {"lines", 0, NULL, OPTION_BOOL, &logs.lines, NULL,
     "Output in whole lines: those of two streams do not mix."},
    {"platform", 0, NULL, OPTION_BOOL, &logs.platform, NULL,
     "The platform's own log of the sandbox instead of its commands'."},
    {"text", 0, NULL, OPTION_BOOL, &logs.text, NULL,
     "Output as valid UTF-8: U+FFFD stands for what is not. With -o json, readable."},
    {"until-closed", 0, NULL, OPTION_BOOL, &logs.until_closed, NULL,
     "With -f: also waits for background processes that hold its output."},
    {NULL},
};

struct logs_parts {
    Sandbox__V1__Tail tail;
    Google__Protobuf__Timestamp since, before;
    Sandbox__V1__Stream streams[OPTION_STRINGS_MAX];
};

static void set_tail(Sandbox__V1__LogsRequest *request, Sandbox__V1__Tail *tail)
{
    sandbox__v1__tail__init(tail);
    if (logs.tail >= 0) {
        tail->amount_case = SANDBOX__V1__TAIL__AMOUNT_LINES;
        tail->lines = (uint64_t)logs.tail;
    } else if (logs.tail_bytes >= 0) {
        tail->amount_case = SANDBOX__V1__TAIL__AMOUNT_BYTES;
        tail->bytes = (uint64_t)logs.tail_bytes;
    } else if (logs.tail_events >= 0) {
        tail->amount_case = SANDBOX__V1__TAIL__AMOUNT_EVENTS;
        tail->events = (uint64_t)logs.tail_events;
    } else {
        return;
    }
    request->tail = tail;
}

static bool set_streams(Sandbox__V1__LogsRequest *request, Sandbox__V1__Stream *streams)
{
    for (size_t i = 0; i < logs.streams.n; i++) {
        int stream;

        if (!cli_enum_of("--stream", &sandbox__v1__stream__descriptor, "STREAM_",
                         logs.streams.at[i], &stream))
            return false;
        streams[i] = (Sandbox__V1__Stream)stream;
    }
    request->streams = streams;
    request->n_streams = logs.streams.n;
    return true;
}

static bool set_logs(Sandbox__V1__LogsRequest *request, struct logs_parts *parts)
{
    request->from_seq = (uint64_t)logs.from;
    request->follow = logs.follow;
    request->limit_bytes = (uint64_t)logs.limit_bytes;
    request->whole_lines = logs.lines;
    set_tail(request, &parts->tail);
    if (logs.text)
        request->encoding = SANDBOX__V1__ENCODING__ENCODING_TEXT;
    if (logs.until_closed)
        request->until = SANDBOX__V1__UNTIL__UNTIL_CLOSED;
    if (logs.platform)
        request->source = SANDBOX__V1__SOURCE__SOURCE_SANDBOX;
    return cli_when("--since", logs.since, &parts->since, &request->since) &&
           cli_when("--before", logs.before, &parts->before, &request->before) &&
           set_streams(request, parts->streams);
}

static int run_logs(struct cli *cli, int n, char **operands)
{
    Sandbox__V1__LogsRequest request = SANDBOX__V1__LOGS_REQUEST__INIT;
    static struct logs_parts parts;
    struct output output = {.cli = cli, .headers = n == 1 && !logs.platform};
    struct sandbox_handlers handlers = output_handlers(&output);
    struct sandbox_client *client;
    struct sandbox_error err;
    int code = 0;

    if (!set_logs(&request, &parts))
        return EXIT_USAGE;
    client = cli_connect(cli, cli->addresses);
    if (client == NULL)
        return EXIT_USAGE;
    request.sandbox_id = operands[0];
    if (n == 2)
        request.command_id = operands[1];
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
    {"logs", "ID [CMDID]", "print what a command printed, during and after its run", logs_options,
     "Without CMDID: what all commands of the sandbox printed, merged by time, under a headline "
     "for\n"
     "each. Exits with 0 however a command ended; see ps and wait, or -o json.\n",
     1, 2, run_logs},
    {NULL},
};
