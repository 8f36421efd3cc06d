/* The verbs about sandboxes themselves: create ls rm url. */
#include "client/cli/cli.h"

#include "common/base/cleanup.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct {
    const char *template;
    int64_t timeout_ms;
    struct option_strings metadata, envs;
    const char *request_id, *reuse_key, *on_timeout;
    bool no_internet;
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
    {"no-internet", 0, NULL, OPTION_BOOL, &create.no_internet, NULL,
     "Cuts it off from the internet."},
    {NULL},
};

static bool on_timeout_of(const char *text, Sandbox__V1__OnTimeout *ret)
{
    if (strcmp(text, "delete") == 0)
        *ret = SANDBOX__V1__ON_TIMEOUT__ON_TIMEOUT_DELETE;
    else if (strcmp(text, "pause") == 0)
        *ret = SANDBOX__V1__ON_TIMEOUT__ON_TIMEOUT_PAUSE;
    else
        return cli_usage("--on-timeout: %s is not delete or pause", text), false;
    return true;
}

static int print_created(struct cli *cli, struct sandbox_client *client,
                         const Sandbox__V1__CreateSandboxRequest *request)
{
    Sandbox__V1__CreateSandboxResponse *response;
    struct sandbox_error err;
    int code = 0;

    if (!sandbox_create(client, request, &response, &err))
        return cli_fail(cli, &err);
    if (cli->json)
        cli_print_json(&response->base);
    else
        printf("%s\n", response->sandbox != NULL ? response->sandbox->sandbox_id : "");
    sandbox_free(response);
    return code;
}

static int run_create(struct cli *cli, int n, char **operands)
{
    Sandbox__V1__CreateSandboxRequest request = SANDBOX__V1__CREATE_SANDBOX_REQUEST__INIT;
    Google__Protobuf__Duration timeout;
    ProtobufCMessage **metadata = NULL, **envs = NULL;
    int code = EXIT_USAGE;

    request.template_ = (char *)create.template;
    request.timeout = cli_duration(create.timeout_ms, &timeout);
    request.request_id = (char *)create.request_id;
    request.reuse_key = (char *)create.reuse_key;
    request.deny_internet_access = create.no_internet;
    if (on_timeout_of(create.on_timeout, &request.on_timeout) &&
        cli_map("metadata", &create.metadata,
                &sandbox__v1__create_sandbox_request__metadata_entry__descriptor,
                &request.n_metadata, &metadata) &&
        cli_map("env", &create.envs, &sandbox__v1__create_sandbox_request__envs_entry__descriptor,
                &request.n_envs, &envs)) {
        struct sandbox_client *client = cli_connect(cli, cli->addresses);

        request.metadata = (Sandbox__V1__CreateSandboxRequest__MetadataEntry **)metadata;
        request.envs = (Sandbox__V1__CreateSandboxRequest__EnvsEntry **)envs;
        if (client != NULL)
            code = print_created(cli, client, &request);
        sandbox_client_free(client);
    }
    cli_map_free(request.n_metadata, metadata);
    cli_map_free(request.n_envs, envs);
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

static void print_sandbox(const struct cli *cli, const Sandbox__V1__Sandbox *s)
{
    char state[32], start[32], end[32];

    if (cli->json) {
        cli_print_json(&s->base);
        return;
    }
    printf("%-28s %-8s %-20s %-20s %-20s", s->sandbox_id,
           cli_enum(&sandbox__v1__sandbox__state__descriptor, s->state, "STATE_", state),
           s->template_, cli_time(s->start_time, start), cli_time(s->end_time, end));
    for (size_t i = 0; i < s->n_metadata; i++)
        printf(" %s=%s", s->metadata[i]->key, s->metadata[i]->value);
    putchar('\n');
}

static int print_pages(struct cli *cli, struct sandbox_client *client,
                       Sandbox__V1__ListSandboxesRequest *request)
{
    AUTO_FREE char *token = NULL;
    struct sandbox_error err;

    if (!cli->json)
        printf("%-28s %-8s %-20s %-20s %-20s %s\n", "ID", "STATE", "TEMPLATE", "STARTED (UTC)",
               "ENDS (UTC)", "LABELS");
    for (;;) {
        Sandbox__V1__ListSandboxesResponse *response;

        if (!sandbox_list(client, request, &response, &err))
            return cli_fail(cli, &err);
        for (size_t i = 0; i < response->n_sandboxes; i++)
            print_sandbox(cli, response->sandboxes[i]);
        free(token);
        token = strdup(response->next_page_token);
        sandbox_free(response);
        if (token == NULL || *token == '\0')
            return 0;
        request->page_token = token;
    }
}

static int run_ls(struct cli *cli, int n, char **operands)
{
    Sandbox__V1__ListSandboxesRequest request = SANDBOX__V1__LIST_SANDBOXES_REQUEST__INIT;
    ProtobufCMessage **metadata = NULL;

    if (!cli_map("metadata", &ls.metadata,
                 &sandbox__v1__list_sandboxes_request__metadata_entry__descriptor,
                 &request.n_metadata, &metadata))
        return EXIT_USAGE;
    request.metadata = (Sandbox__V1__ListSandboxesRequest__MetadataEntry **)metadata;

    struct sandbox_client *client = cli_connect(cli, cli->addresses);
    int code = client != NULL ? print_pages(cli, client, &request) : EXIT_USAGE;

    sandbox_client_free(client);
    cli_map_free(request.n_metadata, metadata);
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

static int run_rm(struct cli *cli, int n, char **operands)
{
    struct sandbox_client *client = cli_connect(cli, cli->addresses);
    int code = 0;

    if (client == NULL)
        return EXIT_USAGE;
    for (int i = 0; i < n; i++) {
        Sandbox__V1__DeleteSandboxRequest request = SANDBOX__V1__DELETE_SANDBOX_REQUEST__INIT;
        struct sandbox_error err;

        request.sandbox_id = operands[i];
        request.allow_missing = rm.force;
        if (!sandbox_delete(client, &request, NULL, &err))
            code = cli_fail(cli, &err);
    }
    sandbox_client_free(client);
    return code;
}

static const struct option no_options[] = {{NULL}};

static bool port_of(const char *text, uint32_t *ret)
{
    char *end;
    long port = strtol(text, &end, 10);

    *ret = (uint32_t)port;
    return *text != '\0' && *end == '\0' && port >= 1 && port <= 65535;
}

static int run_url(struct cli *cli, int n, char **operands)
{
    Sandbox__V1__GetSandboxUrlRequest request = SANDBOX__V1__GET_SANDBOX_URL_REQUEST__INIT;
    Sandbox__V1__GetSandboxUrlResponse *response;
    struct sandbox_client *client;
    struct sandbox_error err;
    int code = 0;

    request.sandbox_id = operands[0];
    if (!port_of(operands[1], &request.port))
        return cli_usage("%s is not a port, 1 to 65535", operands[1]);
    client = cli_connect(cli, cli->addresses);
    if (client == NULL)
        return EXIT_USAGE;
    if (!sandbox_get_url(client, &request, &response, &err)) {
        code = cli_fail(cli, &err);
    } else if (cli->json) {
        cli_print_json(&response->base);
    } else {
        printf("%s\n", response->url);
        for (size_t i = 0; i < response->n_headers; i++)
            fprintf(stderr, "needs header %s: %s\n", response->headers[i]->key,
                    response->headers[i]->value);
    }
    sandbox_free(response);
    sandbox_client_free(client);
    return code;
}

const struct verb sandbox_verbs[] = {
    {"create", "", "make a sandbox and print its id", create_options, NULL, 0, 0, run_create},
    {"ls", "", "list sandboxes, newest first", ls_options, NULL, 0, 0, run_ls},
    {"rm", "ID...", "end sandboxes and everything in them", rm_options, NULL, 1, 1000, run_rm},
    {"url", "ID PORT", "print where a port of a sandbox answers", no_options, NULL, 2, 2, run_url},
    {NULL},
};
