/* The verbs about commands that run or ran: ps kill input. */
#include "client/cli/cli.h"

#include "common/base/buf.h"
#include "common/base/cleanup.h"

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

static int run_ps(struct cli *cli, int n, char **operands)
{
    Sandbox__V1__ListCommandsRequest request = SANDBOX__V1__LIST_COMMANDS_REQUEST__INIT;
    struct sandbox_client *client = cli_connect(cli, cli->addresses);
    int code;

    if (client == NULL)
        return EXIT_USAGE;
    request.sandbox_id = operands[0];
    code = n == 2 ? print_one(cli, client, operands) : print_pages(cli, client, &request);
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
} input;

static const struct option input_options[] = {
    {"eof", 0, NULL, OPTION_BOOL, &input.eof, NULL, "Closes the input after it."},
    {NULL},
};

static bool send_input(struct cli *cli, struct sandbox_client *client,
                       Sandbox__V1__SendInputRequest *request, const void *data, size_t len,
                       struct sandbox_error *err)
{
    request->input_case = SANDBOX__V1__SEND_INPUT_REQUEST__INPUT_DATA;
    request->data = (ProtobufCBinaryData){.data = (uint8_t *)data, .len = len};
    return sandbox_send_input(client, request, NULL, err);
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
    {"ps", "ID [CMDID]", "list the commands of a sandbox, oldest first", no_options, NULL, 1, 2,
     run_ps},
    {"kill", "ID CMDID", "send a signal to a command", kill_options, NULL, 2, 2, run_kill},
    {"input", "ID CMDID [TEXT|-]", "write to the standard input of a command (run --stdin)",
     input_options, NULL, 2, 3, run_input},
    {NULL},
};
