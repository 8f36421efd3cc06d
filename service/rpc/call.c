/*
 * One RPC from the moment core hands it over to its last reference: see call.h for what handlers
 * see of it. Every operation asked of core holds a reference until it came back; one more is held
 * from the start until the status was sent.
 */
#include "service/rpc/account.h"
#include "service/rpc/call_impl.h"

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/mem.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* --- life --- */

void call_ref(struct call *c)
{
    c->refs++;
}

static void leave_server(struct worker *w)
{
    struct server *s = w->server;

    pthread_mutex_lock(&s->lock);
    s->n_calls--;
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
}

static void call_free(struct call *c)
{
    struct worker *w = c->worker;

    if (c->handler != NULL && c->handler->destroy != NULL)
        c->handler->destroy(c->state);
    if (c->pass != NULL)
        w->server->config.gate->leave(w->server->config.gate, c->pass);
    call_metadata_deinit(c);
    grpc_call_details_destroy(&c->details);
    if (c->core != NULL)
        grpc_call_unref(c->core);
    call_inbox_deinit(c);
    free(c);
    leave_server(w);
}

void call_unref(struct call *c)
{
    assert(c->refs > 0);
    if (--c->refs == 0)
        call_free(c);
}

void call_start_batch(struct call *c, const grpc_op *ops, size_t n, struct op *op)
{
    grpc_call_error error;

    call_ref(c);
    error = grpc_call_start_batch(c->core, ops, n, op, NULL);
    if (error != GRPC_CALL_OK) {
        /* Only a wrong use of core gets here. */
        log_error("gRPC core refused a batch", LOG_S("error", grpc_call_error_to_string(error)));
        abort();
    }
}

/* --- what handlers ask --- */

void call_set_handler(struct call *c, const struct call_handler *handler, void *state)
{
    assert(c->handler == NULL);
    c->handler = handler;
    c->state = state;
}

void *call_app(const struct call *c)
{
    return c->worker->server->config.app;
}

const struct method *call_method(const struct call *c)
{
    return c->binding->method;
}

struct pass *call_pass(const struct call *c)
{
    return c->pass;
}

int64_t call_deadline_ns(const struct call *c)
{
    return c->deadline_ns;
}

enum code call_end_reason(const struct call *c)
{
    return c->gone ? c->gone_reason : CODE_OK;
}

bool call_is_draining(const struct call *c)
{
    return atomic_load(&c->worker->server->draining);
}

/* --- timers --- */

void call_timer_start(struct call *c, struct call_timer *t, int64_t at_ns)
{
    call_timer_stop(t);
    if (c->finished)
        return;
    t->call = c;
    t->next = c->timers;
    c->timers = t;
    timers_set(&c->worker->timers, &t->timer, at_ns);
}

void call_timer_stop(struct call_timer *t)
{
    struct call_timer **at;

    if (t->call == NULL)
        return;
    for (at = &t->call->timers; *at != NULL; at = &(*at)->next) {
        if (*at == t) {
            *at = t->next;
            break;
        }
    }
    timers_stop(&t->call->worker->timers, &t->timer);
    t->call = NULL;
}

void call_stop_timers(struct call *c)
{
    while (c->timers != NULL)
        call_timer_stop(c->timers);
}

/* --- accepting --- */

static int64_t from_core_time(gpr_timespec t)
{
    t = gpr_convert_clock_type(t, GPR_CLOCK_MONOTONIC);
    if (gpr_time_cmp(t, gpr_inf_future(GPR_CLOCK_MONOTONIC)) == 0 ||
        t.tv_sec > INT64_MAX / NS_PER_S / 2)
        return INT64_MAX;
    return t.tv_sec * NS_PER_S + t.tv_nsec;
}

static void refuse_unknown(struct call *c)
{
    struct status st;

    status_set(&st, CODE_UNIMPLEMENTED, REASON(METHOD_NOT_FOUND),
               "this server has no method %.*s; reflection lists those it has",
               (int)GRPC_SLICE_LENGTH(c->details.method),
               (const char *)GRPC_SLICE_START_PTR(c->details.method));
    call_finish(c, &st);
}

/* False: refused, and told so. */
static bool pass_gate(struct call *c)
{
    struct gate *gate = c->worker->server->config.gate;
    struct status st = STATUS_INIT;

    if (gate == NULL || gate->enter(gate, c, &c->pass, &st))
        return true;
    c->pass = NULL;
    call_finish(c, &st);
    return false;
}

static void begin(struct call *c)
{
    grpc_op close = {
        .op = GRPC_OP_RECV_CLOSE_ON_SERVER,
        .data.recv_close_on_server.cancelled = &c->cancelled,
    };

    c->started_ns = clock_monotonic_ns();
    c->deadline_ns = from_core_time(c->details.deadline);
    c->binding = server_find(c->worker->server, &c->details.method);
    call_list_for_drain(c);
    call_take_request_id(c);
    call_take_trace(c);
    account_call_started(c);
    call_start_batch(c, &close, 1, &c->closed);
    if (c->binding == NULL) {
        refuse_unknown(c);
        return;
    }
    if (!pass_gate(c))
        return;
    call_watch_age(c);
    if (method_takes_stream(c->binding->method->kind)) {
        c->binding->method->start(c, NULL);
        if (call_is_draining(c))
            call_tell_drain(c);
        call_receive(c);
    } else {
        call_receive(c);
    }
}

static void on_requested(struct op *op, bool ok)
{
    struct call *c = container_of(op, struct call, requested);

    if (!ok) { /* the server shuts down: this slot was never used */
        call_unref(c);
        return;
    }
    call_request(c->worker);
    begin(c);
}

void call_request(struct worker *w)
{
    struct server *s = w->server;
    struct call *c;

    if (atomic_load(&s->closing))
        return;
    c = xcalloc(1, sizeof(*c));
    c->worker = w;
    c->refs = 1; /* the open call's; see call_on_ended() */
    call_inbox_init(c);
    c->requested.done = on_requested;
    c->received.done = call_on_received;
    c->closed.done = call_on_closed;
    c->sent.done = call_on_sent;
    c->ended.done = call_on_ended;
    grpc_call_details_init(&c->details);
    grpc_metadata_array_init(&c->metadata);

    pthread_mutex_lock(&s->lock);
    s->n_calls++;
    pthread_mutex_unlock(&s->lock);
    if (grpc_server_request_call(s->core, &c->core, &c->details, &c->metadata, w->cq, w->cq,
                                 &c->requested) != GRPC_CALL_OK)
        call_unref(c); /* the server was shut down a moment ago */
}
