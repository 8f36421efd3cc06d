/* The verbs about snapshots: snapshot snapshots unsnapshot. */
#include "client/cli/cli.h"

#include "common/base/cleanup.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct {
    const char *name;
} snapshot = {.name = ""};

static const struct option snapshot_options[] = {
    {"name", 0, NULL, OPTION_STRING, &snapshot.name, "NAME", "A name for it, beside its id."},
    {NULL},
};

static int run_snapshot(struct cli *cli, int n, char **operands)
{
    Sandbox__V1__CreateSnapshotRequest request = SANDBOX__V1__CREATE_SNAPSHOT_REQUEST__INIT;
    struct sandbox_client *client = cli_connect(cli, cli->addresses);
    Sandbox__V1__CreateSnapshotResponse *response;
    struct sandbox_error err;
    int code = 0;

    if (client == NULL)
        return EXIT_USAGE;
    request.sandbox_id = operands[0];
    request.name = (char *)snapshot.name;
    if (!sandbox_create_snapshot(client, &request, &response, &err))
        code = cli_fail(cli, &err);
    else if (cli->json)
        cli_print_json(&response->base);
    else
        printf("%s\n", response->snapshot != NULL ? response->snapshot->snapshot_id : "");
    sandbox_free(response);
    sandbox_client_free(client);
    return code;
}

static struct {
    const char *sandbox_id;
} listing = {.sandbox_id = ""};

static const struct option listing_options[] = {
    {"of", 0, NULL, OPTION_STRING, &listing.sandbox_id, "ID", "Only those of this sandbox."},
    {NULL},
};

static void print_one(const struct cli *cli, const Sandbox__V1__Snapshot *s)
{
    if (cli->json) {
        cli_print_json(&s->base);
        return;
    }
    printf("%s", s->snapshot_id);
    for (size_t i = 0; i < s->n_names; i++)
        printf(" %s", s->names[i]);
    putchar('\n');
}

static int print_all(struct cli *cli, struct sandbox_client *client)
{
    Sandbox__V1__ListSnapshotsRequest request = SANDBOX__V1__LIST_SNAPSHOTS_REQUEST__INIT;
    AUTO_FREE char *token = NULL;
    struct sandbox_error err;

    request.sandbox_id = (char *)listing.sandbox_id;
    for (;;) {
        Sandbox__V1__ListSnapshotsResponse *response;

        if (!sandbox_list_snapshots(client, &request, &response, &err))
            return cli_fail(cli, &err);
        for (size_t i = 0; i < response->n_snapshots; i++)
            print_one(cli, response->snapshots[i]);
        free(token);
        token = strdup(response->next_page_token);
        sandbox_free(response);
        if (token == NULL || *token == '\0')
            return 0;
        request.page_token = token;
    }
}

static int run_listing(struct cli *cli, int n, char **operands)
{
    struct sandbox_client *client = cli_connect(cli, cli->addresses);
    int code = client != NULL ? print_all(cli, client) : EXIT_USAGE;

    sandbox_client_free(client);
    return code;
}

static struct {
    bool force;
} removal;

static const struct option removal_options[] = {
    {"force", 'f', NULL, OPTION_BOOL, &removal.force, NULL,
     "Does not mind a snapshot that does not exist."},
    {NULL},
};

static int run_removal(struct cli *cli, int n, char **operands)
{
    struct sandbox_client *client = cli_connect(cli, cli->addresses);
    int code = 0;

    if (client == NULL)
        return EXIT_USAGE;
    for (int i = 0; i < n; i++) {
        Sandbox__V1__DeleteSnapshotRequest request = SANDBOX__V1__DELETE_SNAPSHOT_REQUEST__INIT;
        struct sandbox_error err;

        request.snapshot_id = operands[i];
        request.allow_missing = removal.force;
        if (!sandbox_delete_snapshot(client, &request, NULL, &err))
            code = cli_fail(cli, &err);
    }
    sandbox_client_free(client);
    return code;
}

const struct verb snapshot_verbs[] = {
    {"snapshot", "ID", "keep a sandbox as it is, to make others from", snapshot_options, NULL, 1, 1,
     run_snapshot},
    {"snapshots", "", "list snapshots, newest first", listing_options, NULL, 0, 0, run_listing},
    {"unsnapshot", "SNAPSHOT...", "remove snapshots", removal_options, NULL, 1, 1000, run_removal},
    {NULL},
};
