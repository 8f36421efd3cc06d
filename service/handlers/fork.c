/*
 * ForkSandbox: look at the sandbox (for its labels), keep it as a snapshot, make sandboxes of that.
 * E2B's own fork would copy the labels by which sandboxd knows sandboxes again; made one by one,
 * each copy gets labels of its own, and a request_id of its own where the caller gave one.
 *
 * All or nothing: where one copy fails, the others and the snapshot are deleted, as far as they are
 * this call's. On the call's worker, one step after the other; only the copies are made at the same
 * time.
 */
#include "service/handlers/fork.h"

#include "common/base/cleanup.h"
#include "common/base/clock.h"
#include "common/base/mem.h"
#include "sandbox/v1/errors.pb-c.h"
#include "sandbox/v1/snapshots.pb-c.h"
#include "service/handlers/pairs.h"
#include "service/handlers/sandbox_message.h"
#include "service/handlers/sandbox_operation.h"
#include "service/identity/caller.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    INVALID_FIELD = SANDBOX__V1__ERROR_REASON__ERROR_REASON_INVALID_FIELD,
    COPIES_MAX = 20,
    REQUEST_ID_MAX = 60, /* leaves room for "-19" */
    UNDO_MS = 30000,
};

struct copy {
    struct fork *fork;
    struct e2b_op op;
    struct e2b_create_args args;
    struct e2b_sandbox sandbox;
    char request_id[VALIDATE_ID_MAX + 1];
    bool reused, made;
};

struct fork {
    struct call *call;
    struct e2b_op op; /* of the steps that are one operation */
    char sandbox_id[VALIDATE_ID_MAX + 1];
    struct e2b_sandbox origin;
    struct e2b_snapshot snapshot;
    struct pairs metadata;
    int64_t timeout_s;
    bool pause_on_timeout;
    struct copy *copies; /* owned */
    size_t n;
    unsigned n_running;
    struct status failure; /* the first copy's that failed */
    bool stepping, gone;
};

static void destroy(void *state)
{
    struct fork *f = state;

    for (size_t i = 0; i < f->n; i++)
        e2b_sandbox_deinit(&f->copies[i].sandbox);
    free(f->copies);
    e2b_sandbox_deinit(&f->origin);
    e2b_snapshot_deinit(&f->snapshot);
    pairs_deinit(&f->metadata);
    free(f);
}

static void on_gone(void *state)
{
    struct fork *f = state;

    f->gone = true;
    if (f->stepping)
        e2b_cancel(&f->op);
    for (size_t i = 0; f->n_running > 0 && i < f->n; i++)
        e2b_cancel(&f->copies[i].op);
}

static const struct call_handler handler = {.on_gone = on_gone, .destroy = destroy};

static struct e2b *e2b_of(const struct fork *f)
{
    const struct app *app = call_app(f->call);

    return app->e2b;
}

/* Begins a step; start E2B's operation on f->op next. */
static void step(struct fork *f, void (*done)(struct e2b_op *op))
{
    f->stepping = true;
    f->op = (struct e2b_op){
        .caller = caller_of(f->call),
        .executor = call_executor(f->call),
        .done = done,
        .deadline_ns = call_deadline_ns(f->call),
    };
    call_ref(f->call);
}

static struct fork *stepped(struct e2b_op *op)
{
    struct fork *f = container_of(op, struct fork, op);

    f->stepping = false;
    return f;
}

/* --- the end --- */

static void answer(struct fork *f)
{
    Sandbox__V1__ForkSandboxResponse m = SANDBOX__V1__FORK_SANDBOX_RESPONSE__INIT;
    AUTO_FREE struct sandbox_message *sandboxes = xcalloc(f->n, sizeof(sandboxes[0]));
    AUTO_FREE Sandbox__V1__Sandbox **pointers = xcalloc(f->n, sizeof(pointers[0]));

    for (size_t i = 0; i < f->n; i++) {
        sandbox_message_init(&sandboxes[i], &f->copies[i].sandbox);
        pointers[i] = &sandboxes[i].m;
    }
    m.sandboxes = pointers;
    m.n_sandboxes = f->n;
    if (f->snapshot.id != NULL)
        m.snapshot_id = f->snapshot.id;
    call_reply(f->call, &m.base);
    for (size_t i = 0; i < f->n; i++)
        sandbox_message_deinit(&sandboxes[i]);
}

static void finish(struct fork *f)
{
    if (f->failure.code == CODE_OK)
        answer(f);
    else
        call_finish(f->call, &f->failure);
}

/* --- undoing: with time of its own, whether the caller waits or not --- */

static void undo(struct fork *f);

static void undo_done(struct e2b_op *op)
{
    struct fork *f = container_of(op, struct fork, op);
    struct call *c = f->call;

    undo(f);
    call_unref(c);
}

static void undo_step(struct fork *f)
{
    step(f, undo_done);
    f->stepping = false; /* not to be cancelled */
    f->op.deadline_ns = clock_monotonic_ns() + UNDO_MS * NS_PER_MS;
}

/* What is this call's own and of no use to anybody goes, the copies before their snapshot. */
static void undo(struct fork *f)
{
    for (size_t i = 0; i < f->n && f->failure.code != CODE_OK; i++) {
        if (!f->copies[i].made)
            continue;
        f->copies[i].made = false;
        undo_step(f);
        e2b_delete(e2b_of(f), &f->op, f->copies[i].sandbox.id);
        return;
    }
    for (size_t i = 0; i < f->n; i++) {
        if (f->copies[i].made) {
            finish(f); /* the snapshot is in use */
            return;
        }
    }
    if (f->snapshot.id != NULL) {
        AUTO_FREE char *id = TAKE(f->snapshot.id);

        undo_step(f);
        e2b_snapshot_delete(e2b_of(f), &f->op, id);
        return;
    }
    finish(f);
}

/* --- the copies --- */

static void copy_done(struct e2b_op *op)
{
    struct copy *copy = container_of(op, struct copy, op);
    struct fork *f = copy->fork;
    struct call *c = f->call;

    if (op->st.code == CODE_OK)
        copy->made = !copy->reused;
    else if (f->failure.code == CODE_OK)
        f->failure = op->st;
    if (--f->n_running == 0)
        undo(f);
    call_unref(c);
}

static void start_copy(struct fork *f, struct copy *copy)
{
    copy->fork = f;
    copy->args = (struct e2b_create_args){
        .template = f->snapshot.id,
        .timeout_s = f->timeout_s,
        .metadata = f->metadata.items,
        .n_metadata = f->metadata.n,
        .pause_on_timeout = f->pause_on_timeout,
        .auto_resume = f->origin.auto_resume,
        .idle_s = f->origin.idle_s,
        .request_id = copy->request_id[0] != '\0' ? copy->request_id : NULL,
    };
    copy->op = (struct e2b_op){
        .caller = caller_of(f->call),
        .executor = call_executor(f->call),
        .done = copy_done,
        .deadline_ns = call_deadline_ns(f->call),
    };
    call_ref(f->call);
    e2b_create(e2b_of(f), &copy->op, &copy->args, &copy->sandbox, &copy->reused);
}

static void kept(struct e2b_op *op)
{
    struct fork *f = stepped(op);
    struct call *c = f->call;

    if (op->st.code != CODE_OK || f->gone) {
        f->failure = op->st;
        if (f->failure.code == CODE_OK)
            status_set(&f->failure, call_end_reason(c), 0, "the caller is gone");
        undo(f);
    } else {
        f->n_running = (unsigned)f->n;
        for (size_t i = 0; i < f->n; i++)
            start_copy(f, &f->copies[i]);
    }
    call_unref(c);
}

/* --- the sandbox --- */

static void looked(struct e2b_op *op)
{
    struct fork *f = stepped(op);
    struct call *c = f->call;

    if (op->st.code != CODE_OK) {
        call_finish(c, &op->st);
    } else {
        if (f->metadata.n == 0)
            pairs_copy_own(&f->metadata, f->origin.metadata, f->origin.n_metadata);
        step(f, kept);
        e2b_snapshot_create(e2b_of(f), &f->op, f->sandbox_id, NULL, &f->snapshot);
    }
    call_unref(c);
}

static bool check(const Sandbox__V1__ForkSandboxRequest *r, struct status *st)
{
    if (r->count < 0 || r->count > COPIES_MAX)
        return status_bad_field(st, INVALID_FIELD, "count", "count is %d: from 1 to %d", r->count,
                                COPIES_MAX);
    if (r->on_timeout > SANDBOX__V1__ON_TIMEOUT__ON_TIMEOUT_PAUSE)
        return status_bad_field(st, INVALID_FIELD, "on_timeout", "on_timeout %d is not known here",
                                (int)r->on_timeout);
    if (strlen(r->request_id) > REQUEST_ID_MAX)
        return status_bad_field(st, INVALID_FIELD, "request_id", "request_id is longer than %d",
                                REQUEST_ID_MAX);
    return validate_id("sandbox_id", r->sandbox_id, st) &&
           validate_optional_id("request_id", r->request_id, st);
}

static bool read_request(struct fork *f, int64_t max_s, const Sandbox__V1__ForkSandboxRequest *r,
                         struct status *st)
{
    if (!check(r, st) || !timeout_read(r->timeout, TIMEOUT_DEFAULT_S, max_s, &f->timeout_s, st) ||
        !pairs_metadata(&f->metadata, (pairs_metadata_entry **)r->metadata, r->n_metadata, st))
        return false;
    snprintf(f->sandbox_id, sizeof(f->sandbox_id), "%s", r->sandbox_id);
    f->pause_on_timeout = r->on_timeout == SANDBOX__V1__ON_TIMEOUT__ON_TIMEOUT_PAUSE;
    f->n = r->count > 0 ? (size_t)r->count : 1;
    f->copies = xcalloc(f->n, sizeof(f->copies[0]));
    for (size_t i = 0; i < f->n && r->request_id[0] != '\0'; i++)
        snprintf(f->copies[i].request_id, sizeof(f->copies[i].request_id), "%s-%zu", r->request_id,
                 i);
    return true;
}

void fork_sandbox_start(struct call *c, const ProtobufCMessage *message)
{
    struct fork *f = xcalloc(1, sizeof(*f));
    struct status st = STATUS_INIT;

    f->call = c;
    f->failure = STATUS_INIT;
    if (!read_request(f, timeout_max_s(c), (const Sandbox__V1__ForkSandboxRequest *)message, &st)) {
        destroy(f);
        call_finish(c, &st);
        return;
    }
    call_set_handler(c, &handler, f);
    step(f, looked);
    e2b_get(e2b_of(f), &f->op, f->sandbox_id, &f->origin);
}
