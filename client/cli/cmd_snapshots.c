/* The verbs about snapshots: snapshot snapshots unsnapshot. */
#include "client/cli/call.h"

#include <stdio.h>

static struct {
    const char *name;
} snapshot = {.name = ""};

static const struct option snapshot_options[] = {
    {"name", 0, NULL, OPTION_STRING, &snapshot.name, "NAME", "A name for it, beside its id."},
    {NULL},
};

CLI_METHOD(create_snapshot, CreateSnapshot)

static bool print_made(const ProtobufCMessage *response)
{
    const Sandbox__V1__Snapshot *made =
        ((const Sandbox__V1__CreateSnapshotResponse *)response)->snapshot;

    return printf("%s\n", made != NULL ? made->snapshot_id : "") > 0;
}

static int run_snapshot(struct cli *cli, int n, char **operands)
{
    Sandbox__V1__CreateSnapshotRequest request = SANDBOX__V1__CREATE_SNAPSHOT_REQUEST__INIT;

    request.sandbox_id = operands[0];
    request.name = (char *)snapshot.name;
    return cli_call(cli, call_create_snapshot, &request.base, print_made);
}

static struct {
    const char *sandbox_id;
} listing = {.sandbox_id = ""};

static const struct option listing_options[] = {
    {"of", 0, NULL, OPTION_STRING, &listing.sandbox_id, "ID", "Only those of this sandbox."},
    {NULL},
};

CLI_METHOD(list_snapshots, ListSnapshots)

static bool print_snapshot(const ProtobufCMessage *item)
{
    const Sandbox__V1__Snapshot *s = (const Sandbox__V1__Snapshot *)item;

    printf("%s", s->snapshot_id);
    for (size_t i = 0; i < s->n_names; i++)
        printf(" %s", s->names[i]);
    return putchar('\n') != EOF;
}

static int run_listing(struct cli *cli, int n, char **operands)
{
    static const struct cli_list list = {
        .method = call_list_snapshots, .items = "snapshots", .print = print_snapshot};
    Sandbox__V1__ListSnapshotsRequest request = SANDBOX__V1__LIST_SNAPSHOTS_REQUEST__INIT;

    request.sandbox_id = (char *)listing.sandbox_id;
    return cli_call_list(cli, &list, &request.base);
}

static struct {
    bool force;
} removal;

static const struct option removal_options[] = {
    {"force", 'f', NULL, OPTION_BOOL, &removal.force, NULL,
     "Does not mind a snapshot that does not exist."},
    {NULL},
};

CLI_METHOD(delete_snapshot, DeleteSnapshot)

static int run_removal(struct cli *cli, int n, char **operands)
{
    Sandbox__V1__DeleteSnapshotRequest request = SANDBOX__V1__DELETE_SNAPSHOT_REQUEST__INIT;

    request.allow_missing = removal.force;
    return cli_call_each(cli, call_delete_snapshot, &request.base, &request.snapshot_id, n,
                         operands);
}

const struct verb snapshot_verbs[] = {
    {"snapshot", "ID", "keep a sandbox as it is, to make others from", snapshot_options, NULL, 1, 1,
     run_snapshot},
    {"snapshots", "", "list snapshots, newest first", listing_options, NULL, 0, 0, run_listing},
    {"unsnapshot", "SNAPSHOT...", "remove snapshots", removal_options, NULL, 1, 1000, run_removal},
    {NULL},
};
