/* See request.h: the life of an operation. */
#include "service/e2b/request.h"

#include "common/base/clock.h"
#include "sandbox/v1/errors.pb-c.h"

#include <string.h>

void request_ref(struct request *r)
{
    atomic_fetch_add(&r->refs, 1);
}

void request_unref(struct request *r)
{
    struct scope *scope = r->scope;
    struct trace *trace = r->trace;

    if (atomic_fetch_sub(&r->refs, 1) != 1)
        return;
    r->destroy(r);
    scope_unref(scope);
    trace_unref(trace);
}

/* On the caller's executor: the last thing that op sees. */
static void run_done(struct task *task)
{
    struct e2b_op *op = container_of(task, struct e2b_op, task);
    struct request *r = op->request;

    op->request = NULL;
    request_unref(r);
    op->done(op);
}

static void report(struct request *r, const struct status *st)
{
    struct e2b_op *op = r->op;

    op->st = *st;
    if (r->scope != NULL)
        scope_translate(r->scope, &op->st);
    op->task.run = run_done;
    executor_post(op->executor, &op->task);
}

void request_let_go(struct request *r, const struct status *st, int64_t timeout_ms)
{
    request_ref(r); /* the operation gives one back, and the request needs one */
    list_append(&r->e2b->loops[r->loop_index].detached, &r->node);
    r->deadline_ns = clock_monotonic_ns() + timeout_ms * NS_PER_MS;
    loop_timer_start(r->loop, &r->timer, r->deadline_ns);
    report(r, st);
    r->op = NULL;
    r->aside = r->lets_sleep = true;
}

void request_finish(struct request *r, const struct status *st)
{
    if (r->over)
        return;
    r->over = true;
    loop_timer_stop(r->loop, &r->timer);
    while (!list_is_empty(&r->exchanges))
        exchange_deinit(container_of(r->exchanges.next, struct exchange, node));
    if (r->op == NULL) {
        list_unlink(&r->node);
        request_unref(r);
        return;
    }
    report(r, st);
}

void request_abort(struct request *r, const struct status *st)
{
    if (r->over)
        return;
    if (r->aborted != NULL && r->aborted(r, st))
        return;
    request_finish(r, st);
}

static void run_cancel(struct task *task)
{
    struct request *r = container_of(task, struct request, cancel_task);
    struct status st;

    status_set(&st, CODE_CANCELLED, 0, "the call was cancelled");
    request_abort(r, &st);
    request_unref(r);
}

void e2b_cancel(struct e2b_op *op)
{
    struct request *r = op->request;

    if (r == NULL || r->cancel_posted)
        return;
    r->cancel_posted = true;
    request_ref(r);
    r->cancel_task.run = run_cancel;
    loop_post(r->loop, &r->cancel_task);
}

static void run_deadline(struct loop_timer *timer)
{
    struct request *r = container_of(timer, struct request, timer);
    struct status st;

    status_set(&st, CODE_DEADLINE_EXCEEDED, SANDBOX__V1__ERROR_REASON__ERROR_REASON_DEADLINE,
               "the deadline passed while waiting for E2B");
    request_abort(r, &st);
}

/* Whoever forgot to say for whom gets nothing, rather than everything. */
static void refuse_anonymous(struct request *r)
{
    struct status st;

    status_set(&st, CODE_INTERNAL, SANDBOX__V1__ERROR_REASON__ERROR_REASON_INTERNAL,
               "an operation was started for nobody");
    request_abort(r, &st);
}

static void begin(struct request *r)
{
    if (r->scope == NULL) {
        refuse_anonymous(r);
        return;
    }
    if (r->deadline_ns <= clock_monotonic_ns()) {
        run_deadline(&r->timer);
        return;
    }
    loop_timer_start(r->loop, &r->timer, r->deadline_ns);
    r->start(r);
}

static void run_start(struct task *task)
{
    begin(container_of(task, struct request, start_task));
}

static void prepare(struct request *r, struct e2b *e, unsigned loop_index)
{
    r->e2b = e;
    r->loop_index = loop_index;
    r->loop = e->loops[loop_index].loop;
    r->timer = (struct loop_timer){.run = run_deadline};
    list_init(&r->exchanges);
    list_init(&r->node);
    r->over = false;
    r->cancel_posted = false;
    atomic_init(&r->refs, 1);
}

static unsigned choose_loop(struct e2b *e, const char *sandbox_id)
{
    unsigned sum = 0;

    if (sandbox_id == NULL)
        return atomic_fetch_add(&e->next_loop, 1) % e->n_loops;
    for (const char *s = sandbox_id; *s != '\0'; s++)
        sum = sum * 31 + (unsigned char)*s;
    return sum % e->n_loops;
}

void request_prepare(struct request *r, struct e2b *e, struct e2b_op *op, const char *sandbox_id)
{
    prepare(r, e, choose_loop(e, sandbox_id));
    r->op = op;
    r->scope = op->caller != NULL ? scope_new(op->caller) : NULL;
    r->trace = trace_ref(op->executor->trace);
    r->deadline_ns = op->deadline_ns;
    r->aside = op->aside;
    r->lets_sleep = op->lets_sleep || op->aside;
    op->request = r;
    op->st = STATUS_INIT;
    r->start_task.run = run_start;
}

void request_post(struct request *r)
{
    loop_post(r->loop, &r->start_task);
}

void request_submit(struct request *r, struct e2b *e, struct e2b_op *op, const char *sandbox_id)
{
    request_prepare(r, e, op, sandbox_id);
    request_post(r);
}

void request_detach(struct request *r, const struct request *like, int64_t timeout_ms)
{
    prepare(r, like->e2b, like->loop_index);
    r->op = NULL;
    r->aside = r->lets_sleep = true; /* nobody uses the sandbox by it */
    r->scope = scope_ref(like->scope);
    r->trace = trace_ref(like->trace);
    r->deadline_ns = clock_monotonic_ns() + timeout_ms * NS_PER_MS;
    list_append(&r->e2b->loops[r->loop_index].detached, &r->node);
    begin(r);
}
