/* The verbs about sandboxes themselves: create ls rm url. */
#include "client/cli/call.h"

#include <stdio.h>
#include <stdlib.h>

static struct {
    const char *template;
    int64_t timeout_ms;
    struct option_strings metadata, envs;
    const char *request_id, *reuse_key, *on_timeout;
    bool no_internet, auto_resume;
    int64_t idle_timeout_ms;
} create = {.template = "", .request_id = "", .reuse_key = "", .on_timeout = "delete"};

static const struct option create_options[] = {
    {"template", 't', NULL, OPTION_STRING, &create.template, "NAME",
     "What it is made from. The server's default if not set."},
    {"timeout", 0, NULL, OPTION_DURATION, &create.timeout_ms, "TIME", "How long it lives (10m)."},
    {"metadata", 'm', NULL, OPTION_STRINGS, &create.metadata, "KEY=VALUE",
     "A label to find it by. May be repeated."},
    {"env", 'e', NULL, OPTION_STRINGS, &create.envs, "KEY=VALUE",
     "An environment variable of every command in it. May be repeated."},
    {"request-id", 0, NULL, OPTION_STRING, &create.request_id, "ID",
     "Two creates with one id make one sandbox."},
    {"reuse-key", 0, NULL, OPTION_STRING, &create.reuse_key, "KEY",
     "Returns the living sandbox with this key, if there is one."},
    {"on-timeout", 0, NULL, OPTION_STRING, &create.on_timeout, "delete|pause",
     "What happens at the end of its time (delete)."},
    {"auto-resume", 0, NULL, OPTION_BOOL, &create.auto_resume, NULL,
     "Once it is paused, using it wakes it."},
    {"idle-timeout", 0, NULL, OPTION_DURATION, &create.idle_timeout_ms, "TIME",
     "It ends when it is not used for so long."},
    {"no-internet", 0, NULL, OPTION_BOOL, &create.no_internet, NULL,
     "Cuts it off from the internet."},
    {NULL},
};

CLI_METHOD(create, CreateSandbox)

static bool print_created(const ProtobufCMessage *response)
{
    const Sandbox__V1__Sandbox *made =
        ((const Sandbox__V1__CreateSandboxResponse *)response)->sandbox;

    return printf("%s\n", made != NULL ? made->sandbox_id : "") > 0;
}

static int run_create(struct cli *cli, int n, char **operands)
{
    Sandbox__V1__CreateSandboxRequest request = SANDBOX__V1__CREATE_SANDBOX_REQUEST__INIT;
    Google__Protobuf__Duration timeout, idle_timeout;
    int code = EXIT_USAGE, on_timeout;

    if (!cli_enum_of("--on-timeout", &sandbox__v1__on_timeout__descriptor, "ON_TIMEOUT_",
                     create.on_timeout, &on_timeout))
        return EXIT_USAGE;
    request.template_ = (char *)create.template;
    request.timeout = cli_duration(create.timeout_ms, &timeout);
    request.request_id = (char *)create.request_id;
    request.reuse_key = (char *)create.reuse_key;
    request.deny_internet_access = create.no_internet;
    request.auto_resume = create.auto_resume;
    request.idle_timeout = cli_duration(create.idle_timeout_ms, &idle_timeout);
    request.on_timeout = (Sandbox__V1__OnTimeout)on_timeout;
    if (cli_map("metadata", &create.metadata, &request.base, "metadata") &&
        cli_map("env", &create.envs, &request.base, "envs"))
        code = cli_call(cli, call_create, &request.base, print_created);
    cli_map_free(&request.base, "metadata");
    cli_map_free(&request.base, "envs");
    return code;
}

static struct {
    struct option_strings metadata;
} ls;

static const struct option ls_options[] = {
    {"metadata", 'm', NULL, OPTION_STRINGS, &ls.metadata, "KEY=VALUE",
     "Only sandboxes with this label. May be repeated."},
    {NULL},
};

CLI_METHOD(list, ListSandboxes)

static void print_sandboxes_heading(void)
{
    printf("%-28s %-8s %-20s %-20s %-20s %s\n", "ID", "STATE", "TEMPLATE", "STARTED (UTC)",
           "ENDS (UTC)", "LABELS");
}

static bool print_sandbox(const ProtobufCMessage *item)
{
    const Sandbox__V1__Sandbox *s = (const Sandbox__V1__Sandbox *)item;
    char state[32], start[32], end[32];

    printf("%-28s %-8s %-20s %-20s %-20s", s->sandbox_id,
           cli_enum(&sandbox__v1__sandbox__state__descriptor, s->state, "STATE_", state),
           s->template_, cli_time(s->start_time, start), cli_time(s->end_time, end));
    for (size_t i = 0; i < s->n_metadata; i++)
        printf(" %s=%s", s->metadata[i]->key, s->metadata[i]->value);
    return putchar('\n') != EOF;
}

static int run_ls(struct cli *cli, int n, char **operands)
{
    static const struct cli_list list = {.method = call_list,
                                         .items = "sandboxes",
                                         .heading = print_sandboxes_heading,
                                         .print = print_sandbox};
    Sandbox__V1__ListSandboxesRequest request = SANDBOX__V1__LIST_SANDBOXES_REQUEST__INIT;
    int code = EXIT_USAGE;

    if (cli_map("metadata", &ls.metadata, &request.base, "metadata"))
        code = cli_call_list(cli, &list, &request.base);
    cli_map_free(&request.base, "metadata");
    return code;
}

static struct {
    bool force;
} rm;

static const struct option rm_options[] = {
    {"force", 'f', NULL, OPTION_BOOL, &rm.force, NULL,
     "Does not mind a sandbox that does not exist."},
    {NULL},
};

CLI_METHOD(delete, DeleteSandbox)

static int run_rm(struct cli *cli, int n, char **operands)
{
    Sandbox__V1__DeleteSandboxRequest request = SANDBOX__V1__DELETE_SANDBOX_REQUEST__INIT;

    request.allow_missing = rm.force;
    return cli_call_each(cli, call_delete, &request.base, &request.sandbox_id, n, operands);
}

static bool port_of(const char *text, uint32_t *ret)
{
    char *end;
    long port = strtol(text, &end, 10);

    *ret = (uint32_t)port;
    return *text != '\0' && *end == '\0' && port >= 1 && port <= 65535;
}

CLI_METHOD(get_url, GetSandboxUrl)

static bool print_url(const ProtobufCMessage *response)
{
    const Sandbox__V1__GetSandboxUrlResponse *r =
        (const Sandbox__V1__GetSandboxUrlResponse *)response;

    for (size_t i = 0; i < r->n_headers; i++)
        fprintf(stderr, "needs header %s: %s\n", r->headers[i]->key, r->headers[i]->value);
    return printf("%s\n", r->url) > 0;
}

static int run_url(struct cli *cli, int n, char **operands)
{
    Sandbox__V1__GetSandboxUrlRequest request = SANDBOX__V1__GET_SANDBOX_URL_REQUEST__INIT;

    request.sandbox_id = operands[0];
    if (!port_of(operands[1], &request.port))
        return cli_usage("%s is not a port, 1 to 65535", operands[1]);
    return cli_call(cli, call_get_url, &request.base, print_url);
}

const struct verb sandbox_verbs[] = {
    {"create", "", "make a sandbox and print its id", create_options, NULL, 0, 0, run_create},
    {"ls", "", "list sandboxes, newest first", ls_options, NULL, 0, 0, run_ls},
    {"rm", "ID...", "end sandboxes and everything in them", rm_options, NULL, 1, 1000, run_rm},
    {"url", "ID PORT", "print where a port of a sandbox answers", NULL, NULL, 2, 2, run_url},
    {NULL},
};
