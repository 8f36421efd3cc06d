/* The verbs about commands that run or ran: ps wait kill input resize prune. */
#include "client/cli/call.h"
#include "client/cli/output.h"
#include "common/base/buf.h"
#include "common/base/cleanup.h"
#include "common/base/clock.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

static bool print_args(const Sandbox__V1__Command *c)
{
    /* A shell line is shown as it was given. */
    if (c->n_args == 4 && strcmp(c->args[0], "/bin/bash") == 0 && strcmp(c->args[2], "-c") == 0)
        return printf(" %s\n", c->args[3]) > 0;
    for (size_t i = 0; i < c->n_args; i++)
        printf(" %s", c->args[i]);
    return putchar('\n') != EOF;
}

static void print_commands_heading(void)
{
    printf("%-32s %-9s %4s %7s %8s %-20s %s\n", "COMMAND", "STATE", "EXIT", "PID", "EVENTS",
           "STARTED (UTC)", "ARGS");
}

static bool print_command(const ProtobufCMessage *item)
{
    const Sandbox__V1__Command *c = (const Sandbox__V1__Command *)item;
    char state[32], start[32], code[16] = "-";

    if (c->exited != NULL)
        snprintf(code, sizeof(code), "%d", c->exited->code);
    printf("%-32s %-9s %4s %7u %8llu %-20s", c->command_id,
           c->blocked
               ? "blocked"
               : cli_enum(&sandbox__v1__command__state__descriptor, c->state, "STATE_", state),
           code, c->pid, (unsigned long long)c->last_seq, cli_time(c->start_time, start));
    return print_args(c);
}

CLI_METHOD(list_commands, ListCommands)

static int list_commands(const struct cli *cli, Sandbox__V1__ListCommandsRequest *request)
{
    static const struct cli_list list = {.method = call_list_commands,
                                         .items = "commands",
                                         .heading = print_commands_heading,
                                         .print = print_command};

    return cli_call_list(cli, &list, &request->base);
}

/* The command alone, as a list shows it. */
static bool get_command(struct sandbox_client *client, const ProtobufCMessage *request,
                        ProtobufCMessage **ret, struct sandbox_error *err)
{
    Sandbox__V1__GetCommandResponse *response;
    bool ok = sandbox_get_command(client, (const Sandbox__V1__GetCommandRequest *)request,
                                  &response, err);

    *ret = NULL;
    if (ok && response->command != NULL) {
        *ret = &response->command->base;
        response->command = NULL;
    }
    sandbox_free(response);
    return ok;
}

static int show_command(const struct cli *cli, char **operands)
{
    Sandbox__V1__GetCommandRequest request = SANDBOX__V1__GET_COMMAND_REQUEST__INIT;

    request.sandbox_id = operands[0];
    request.command_id = operands[1];
    return cli_call(cli, get_command, &request.base, print_command);
}

static struct {
    struct option_strings states, labels;
} ps;

static const struct option ps_options[] = {
    {"state", 0, NULL, OPTION_STRINGS, &ps.states, "starting|running|exited|closed",
     "Only commands in this state. May be repeated."},
    {"label", 'l', NULL, OPTION_STRINGS, &ps.labels, "KEY=VALUE",
     "Only commands with this label. May be repeated."},
    {NULL},
};

static bool set_states(Sandbox__V1__ListCommandsRequest *request,
                       Sandbox__V1__Command__State *states)
{
    for (size_t i = 0; i < ps.states.n; i++) {
        int state;

        if (!cli_enum_of("--state", &sandbox__v1__command__state__descriptor, "STATE_",
                         ps.states.at[i], &state))
            return false;
        states[i] = (Sandbox__V1__Command__State)state;
    }
    request->states = states;
    request->n_states = ps.states.n;
    return true;
}

static int run_ps(struct cli *cli, int n, char **operands)
{
    Sandbox__V1__ListCommandsRequest request = SANDBOX__V1__LIST_COMMANDS_REQUEST__INIT;
    Sandbox__V1__Command__State states[OPTION_STRINGS_MAX];
    int code = EXIT_USAGE;

    request.sandbox_id = operands[0];
    if (set_states(&request, states) && cli_map("label", &ps.labels, &request.base, "labels"))
        code = n == 2 ? show_command(cli, operands) : list_commands(cli, &request);
    cli_map_free(&request.base, "labels");
    return code;
}

static struct {
    int64_t timeout_ms;
    bool until_closed;
} waiting;

static const struct option wait_options[] = {
    {"timeout", 't', NULL, OPTION_DURATION, &waiting.timeout_ms, "TIME",
     "How long to wait. No limit if not set."},
    {"until-closed", 0, NULL, OPTION_BOOL, &waiting.until_closed, NULL,
     "Also for background processes that hold its output."},
    {NULL},
};

/* Exits as the command did. */
static int wait_code(const struct cli *cli, const Sandbox__V1__Command *c)
{
    struct sandbox_result result = {.exited = true};

    if (c == NULL || c->exited == NULL)
        return cli_say(EXIT_LOST, "the server does not say how the command ended");
    result.reason = c->exited->reason;
    result.code = c->exited->code;
    snprintf(result.message, sizeof(result.message), "%s", c->exited->message);
    return output_exit_code(cli, &result);
}

/* In calls as long as one may be, until it is done or the time is over. */
static int wait_on(struct cli *cli, struct sandbox_client *client,
                   Sandbox__V1__WaitCommandRequest *request)
{
    int64_t until_ns = clock_monotonic_ns() + waiting.timeout_ms * NS_PER_MS;
    Google__Protobuf__Duration timeout;
    struct sandbox_error err;

    for (;;) {
        Sandbox__V1__WaitCommandResponse *response;
        int64_t left_ms = (until_ns - clock_monotonic_ns()) / NS_PER_MS + 1;
        bool done;
        int code = 0;

        request->timeout =
            waiting.timeout_ms != 0 ? cli_duration(left_ms > 1 ? left_ms : 1, &timeout) : NULL;
        if (!sandbox_wait_command(client, request, &response, &err))
            return cli_fail(cli, &err);
        done = response->done;
        if (done && response->command != NULL && cli->json)
            cli_print_json(&response->command->base);
        if (done)
            code = wait_code(cli, response->command);
        sandbox_free(response);
        if (done)
            return code;
        if (waiting.timeout_ms != 0 && left_ms <= 1)
            return cli_say(EXIT_TIMED_OUT, "the command still runs");
    }
}

static int run_wait(struct cli *cli, int n, char **operands)
{
    Sandbox__V1__WaitCommandRequest request = SANDBOX__V1__WAIT_COMMAND_REQUEST__INIT;
    struct sandbox_client *client = cli_connect(cli, cli->addresses);
    int code;

    if (client == NULL)
        return EXIT_USAGE;
    request.sandbox_id = operands[0];
    request.command_id = operands[1];
    if (waiting.until_closed)
        request.until = SANDBOX__V1__UNTIL__UNTIL_CLOSED;
    code = wait_on(cli, client, &request);
    sandbox_client_free(client);
    return code;
}

CLI_METHOD(resize_terminal, ResizeTerminal)

static int run_resize(struct cli *cli, int n, char **operands)
{
    Sandbox__V1__ResizeTerminalRequest request = SANDBOX__V1__RESIZE_TERMINAL_REQUEST__INIT;
    Sandbox__V1__TerminalSize size;

    if (!cli_terminal_size("COLSxROWS", operands[2], &size))
        return EXIT_USAGE;
    request.sandbox_id = operands[0];
    request.command_id = operands[1];
    request.size = &size;
    return cli_call_quietly(cli, call_resize_terminal, &request.base);
}

static struct {
    int64_t commands, bytes, age_ms;
    bool set;
} prune;

static const struct option prune_options[] = {
    {"max-commands", 0, NULL, OPTION_INT, &prune.commands, "N",
     "Keep the output of so many closed commands (1000)."},
    {"max-bytes", 0, NULL, OPTION_SIZE, &prune.bytes, "SIZE",
     "Keep so much of their output (1GiB)."},
    {"max-age", 0, NULL, OPTION_DURATION, &prune.age_ms, "TIME",
     "Keep none that closed longer ago. No limit if not set."},
    {"set", 0, NULL, OPTION_BOOL, &prune.set, NULL,
     "Keep to these limits from now on, whenever a command closes."},
    {NULL},
};

CLI_METHOD(prune_commands, PruneCommands)

static bool print_pruned(const ProtobufCMessage *response)
{
    const Sandbox__V1__PruneCommandsResponse *r =
        (const Sandbox__V1__PruneCommandsResponse *)response;

    return printf("%u commands, %llu bytes\n", r->removed, (unsigned long long)r->freed_bytes) > 0;
}

static int run_prune(struct cli *cli, int n, char **operands)
{
    Sandbox__V1__PruneCommandsRequest request = SANDBOX__V1__PRUNE_COMMANDS_REQUEST__INIT;
    Sandbox__V1__Retention retention = SANDBOX__V1__RETENTION__INIT;
    Google__Protobuf__Duration age;

    request.sandbox_id = operands[0];
    request.set = prune.set;
    retention.max_commands = (uint32_t)prune.commands;
    retention.max_bytes = (uint64_t)prune.bytes;
    retention.max_age = cli_duration(prune.age_ms, &age);
    if (prune.set || prune.commands != 0 || prune.bytes != 0 || prune.age_ms != 0)
        request.retention = &retention;
    return cli_call(cli, call_prune_commands, &request.base, print_pruned);
}

static struct {
    const char *signal;
    bool tree, process;
} kill_with = {.signal = "TERM"};

static const struct option kill_options[] = {
    {"signal", 's', NULL, OPTION_STRING, &kill_with.signal, "NAME|NUMBER",
     "Which: TERM (the default), KILL, INT, HUP, USR1, … or 1 to 64."},
    {"tree", 0, NULL, OPTION_BOOL, &kill_with.tree, NULL,
     "To every process that came from the command, not only its group."},
    {"process", 0, NULL, OPTION_BOOL, &kill_with.process, NULL,
     "To the command's own process alone."},
    {NULL},
};

static bool signal_of(const char *text, int32_t *ret)
{
    char *end;
    long number = strtol(text, &end, 10);

    if (*text != '\0' && *end == '\0') {
        *ret = (int32_t)number;
        return number >= 1 && number <= 64;
    }
    if (strncasecmp(text, "SIG", 3) == 0)
        text += 3;
    for (int i = 1; i < SIGRTMIN; i++) {
        const char *name = sigabbrev_np(i);

        if (name != NULL && strcasecmp(name, text) == 0) {
            *ret = i;
            return true;
        }
    }
    return false;
}

CLI_METHOD(signal_command, SignalCommand)

static int run_kill(struct cli *cli, int n, char **operands)
{
    Sandbox__V1__SignalCommandRequest request = SANDBOX__V1__SIGNAL_COMMAND_REQUEST__INIT;

    request.sandbox_id = operands[0];
    request.command_id = operands[1];
    if (!signal_of(kill_with.signal, &request.signal))
        return cli_usage("--signal: %s is no signal", kill_with.signal);
    if (kill_with.tree && kill_with.process)
        return cli_usage("--tree and --process exclude each other");
    if (kill_with.tree)
        request.target = SANDBOX__V1__SIGNAL_COMMAND_REQUEST__TARGET__TARGET_TREE;
    if (kill_with.process)
        request.target = SANDBOX__V1__SIGNAL_COMMAND_REQUEST__TARGET__TARGET_PROCESS;
    return cli_call_quietly(cli, call_signal_command, &request.base);
}

static struct {
    bool eof;
    int64_t offset;
} input = {.offset = -1};

static const struct option input_options[] = {
    {"eof", 0, NULL, OPTION_BOOL, &input.eof, NULL, "Closes the input after it."},
    {"offset", 0, NULL, OPTION_INT, &input.offset, "N",
     "How much input came before it: what the command took of it already is not written again."},
    {NULL},
};

static bool send_input(struct cli *cli, struct sandbox_client *client,
                       Sandbox__V1__SendInputRequest *request, const void *data, size_t len,
                       struct sandbox_error *err)
{
    request->input_case = SANDBOX__V1__SEND_INPUT_REQUEST__INPUT_DATA;
    request->data = (ProtobufCBinaryData){.data = (uint8_t *)data, .len = len};
    if (!sandbox_send_input(client, request, NULL, err))
        return false;
    request->offset += len; /* where one was given */
    return true;
}

/* Standard input, as it comes. */
static bool send_stdin(struct cli *cli, struct sandbox_client *client,
                       Sandbox__V1__SendInputRequest *request, struct sandbox_error *err)
{
    static uint8_t room[1 << 16];
    bool eof = request->eof;
    ssize_t n;

    request->eof = false;
    while ((n = read(STDIN_FILENO, room, sizeof(room))) != 0) {
        if (n < 0 && errno != EINTR)
            break;
        if (n > 0 && !send_input(cli, client, request, room, (size_t)n, err))
            return false;
    }
    request->eof = eof;
    return !eof || send_input(cli, client, request, NULL, 0, err);
}

static int run_input(struct cli *cli, int n, char **operands)
{
    Sandbox__V1__SendInputRequest request;
    struct sandbox_client *client;
    struct sandbox_error err;
    bool ok;

    sandbox__v1__send_input_request__init(&request);
    request.sandbox_id = operands[0];
    request.command_id = operands[1];
    request.eof = input.eof;
    if (input.offset >= 0) {
        request.position_case = SANDBOX__V1__SEND_INPUT_REQUEST__POSITION_OFFSET;
        request.offset = (uint64_t)input.offset;
    }
    if (n == 2 && !input.eof)
        return cli_usage("what shall be written? TEXT, - for standard input, or --eof");
    client = cli_connect(cli, cli->addresses);
    if (client == NULL)
        return EXIT_USAGE;
    if (n == 3 && strcmp(operands[2], "-") == 0)
        ok = send_stdin(cli, client, &request, &err);
    else
        ok = send_input(cli, client, &request, n == 3 ? operands[2] : "",
                        n == 3 ? strlen(operands[2]) : 0, &err);
    sandbox_client_free(client);
    return ok ? 0 : cli_fail(cli, &err);
}

const struct verb command_verbs[] = {
    {"ps", "ID [CMDID]", "list the commands of a sandbox, oldest first", ps_options, NULL, 1, 2,
     run_ps},
    {"wait", "ID CMDID", "wait for the end of a command, exit as it does", wait_options,
     "Exit code: as run has it; also 124 when --timeout passed and the command still runs.\n", 2, 2,
     run_wait},
    {"kill", "ID CMDID", "send a signal to a command", kill_options, NULL, 2, 2, run_kill},
    {"input", "ID CMDID [TEXT|-]", "write to the standard input of a command (run --stdin)",
     input_options, NULL, 2, 3, run_input},
    {"resize", "ID CMDID COLSxROWS", "change the size of a command's terminal", NULL, NULL, 3, 3,
     run_resize},
    {"prune", "ID", "remove the output of closed commands, oldest first", prune_options,
     "Without limits: those that were set before.\n", 1, 1, run_prune},
    {NULL},
};
