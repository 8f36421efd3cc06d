/*
 * See removal.h. A paused sandbox cannot be read, so it is woken first: its memory ends now anyway.
 * On the executor of the op, a call's worker.
 */
#include "service/handlers/removal.h"

#include "common/base/list.h"
#include "sandbox/v1/errors.pb-c.h"

#include <stdio.h>

enum { AWAKE_S = 300 /* of a sandbox that was paused: longer than a copy may take */ };

static void copy(struct removal *r);

static void end(struct removal *r, const struct status *st)
{
    r->op.st = *st;
    e2b_sandbox_deinit(&r->sandbox);
    r->op.done(&r->op);
}

/* True: the call is over, and nothing that cannot be taken back was done. */
static bool ended_early(struct removal *r)
{
    struct status st;

    if (!r->cancelled)
        return false;
    status_set(&st, CODE_CANCELLED, 0, "the call was cancelled");
    end(r, &st);
    return true;
}

static struct removal *step_back(struct e2b_op *op)
{
    return container_of(op, struct removal, step);
}

static void step(struct removal *r, void (*done)(struct e2b_op *op))
{
    r->step = (struct e2b_op){
        .caller = r->op.caller,
        .executor = r->op.executor,
        .done = done,
        .deadline_ns = r->op.deadline_ns,
    };
}

static void on_deleted(struct e2b_op *op)
{
    struct removal *r = step_back(op);
    struct status st = op->st;

    end(r, &st);
}

static void delete (struct removal *r)
{
    step(r, on_deleted);
    e2b_delete(r->app->e2b, &r->step, r->sandbox_id);
}

static void on_woken(struct e2b_op *op)
{
    struct removal *r = step_back(op);
    struct status st = op->st;

    if (st.code == CODE_OK && !ended_early(r))
        copy(r);
    else if (st.code != CODE_OK)
        end(r, &st);
}

static void wake(struct removal *r)
{
    static bool ignored;

    r->woken = true;
    step(r, on_woken);
    e2b_resume(r->app->e2b, &r->step, r->sandbox_id, AWAKE_S, &r->sandbox, &ignored);
}

static void on_copied(struct e2b_op *op)
{
    struct removal *r = step_back(op);
    struct status st = op->st;

    if (ended_early(r))
        return;
    /* Of a sandbox that is not there, deleting it tells in its own way. One that damaged its own
     * records is not kept for that. */
    if (st.code == CODE_OK || st.code == CODE_DATA_LOSS ||
        st.reason == SANDBOX__V1__ERROR_REASON__ERROR_REASON_SANDBOX_NOT_FOUND) {
        delete (r);
    } else if (st.reason == SANDBOX__V1__ERROR_REASON__ERROR_REASON_SANDBOX_PAUSED && !r->woken) {
        wake(r);
    } else {
        status_prefix(&st, "sandbox %s is not deleted, because its logs cannot be archived",
                      r->sandbox_id);
        end(r, &st);
    }
}

static void copy(struct removal *r)
{
    step(r, on_copied);
    archive_copy(r->app->archive, &r->step, r->sandbox_id);
}

void removal_start(struct removal *r, const struct app *app, const char *sandbox_id, bool discard)
{
    r->app = app;
    r->woken = r->cancelled = false;
    r->sandbox = (struct e2b_sandbox){0};
    snprintf(r->sandbox_id, sizeof(r->sandbox_id), "%s", sandbox_id);
    if (app->archive == NULL || discard)
        delete (r);
    else
        copy(r);
}

void removal_cancel(struct removal *r)
{
    r->cancelled = true;
    e2b_cancel(&r->step);
}
