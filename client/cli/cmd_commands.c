/* The verbs about commands that run or ran: ps wait kill input resize prune. */
#include "client/cli/cli.h"
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

static const struct option no_options[] = {{NULL}};

static void print_args(const Sandbox__V1__Command *c)
{
    /* A shell line is shown as it was given. */
    if (c->n_args == 4 && strcmp(c->args[0], "/bin/bash") == 0 && strcmp(c->args[2], "-c") == 0) {
        printf(" %s\n", c->args[3]);
        return;
    }
    for (size_t i = 0; i < c->n_args; i++)
        printf(" %s", c->args[i]);
    putchar('\n');
}

static void print_command(const struct cli *cli, const Sandbox__V1__Command *c)
{
    char state[32], start[32], code[16] = "-";

    if (cli->json) {
        cli_print_json(&c->base);
        return;
    }
    if (c->exited != NULL)
        snprintf(code, sizeof(code), "%d", c->exited->code);
    printf("%-32s %-9s %4s %7u %8llu %-20s", c->command_id,
           c->blocked
               ? "blocked"
               : cli_enum(&sandbox__v1__command__state__descriptor, c->state, "STATE_", state),
           code, c->pid, (unsigned long long)c->last_seq, cli_time(c->start_time, start));
    print_args(c);
}

static int print_pages(struct cli *cli, struct sandbox_client *client,
                       Sandbox__V1__ListCommandsRequest *request)
{
    AUTO_FREE char *token = NULL;
    struct sandbox_error err;

    if (!cli->json)
        printf("%-32s %-9s %4s %7s %8s %-20s %s\n", "COMMAND", "STATE", "EXIT", "PID", "EVENTS",
               "STARTED (UTC)", "ARGS");
    for (;;) {
        Sandbox__V1__ListCommandsResponse *response;

        if (!sandbox_list_commands(client, request, &response, &err))
            return cli_fail(cli, &err);
        for (size_t i = 0; i < response->n_commands; i++)
            print_command(cli, response->commands[i]);
        free(token);
        token = strdup(response->next_page_token);
        sandbox_free(response);
        if (token == NULL || *token == '\0')
            return 0;
        request->page_token = token;
    }
}

static int print_one(struct cli *cli, struct sandbox_client *client, char **operands)
{
    Sandbox__V1__GetCommandRequest request = SANDBOX__V1__GET_COMMAND_REQUEST__INIT;
    Sandbox__V1__GetCommandResponse *response;
    struct sandbox_error err;

    request.sandbox_id = operands[0];
    request.command_id = operands[1];
    if (!sandbox_get_command(client, &request, &response, &err))
        return cli_fail(cli, &err);
    if (response->command != NULL)
        print_command(cli, response->command);
    sandbox_free(response);
    return 0;
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
    static const char *const names[] = {"", "starting", "running", "exited", "closed"};

    for (size_t i = 0; i < ps.states.n; i++) {
        int state = 1;

        while (state < 5 && strcmp(names[state], ps.states.at[i]) != 0)
            state++;
        if (state == 5) {
            cli_usage("--state: %s is not starting, running, exited or closed", ps.states.at[i]);
            return false;
        }
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
    ProtobufCMessage **labels = NULL;
    struct sandbox_client *client;
    int code;

    if (!set_states(&request, states) ||
        !cli_map("label", &ps.labels, &sandbox__v1__list_commands_request__labels_entry__descriptor,
                 &request.n_labels, &labels))
        return EXIT_USAGE;
    client = cli_connect(cli, cli->addresses);
    request.sandbox_id = operands[0];
    request.labels = (Sandbox__V1__ListCommandsRequest__LabelsEntry **)labels;
    if (client == NULL)
        code = EXIT_USAGE;
    else
        code = n == 2 ? print_one(cli, client, operands) : print_pages(cli, client, &request);
    sandbox_client_free(client);
    cli_map_free(request.n_labels, labels);
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

static int run_resize(struct cli *cli, int n, char **operands)
{
    Sandbox__V1__ResizeTerminalRequest request = SANDBOX__V1__RESIZE_TERMINAL_REQUEST__INIT;
    Sandbox__V1__TerminalSize size;
    struct sandbox_client *client;
    struct sandbox_error err;
    int code = 0;

    if (!cli_terminal_size("COLSxROWS", operands[2], &size))
        return EXIT_USAGE;
    client = cli_connect(cli, cli->addresses);
    if (client == NULL)
        return EXIT_USAGE;
    request.sandbox_id = operands[0];
    request.command_id = operands[1];
    request.size = &size;
    if (!sandbox_resize_terminal(client, &request, NULL, &err))
        code = cli_fail(cli, &err);
    sandbox_client_free(client);
    return code;
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

static int run_prune(struct cli *cli, int n, char **operands)
{
    Sandbox__V1__PruneCommandsRequest request = SANDBOX__V1__PRUNE_COMMANDS_REQUEST__INIT;
    Sandbox__V1__Retention retention = SANDBOX__V1__RETENTION__INIT;
    Sandbox__V1__PruneCommandsResponse *response;
    Google__Protobuf__Duration age;
    struct sandbox_client *client = cli_connect(cli, cli->addresses);
    struct sandbox_error err;
    int code = 0;

    if (client == NULL)
        return EXIT_USAGE;
    request.sandbox_id = operands[0];
    request.set = prune.set;
    retention.max_commands = (uint32_t)prune.commands;
    retention.max_bytes = (uint64_t)prune.bytes;
    retention.max_age = cli_duration(prune.age_ms, &age);
    if (prune.set || prune.commands != 0 || prune.bytes != 0 || prune.age_ms != 0)
        request.retention = &retention;
    if (!sandbox_prune_commands(client, &request, &response, &err)) {
        code = cli_fail(cli, &err);
    } else {
        if (cli->json)
            cli_print_json(&response->base);
        else
            printf("%u commands, %llu bytes\n", response->removed,
                   (unsigned long long)response->freed_bytes);
        sandbox_free(response);
    }
    sandbox_client_free(client);
    return code;
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

static int run_kill(struct cli *cli, int n, char **operands)
{
    Sandbox__V1__SignalCommandRequest request = SANDBOX__V1__SIGNAL_COMMAND_REQUEST__INIT;
    struct sandbox_client *client;
    struct sandbox_error err;
    int code = 0;

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
    client = cli_connect(cli, cli->addresses);
    if (client == NULL)
        return EXIT_USAGE;
    if (!sandbox_signal_command(client, &request, NULL, &err))
        code = cli_fail(cli, &err);
    sandbox_client_free(client);
    return code;
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
    {"resize", "ID CMDID COLSxROWS", "change the size of a command's terminal", no_options, NULL, 3,
     3, run_resize},
    {"prune", "ID", "remove the output of closed commands, oldest first", prune_options,
     "Without limits: those that were set before.\n", 1, 1, run_prune},
    {NULL},
};
