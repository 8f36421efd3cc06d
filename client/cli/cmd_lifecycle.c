/* The verbs that change how long a sandbox lives and whether it runs: timeout keep pause resume.
 * And purge. */
#include "client/cli/call.h"

#include <stdio.h>

static struct {
    int64_t lifetime_ms;
} timeout;

static const struct option timeout_options[] = {
    {"in", 0, NULL, OPTION_DURATION, &timeout.lifetime_ms, "TIME",
     "How long from now it ends, sooner or later than before: 30s, 10m, 1h. Needed.", 1,
     INT64_MAX / 2},
    {NULL},
};

CLI_METHOD(set_timeout, SetSandboxTimeout)

static bool print_end(const Google__Protobuf__Timestamp *end_time)
{
    char room[32];

    return printf("%s\n", cli_time(end_time, room)) > 0;
}

static bool print_timeout(const ProtobufCMessage *response)
{
    return print_end(((const Sandbox__V1__SetSandboxTimeoutResponse *)response)->end_time);
}

static int run_timeout(struct cli *cli, int n, char **operands)
{
    Sandbox__V1__SetSandboxTimeoutRequest request = SANDBOX__V1__SET_SANDBOX_TIMEOUT_REQUEST__INIT;
    Google__Protobuf__Duration duration;

    request.sandbox_id = operands[0];
    request.timeout = cli_duration(timeout.lifetime_ms, &duration);
    if (request.timeout == NULL)
        return cli_usage("say when it ends: --in=10m");
    return cli_call(cli, call_set_timeout, &request.base, print_timeout);
}

static struct {
    int64_t time_ms;
} keep, resume;

static const struct option keep_options[] = {
    {"for", 0, NULL, OPTION_DURATION, &keep.time_ms, "TIME",
     "It lives at least so long from now (10m); at most 1h.", 1, INT64_MAX / 2},
    {NULL},
};

CLI_METHOD(keep_alive, KeepAlive)

static bool print_kept(const ProtobufCMessage *response)
{
    return print_end(((const Sandbox__V1__KeepAliveResponse *)response)->end_time);
}

static int run_keep(struct cli *cli, int n, char **operands)
{
    Sandbox__V1__KeepAliveRequest request = SANDBOX__V1__KEEP_ALIVE_REQUEST__INIT;
    Google__Protobuf__Duration duration;

    request.sandbox_id = operands[0];
    request.timeout = cli_duration(keep.time_ms, &duration);
    return cli_call(cli, call_keep_alive, &request.base, print_kept);
}

static struct {
    bool files_only;
} pause_settings;

static const struct option pause_options[] = {
    {"files-only", 0, NULL, OPTION_BOOL, &pause_settings.files_only, NULL,
     "Keeps only the files: what runs is gone."},
    {NULL},
};

CLI_METHOD(pause, PauseSandbox)

static int run_pause(struct cli *cli, int n, char **operands)
{
    Sandbox__V1__PauseSandboxRequest request = SANDBOX__V1__PAUSE_SANDBOX_REQUEST__INIT;

    request.sandbox_id = operands[0];
    request.discard_memory = pause_settings.files_only;
    return cli_call(cli, call_pause, &request.base, NULL);
}

static const struct option resume_options[] = {
    {"for", 0, NULL, OPTION_DURATION, &resume.time_ms, "TIME",
     "It lives at least so long from now (10m).", 1, INT64_MAX / 2},
    {NULL},
};

CLI_METHOD(resume, ResumeSandbox)

static bool print_resumed(const ProtobufCMessage *response)
{
    const Sandbox__V1__Sandbox *s = ((const Sandbox__V1__ResumeSandboxResponse *)response)->sandbox;

    return s == NULL || print_end(s->end_time);
}

static int run_resume(struct cli *cli, int n, char **operands)
{
    Sandbox__V1__ResumeSandboxRequest request = SANDBOX__V1__RESUME_SANDBOX_REQUEST__INIT;
    Google__Protobuf__Duration duration;

    request.sandbox_id = operands[0];
    request.timeout = cli_duration(resume.time_ms, &duration);
    return cli_call(cli, call_resume, &request.base, print_resumed);
}

static struct {
    struct option_strings metadata;
    int64_t age_ms;
    bool all, dry_run;
} purge;

static const struct option purge_options[] = {
    {"metadata", 'm', NULL, OPTION_STRINGS, &purge.metadata, "KEY=VALUE",
     "Only sandboxes with this label. May be repeated."},
    {"older", 0, NULL, OPTION_DURATION, &purge.age_ms, "TIME",
     "Only sandboxes that were started at least so long ago.", 1, INT64_MAX / 2},
    {"all", 0, NULL, OPTION_BOOL, &purge.all, NULL, "All sandboxes, where nothing else is said."},
    {"dry-run", 0, NULL, OPTION_BOOL, &purge.dry_run, NULL, "Only prints what would be deleted."},
    {NULL},
};

/* Until there are no more; a call that deletes none though there are some has tried. */
static int purge_all(struct cli *cli, struct sandbox_client *client,
                     const Sandbox__V1__PurgeSandboxesRequest *request)
{
    for (;;) {
        Sandbox__V1__PurgeSandboxesResponse *response;
        struct sandbox_error err;
        bool again;

        if (!sandbox_purge(client, request, &response, &err))
            return cli_fail(cli, &err);
        if (cli->json)
            cli_print_json(&response->base);
        for (size_t i = 0; i < response->n_sandbox_ids && !cli->json; i++)
            printf("%s\n", response->sandbox_ids[i]);
        again = response->more && response->n_sandbox_ids > 0 && !request->dry_run;
        if (response->more && !again)
            cli_say(0, "there are more");
        sandbox_free(response);
        if (!again)
            return 0;
    }
}

static int run_purge(struct cli *cli, int n, char **operands)
{
    Sandbox__V1__PurgeSandboxesRequest request = SANDBOX__V1__PURGE_SANDBOXES_REQUEST__INIT;
    Google__Protobuf__Duration age = GOOGLE__PROTOBUF__DURATION__INIT;

    request.min_age = cli_duration(purge.age_ms, &age);
    if (request.min_age == NULL && purge.all)
        request.min_age = &age;
    if (request.min_age == NULL && purge.metadata.n == 0)
        return cli_usage("say which are meant: --metadata, --older or --all");
    if (!cli_map("metadata", &purge.metadata, &request.base, "metadata"))
        return EXIT_USAGE;
    request.dry_run = purge.dry_run;

    struct sandbox_client *client = cli_connect(cli, cli->addresses);
    int code = client != NULL ? purge_all(cli, client, &request) : EXIT_USAGE;

    sandbox_client_free(client);
    cli_map_free(&request.base, "metadata");
    return code;
}

const struct verb lifecycle_verbs[] = {
    {"timeout", "ID --in=TIME", "set when a sandbox ends", timeout_options, NULL, 1, 1,
     run_timeout},
    {"keep", "ID [--for=TIME]", "give a sandbox more time, never less", keep_options, NULL, 1, 1,
     run_keep},
    {"pause", "ID", "freeze a sandbox until it is resumed", pause_options, NULL, 1, 1, run_pause},
    {"resume", "ID", "wake a paused sandbox", resume_options, NULL, 1, 1, run_resume},
    {"purge", "", "end all sandboxes that fit, and print their ids", purge_options, NULL, 0, 0,
     run_purge},
    {NULL},
};
