/*
 * PurgeSandboxes: lists all that fits, page by page, then deletes it, some at a time. What is gone
 * by itself meanwhile is no failure and is not counted. On the call's worker.
 */
#include "service/handlers/purge.h"

#include "common/base/cleanup.h"
#include "common/base/clock.h"
#include "common/base/mem.h"
#include "sandbox/v1/errors.pb-c.h"
#include "sandbox/v1/lifecycle.pb-c.h"
#include "service/handlers/operation.h"
#include "service/handlers/pairs.h"
#include "service/handlers/removal.h"
#include "service/handlers/validate.h"
#include "service/identity/caller.h"

#include <stdlib.h>

enum {
    INVALID_FIELD = SANDBOX__V1__ERROR_REASON__ERROR_REASON_INVALID_FIELD,
    PAGE = 100,
    PURGE_MAX = 1000,
    LANES = 8,
};

struct purge;

/* Deletes one sandbox after the other. */
struct lane {
    struct purge *purge;
    struct removal removal;
    size_t at;
    bool busy;
};

struct purge {
    struct call *call;
    struct e2b_op list_op;
    struct e2b_list_args args;
    struct e2b_list page;
    struct pairs metadata;
    char *page_token; /* owned */
    int64_t started_before_ns;
    bool dry_run, discard_logs, more, listing, gone;
    char *ids[PURGE_MAX]; /* owned; NULL: not deleted by us */
    size_t n, next;
    unsigned n_busy;
    struct lane lanes[LANES];
};

static void destroy(void *state)
{
    struct purge *p = state;

    for (size_t i = 0; i < p->n; i++)
        free(p->ids[i]);
    e2b_list_deinit(&p->page);
    pairs_deinit(&p->metadata);
    free(p->page_token);
    free(p);
}

static void on_gone(void *state)
{
    struct purge *p = state;

    p->gone = true;
    if (p->listing)
        e2b_cancel(&p->list_op);
    for (size_t i = 0; i < LANES; i++) {
        if (p->lanes[i].busy)
            removal_cancel(&p->lanes[i].removal);
    }
}

static const struct call_handler handler = {.on_gone = on_gone, .destroy = destroy};

static struct e2b *e2b_of(const struct purge *p)
{
    const struct app *app = call_app(p->call);

    return app->e2b;
}

static void answer(struct purge *p)
{
    Sandbox__V1__PurgeSandboxesResponse m = SANDBOX__V1__PURGE_SANDBOXES_RESPONSE__INIT;
    AUTO_FREE char **ids = xcalloc(p->n, sizeof(ids[0]));

    for (size_t i = 0; i < p->n; i++) {
        if (p->ids[i] != NULL)
            ids[m.n_sandbox_ids++] = p->ids[i];
    }
    m.sandbox_ids = ids;
    m.more = p->more;
    call_reply(p->call, &m.base);
}

/* --- deleting --- */

static void delete_next(struct lane *lane);

static void lane_done(struct e2b_op *op)
{
    struct lane *lane = container_of(op, struct lane, removal.op);
    struct purge *p = lane->purge;
    struct call *c = p->call;

    lane->busy = false;
    p->n_busy--;
    if (op->st.code != CODE_OK) {
        p->more = p->more || op->st.code != CODE_NOT_FOUND;
        free(p->ids[lane->at]);
        p->ids[lane->at] = NULL;
    }
    if (p->next < p->n && !p->gone)
        delete_next(lane);
    else if (p->n_busy == 0)
        answer(p);
    call_unref(c);
}

static void delete_next(struct lane *lane)
{
    struct purge *p = lane->purge;

    lane->at = p->next++;
    lane->busy = true;
    p->n_busy++;
    lane->removal.op = (struct e2b_op){
        .caller = caller_of(p->call),
        .executor = call_executor(p->call),
        .done = lane_done,
        .deadline_ns = call_deadline_ns(p->call),
    };
    call_ref(p->call);
    removal_start(&lane->removal, call_app(p->call), p->ids[lane->at], p->discard_logs);
}

static void delete_all(struct purge *p)
{
    if (p->dry_run || p->n == 0) {
        answer(p);
        return;
    }
    for (size_t i = 0; i < LANES && p->next < p->n; i++) {
        p->lanes[i].purge = p;
        delete_next(&p->lanes[i]);
    }
}

/* --- listing --- */

static void list(struct purge *p);

static void take_page(struct purge *p)
{
    for (size_t i = 0; i < p->page.n_items; i++) {
        struct e2b_sandbox *s = &p->page.items[i];

        if (s->start_ns > p->started_before_ns)
            continue;
        if (p->n == PURGE_MAX) {
            p->more = true;
            return;
        }
        p->ids[p->n++] = TAKE(s->id);
    }
}

static void list_done(struct e2b_op *op)
{
    struct purge *p = container_of(op, struct purge, list_op);
    struct call *c = p->call;

    p->listing = false;
    if (op->st.code != CODE_OK) {
        call_finish(c, &op->st);
    } else {
        take_page(p);
        free(p->page_token);
        p->page_token = TAKE(p->page.next_page_token);
        e2b_list_deinit(&p->page);
        if (p->page_token != NULL && !p->more)
            list(p);
        else
            delete_all(p);
    }
    call_unref(c);
}

static void list(struct purge *p)
{
    p->args.page_token = p->page_token;
    p->listing = true;
    p->list_op = (struct e2b_op){
        .caller = caller_of(p->call),
        .executor = call_executor(p->call),
        .done = list_done,
        .deadline_ns = call_deadline_ns(p->call),
    };
    call_ref(p->call);
    e2b_list(e2b_of(p), &p->list_op, &p->args, &p->page);
}

static bool read_age(struct purge *p, const Sandbox__V1__PurgeSandboxesRequest *r,
                     struct status *st)
{
    int64_t ms = 0;

    if (r->min_age != NULL && !validate_duration("min_age", r->min_age->seconds, r->min_age->nanos,
                                                 0, INT64_MAX / NS_PER_MS, &ms, st))
        return false;
    p->started_before_ns = clock_wall_ns() - ms * NS_PER_MS;
    return true;
}

static bool read_request(struct purge *p, const Sandbox__V1__PurgeSandboxesRequest *r,
                         struct status *st)
{
    if (r->n_metadata == 0 && r->n_states == 0 && r->min_age == NULL)
        return status_bad_field(st, INVALID_FIELD, "metadata",
                                "say which sandboxes are meant: metadata, states or min_age is "
                                "required (min_age 0s: all of them)");
    if (!validate_states(r->states, r->n_states, &p->args.running, &p->args.paused, st) ||
        !read_age(p, r, st) ||
        !pairs_metadata(&p->metadata, (pairs_metadata_entry **)r->metadata, r->n_metadata, st))
        return false;
    p->args.limit = PAGE;
    p->args.metadata = p->metadata.items;
    p->args.n_metadata = p->metadata.n;
    p->dry_run = r->dry_run;
    p->discard_logs = r->discard_logs;
    return true;
}

void purge_sandboxes_start(struct call *c, const ProtobufCMessage *message)
{
    struct purge *p = xcalloc(1, sizeof(*p));
    struct status st = STATUS_INIT;

    p->call = c;
    if (!read_request(p, (const Sandbox__V1__PurgeSandboxesRequest *)message, &st)) {
        destroy(p);
        call_finish(c, &st);
        return;
    }
    call_set_handler(c, &handler, p);
    list(p);
}
