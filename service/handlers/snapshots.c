/* CreateSnapshot, ListSnapshots, DeleteSnapshot. On the call's worker. */
#include "service/handlers/snapshots.h"

#include "common/base/cleanup.h"
#include "common/base/mem.h"
#include "sandbox/v1/errors.pb-c.h"
#include "sandbox/v1/snapshots.pb-c.h"
#include "service/handlers/operation.h"
#include "service/handlers/validate.h"

#include <stdlib.h>
#include <string.h>

enum {
    INVALID_FIELD = SANDBOX__V1__ERROR_REASON__ERROR_REASON_INVALID_FIELD,
    NAME_MAX_BYTES = 256,
    PAGE_MAX = 100,
    PAGE_TOKEN_MAX = 1024,
};

struct snapshots {
    struct operation o;
    struct e2b_snapshot made;
    struct e2b_snapshots list;
    bool allow_missing;
};

static struct snapshots *of(struct operation *o)
{
    return container_of(o, struct snapshots, o);
}

static void release(struct operation *o)
{
    struct snapshots *k = of(o);

    e2b_snapshot_deinit(&k->made);
    e2b_snapshots_deinit(&k->list);
    free(k);
}

static struct snapshots *begin(struct call *c, void (*answer)(struct operation *o))
{
    struct snapshots *k = xcalloc(1, sizeof(*k));

    k->o.answer = answer;
    k->o.release = release;
    operation_begin(&k->o, c);
    return k;
}

/* Points into from. */
static void set_message(Sandbox__V1__Snapshot *to, const struct e2b_snapshot *from)
{
    sandbox__v1__snapshot__init(to);
    to->snapshot_id = from->id;
    to->names = from->names;
    to->n_names = from->n_names;
}

/* --- CreateSnapshot --- */

static void create_answer(struct operation *o)
{
    Sandbox__V1__CreateSnapshotResponse m = SANDBOX__V1__CREATE_SNAPSHOT_RESPONSE__INIT;
    Sandbox__V1__Snapshot snapshot;

    set_message(&snapshot, &of(o)->made);
    m.snapshot = &snapshot;
    call_reply(o->call, &m.base);
}

/* What E2B itself refuses in a name is its to say. But a slash would end a namespace, and so whose
 * the snapshot is. */
static bool check_name(const char *name, struct status *st)
{
    if (strlen(name) > NAME_MAX_BYTES)
        return status_bad_field(st, INVALID_FIELD, "name", "name is longer than %d bytes",
                                NAME_MAX_BYTES);
    return strchr(name, '/') == NULL ||
           status_bad_field(st, INVALID_FIELD, "name", "name has a slash in it");
}

void create_snapshot_start(struct call *c, const ProtobufCMessage *message)
{
    const Sandbox__V1__CreateSnapshotRequest *r =
        (const Sandbox__V1__CreateSnapshotRequest *)message;
    struct status st = STATUS_INIT;
    struct snapshots *k;

    if (!validate_id("sandbox_id", r->sandbox_id, &st) || !check_name(r->name, &st)) {
        call_finish(c, &st);
        return;
    }
    k = begin(c, create_answer);
    e2b_snapshot_create(operation_e2b(&k->o), &k->o.op, r->sandbox_id,
                        r->name[0] != '\0' ? r->name : NULL, &k->made);
}

/* --- ListSnapshots --- */

static void list_answer(struct operation *o)
{
    const struct e2b_snapshots *list = &of(o)->list;
    Sandbox__V1__ListSnapshotsResponse m = SANDBOX__V1__LIST_SNAPSHOTS_RESPONSE__INIT;
    AUTO_FREE Sandbox__V1__Snapshot *items = xcalloc(list->n_items, sizeof(items[0]));
    AUTO_FREE Sandbox__V1__Snapshot **pointers = xcalloc(list->n_items, sizeof(pointers[0]));

    for (size_t i = 0; i < list->n_items; i++) {
        set_message(&items[i], &list->items[i]);
        pointers[i] = &items[i];
    }
    m.snapshots = pointers;
    m.n_snapshots = list->n_items;
    if (list->next_page_token != NULL)
        m.next_page_token = list->next_page_token;
    call_reply(o->call, &m.base);
}

static bool check_list(const Sandbox__V1__ListSnapshotsRequest *r, struct status *st)
{
    if (r->page_size < 0)
        return status_bad_field(st, INVALID_FIELD, "page_size", "page_size is negative");
    if (strlen(r->page_token) > PAGE_TOKEN_MAX)
        return status_bad_field(st, INVALID_FIELD, "page_token",
                                "page_token is not one that this method returned");
    return validate_optional_id("sandbox_id", r->sandbox_id, st);
}

void list_snapshots_start(struct call *c, const ProtobufCMessage *message)
{
    const Sandbox__V1__ListSnapshotsRequest *r = (const Sandbox__V1__ListSnapshotsRequest *)message;
    struct status st = STATUS_INIT;
    struct snapshots *k;

    if (!check_list(r, &st)) {
        call_finish(c, &st);
        return;
    }
    k = begin(c, list_answer);
    e2b_snapshot_list(operation_e2b(&k->o), &k->o.op,
                      r->sandbox_id[0] != '\0' ? r->sandbox_id : NULL,
                      r->page_size == 0 || r->page_size > PAGE_MAX ? PAGE_MAX : r->page_size,
                      r->page_token[0] != '\0' ? r->page_token : NULL, &k->list);
}

/* --- DeleteSnapshot --- */

static void delete_answer(struct operation *o)
{
    Sandbox__V1__DeleteSnapshotResponse m = SANDBOX__V1__DELETE_SNAPSHOT_RESPONSE__INIT;

    call_reply(o->call, &m.base);
}

/* With allow_missing a snapshot that is not there is as good as deleted. */
static void delete_done(struct e2b_op *op)
{
    struct snapshots *k = container_of(op, struct snapshots, o.op);
    struct call *c = k->o.call;

    if (op->st.code == CODE_OK || (op->st.code == CODE_NOT_FOUND && k->allow_missing))
        delete_answer(&k->o);
    else
        call_finish(c, &op->st);
    call_unref(c);
}

void delete_snapshot_start(struct call *c, const ProtobufCMessage *message)
{
    const Sandbox__V1__DeleteSnapshotRequest *r =
        (const Sandbox__V1__DeleteSnapshotRequest *)message;
    size_t len = strlen(r->snapshot_id);
    struct status st = STATUS_INIT;
    struct snapshots *k;

    if (len == 0 || len > NAME_MAX_BYTES) {
        status_bad_field(&st, INVALID_FIELD, "snapshot_id",
                         "snapshot_id must have from 1 to %d bytes", NAME_MAX_BYTES);
        call_finish(c, &st);
        return;
    }
    k = begin(c, delete_answer);
    k->allow_missing = r->allow_missing;
    k->o.op.done = delete_done;
    e2b_snapshot_delete(operation_e2b(&k->o), &k->o.op, r->snapshot_id);
}
