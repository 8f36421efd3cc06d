/*
 * One RPC from the moment core hands it over to its last reference: see call.h for what handlers
 * see of it. Every operation asked of core holds a reference until it came back; one more is held
 * from the start until the status was sent. Everything runs on the worker's thread, but for post(),
 * which links the task in and wakes the worker with an empty batch: core has no other way in from
 * C.
 */
#include "service/rpc/call.h"

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "sandbox/v1/errors.pb-c.h"
#include "service/rpc/incoming.h"
#include "service/rpc/trailers.h"
#include "service/rpc/worker.h"

#include <assert.h>
#include <grpc/byte_buffer.h>
#include <grpc/support/alloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REASON(name) SANDBOX__V1__ERROR_REASON__ERROR_REASON_##name

enum { REQUEST_ID_MAX = 128, KEY_MAX = 64 };

/* A metadata value as a string, made when it was first asked for. */
struct copied {
    struct copied *next;
    char key[KEY_MAX];
    char value[];
};

struct call {
    struct worker *worker; /* borrowed */
    grpc_call *core;
    int refs;         /* the worker's thread only */
    struct list node; /* in worker->calls; under worker->lock */

    /* What core handed over. */
    struct op requested;
    grpc_call_details details;
    grpc_metadata_array metadata;
    const struct binding *binding; /* NULL: no such method */
    int64_t started_ns, deadline_ns;
    struct copied *copied; /* owned */
    char *peer;            /* owned by core's allocator */
    char request_id[REQUEST_ID_MAX + 1];

    /* Coming in. */
    struct op received;
    grpc_byte_buffer *incoming;
    bool receiving;
    bool held;    /* METHOD_BIDI: the handler wants no more for now */
    bool no_more; /* the last message was seen */
    struct op closed;
    int cancelled;
    bool gone; /* the client went away before the call was finished */
    enum code gone_reason;

    /* Going out. */
    struct op sent;
    bool sending;
    bool opened; /* initial metadata was sent, or is being */
    struct op ended;
    bool finished;     /* the handler gave its verdict */
    bool status_asked; /* and it is on its way */
    struct status verdict;
    struct trailers trailers;

    /* The handler's side. */
    const struct call_handler *handler;
    void *state;
    bool drain_told;
    struct call_timer *timers;

    /* From other threads. */
    struct executor executor;
    pthread_mutex_t inbox_lock;
    struct task *inbox_first, **inbox_end;
    bool kicked;
    struct op kick;
    struct task drain;
    atomic_bool drain_posted;
};

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
    while (c->copied != NULL) {
        struct copied *next = c->copied->next;

        free(c->copied);
        c->copied = next;
    }
    gpr_free(c->peer);
    grpc_metadata_array_destroy(&c->metadata);
    grpc_call_details_destroy(&c->details);
    if (c->core != NULL)
        grpc_call_unref(c->core);
    pthread_mutex_destroy(&c->inbox_lock);
    free(c);
    leave_server(w);
}

void call_unref(struct call *c)
{
    assert(c->refs > 0);
    if (--c->refs == 0)
        call_free(c);
}

/* Starts a batch whose end is op->done. */
static void start_batch(struct call *c, const grpc_op *ops, size_t n, struct op *op)
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

static char *slice_text(grpc_slice slice, struct copied **ret)
{
    size_t len = GRPC_SLICE_LENGTH(slice);

    *ret = xcalloc(1, sizeof(**ret) + len + 1);
    memcpy((*ret)->value, GRPC_SLICE_START_PTR(slice), len);
    return (*ret)->value;
}

const char *call_metadata(const struct call *call, const char *key)
{
    struct call *c = (struct call *)call; /* the copies are a cache */

    for (struct copied *have = c->copied; have != NULL; have = have->next) {
        if (strcmp(have->key, key) == 0)
            return have->value;
    }
    for (size_t i = 0; i < c->metadata.count; i++) {
        struct copied *copy;

        if (grpc_slice_str_cmp(c->metadata.metadata[i].key, key) != 0)
            continue;
        slice_text(c->metadata.metadata[i].value, &copy);
        snprintf(copy->key, sizeof(copy->key), "%s", key);
        copy->next = c->copied;
        c->copied = copy;
        return copy->value;
    }
    return NULL;
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

const char *call_peer(const struct call *call)
{
    struct call *c = (struct call *)call;

    if (c->peer == NULL)
        c->peer = grpc_call_get_peer(c->core);
    return c->peer;
}

/* --- from other threads --- */

struct executor *call_executor(struct call *c)
{
    return &c->executor;
}

static void on_kick(struct op *op, bool ok)
{
    struct call *c = container_of(op, struct call, kick);
    struct task *task;

    pthread_mutex_lock(&c->inbox_lock);
    task = c->inbox_first;
    c->inbox_first = NULL;
    c->inbox_end = &c->inbox_first;
    c->kicked = false;
    pthread_mutex_unlock(&c->inbox_lock);

    /* Whoever posted holds a reference, which its last task may give back: hold one meanwhile. */
    call_ref(c);
    while (task != NULL) {
        struct task *next = task->next;

        task->run(task);
        task = next;
    }
    call_unref(c);
}

static void post(struct executor *e, struct task *task)
{
    struct call *c = container_of(e, struct call, executor);
    bool kick;

    task->next = NULL;
    pthread_mutex_lock(&c->inbox_lock);
    *c->inbox_end = task;
    c->inbox_end = &task->next;
    kick = !c->kicked;
    c->kicked = true;
    /* Under the lock: once it is released the worker may run the task and free the call. */
    if (kick && grpc_call_start_batch(c->core, NULL, 0, &c->kick, NULL) != GRPC_CALL_OK)
        abort();
    pthread_mutex_unlock(&c->inbox_lock);
}

/* --- draining --- */

static void tell_drain(struct call *c)
{
    if (c->drain_told || c->finished || c->handler == NULL)
        return;
    c->drain_told = true;
    if (c->handler->on_drain != NULL)
        c->handler->on_drain(c->state);
}

static void run_drain(struct task *task)
{
    struct call *c = container_of(task, struct call, drain);

    tell_drain(c);
    call_unref(c);
}

void call_post_drain(struct list *node)
{
    struct call *c = container_of(node, struct call, node);

    if (!atomic_exchange(&c->drain_posted, true))
        post(&c->executor, &c->drain);
}

/* The drain task is the one that other threads post without having taken a reference, so a call
 * that can be drained holds one for it; it is given back when the task ran or the call ended. */
static void list_for_drain(struct call *c)
{
    call_ref(c);
    pthread_mutex_lock(&c->worker->lock);
    list_append(&c->worker->calls, &c->node);
    pthread_mutex_unlock(&c->worker->lock);
}

static void unlist_for_drain(struct call *c)
{
    pthread_mutex_lock(&c->worker->lock);
    list_unlink(&c->node);
    pthread_mutex_unlock(&c->worker->lock);
    if (!atomic_exchange(&c->drain_posted, true))
        call_unref(c); /* nobody posted it, and now nobody can */
}

/* --- ending --- */

static void log_call(const struct call *c)
{
    int64_t ms = (clock_monotonic_ns() - c->started_ns) / NS_PER_MS;
    const char *path = c->binding != NULL ? c->binding->path : "unknown";
    bool quiet = strncmp(path, "/grpc.health.", 13) == 0;
    struct log_field fields[] = {
        LOG_S("method", path),       LOG_S("code", code_name(c->verdict.code)),
        LOG_N("duration_ms", ms),    LOG_S("request_id", c->request_id),
        LOG_S("peer", call_peer(c)), LOG_S("error", c->verdict.message),
    };

    log_write(quiet ? LOG_DEBUG : LOG_INFO, "call", fields, c->verdict.code == CODE_OK ? 5 : 6);
}

static void on_ended(struct op *op, bool ok)
{
    struct call *c = container_of(op, struct call, ended);

    trailers_deinit(&c->trailers);
    unlist_for_drain(c);
    call_unref(c); /* the batch's */
    call_unref(c); /* the open call's */
}

static size_t add_status_ops(struct call *c, grpc_op *ops)
{
    size_t n = 0;

    if (!c->opened)
        ops[n++].op = GRPC_OP_SEND_INITIAL_METADATA;
    c->opened = true;
    c->status_asked = true;
    trailers_init(&c->trailers, &c->verdict, c->request_id);
    ops[n].op = GRPC_OP_SEND_STATUS_FROM_SERVER;
    ops[n].data.send_status_from_server.trailing_metadata_count = c->trailers.n;
    ops[n].data.send_status_from_server.trailing_metadata = c->trailers.items;
    ops[n].data.send_status_from_server.status = (grpc_status_code)c->verdict.code;
    ops[n].data.send_status_from_server.status_details = &c->trailers.message;
    return n + 1;
}

/* Core turns initial metadata and status in one batch into a trailers-only answer, as it should be
 * for a refusal. */
static void send_status(struct call *c)
{
    grpc_op ops[2] = {0};
    size_t n = add_status_ops(c, ops);

    start_batch(c, ops, n, &c->ended);
}

static void stop_timers(struct call *c)
{
    while (c->timers != NULL)
        call_timer_stop(c->timers);
}

static bool give_verdict(struct call *c, const struct status *st)
{
    if (c->finished)
        return false;
    c->finished = true;
    c->verdict = *st;
    stop_timers(c);
    log_call(c);
    return true;
}

void call_finish(struct call *c, const struct status *st)
{
    if (give_verdict(c, st) && !c->sending)
        send_status(c);
}

/* --- sending --- */

bool call_can_send(const struct call *c)
{
    return !c->sending && !c->finished;
}

static void on_sent(struct op *op, bool ok)
{
    struct call *c = container_of(op, struct call, sent);

    c->sending = false;
    if (c->finished && !c->status_asked)
        send_status(c);
    else if (!c->finished && ok && c->handler != NULL && c->handler->on_sent != NULL)
        c->handler->on_sent(c->state);
    call_unref(c);
}

static size_t add_message_ops(struct call *c, grpc_op *ops, grpc_byte_buffer *message,
                              uint32_t flags)
{
    size_t n = 0;

    if (!c->opened)
        ops[n++].op = GRPC_OP_SEND_INITIAL_METADATA;
    c->opened = true;
    ops[n].op = GRPC_OP_SEND_MESSAGE;
    ops[n].flags = flags;
    ops[n].data.send_message.send_message = message;
    return n + 1;
}

/* Takes the slice. Core refers to what it needs of the buffer before start_batch returns. */
static void send_slice(struct call *c, grpc_slice slice, uint32_t flags)
{
    grpc_byte_buffer *message = grpc_raw_byte_buffer_create(&slice, 1);
    grpc_op ops[2] = {0};

    assert(call_can_send(c));
    grpc_slice_unref(slice);
    c->sending = true;
    start_batch(c, ops, add_message_ops(c, ops, message, flags), &c->sent);
    grpc_byte_buffer_destroy(message);
}

static grpc_slice pack(const ProtobufCMessage *message)
{
    grpc_slice slice = grpc_slice_malloc(protobuf_c_message_get_packed_size(message));

    protobuf_c_message_pack(message, GRPC_SLICE_START_PTR(slice));
    return slice;
}

void call_send(struct call *c, const ProtobufCMessage *message)
{
    send_slice(c, pack(message), 0);
}

void call_send_bytes_take(struct call *c, void *base, const uint8_t *data, size_t len, bool more)
{
    send_slice(c, grpc_slice_new_with_user_data((void *)data, len, free, base),
               more ? GRPC_WRITE_BUFFER_HINT : 0);
}

/* One batch for the whole answer. */
void call_reply(struct call *c, const ProtobufCMessage *message)
{
    grpc_slice slice = pack(message);
    grpc_byte_buffer *buffer = grpc_raw_byte_buffer_create(&slice, 1);
    grpc_op ops[4] = {0};
    size_t n;

    assert(!c->sending);
    grpc_slice_unref(slice);
    if (give_verdict(c, &STATUS_INIT)) {
        n = add_message_ops(c, ops, buffer, 0);
        n += add_status_ops(c, ops + n);
        start_batch(c, ops, n, &c->ended);
    }
    grpc_byte_buffer_destroy(buffer);
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
    timers_add(&c->worker->timers, t, at_ns);
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
    if (t->at_ns != 0)
        timers_remove(&t->call->worker->timers, t);
    t->call = NULL;
}

/* --- receiving --- */

/* Asks for the next message, if one is wanted. */
static void receive(struct call *c)
{
    grpc_op op = {.op = GRPC_OP_RECV_MESSAGE, .data.recv_message.recv_message = &c->incoming};

    if (c->receiving || c->held || c->no_more || c->finished)
        return;
    c->receiving = true;
    start_batch(c, &op, 1, &c->received);
}

void call_hold(struct call *c)
{
    c->held = true;
}

void call_release(struct call *c)
{
    c->held = false;
    receive(c);
}

static void finish_as_gone(struct call *c)
{
    struct status st;

    status_set(&st, c->gone_reason, REASON(DEADLINE), "the caller went away");
    call_finish(c, &st);
}

static void deliver(struct call *c, const ProtobufCMessage *message)
{
    const struct method *m = c->binding->method;

    if (m->kind != METHOD_BIDI)
        m->start(c, message);
    else if (c->handler != NULL && c->handler->on_message != NULL)
        c->handler->on_message(c->state, message);
    if (call_is_draining(c))
        tell_drain(c);
}

/* No message: the client half-closed, or is gone (then RECV_CLOSE tells a handler that is there).
 */
static void deliver_end(struct call *c, bool ok)
{
    struct status st;

    if (c->binding->method->kind == METHOD_BIDI) {
        if (ok)
            deliver(c, NULL);
        return;
    }
    status_set(&st, CODE_INVALID_ARGUMENT, REASON(INVALID_FIELD),
               "the call ended without a request message");
    call_finish(c, &st);
}

static void deliver_bytes(struct call *c, grpc_byte_buffer *bytes)
{
    size_t max = (size_t)c->worker->server->config.max_message_bytes;
    struct status st = STATUS_INIT;
    ProtobufCMessage *message = incoming_unpack(c->binding->input, bytes, max, &st);

    if (message == NULL) {
        call_finish(c, &st);
        return;
    }
    deliver(c, message);
    protobuf_c_message_free_unpacked(message, NULL);
}

static void on_received(struct op *op, bool ok)
{
    struct call *c = container_of(op, struct call, received);
    grpc_byte_buffer *incoming = c->incoming;
    bool bidi = c->binding->method->kind == METHOD_BIDI;

    c->incoming = NULL;
    c->receiving = false;
    if (!bidi || !ok || incoming == NULL)
        c->no_more = true;
    if (c->finished) {
        /* Nobody waits for it any more. */
    } else if (c->gone) {
        /* A handler that starts now would never hear that the client left. */
        if (!bidi)
            finish_as_gone(c);
    } else if (!ok || incoming == NULL) {
        deliver_end(c, ok);
    } else {
        deliver_bytes(c, incoming);
        receive(c);
    }
    if (incoming != NULL)
        grpc_byte_buffer_destroy(incoming);
    call_unref(c);
}

/*
 * A caller whose deadline passes cancels by itself, and that may be here before our own deadline,
 * which was rounded up on its way (by up to one part in a hundred).
 */
static enum code why_gone(const struct call *c)
{
    int64_t slack = 20 * NS_PER_MS + (c->deadline_ns - c->started_ns) / 64;

    if (c->deadline_ns != INT64_MAX && clock_monotonic_ns() >= c->deadline_ns - slack)
        return CODE_DEADLINE_EXCEEDED;
    return CODE_CANCELLED;
}

static void on_closed(struct op *op, bool ok)
{
    struct call *c = container_of(op, struct call, closed);

    if (c->cancelled != 0 && !c->finished) {
        c->gone = true;
        c->gone_reason = why_gone(c);
        if (c->handler != NULL && c->handler->on_gone != NULL)
            c->handler->on_gone(c->state);
    }
    call_unref(c);
}

/* --- accepting --- */

static bool is_request_id(const char *id)
{
    size_t len = strlen(id);

    if (len == 0 || len > REQUEST_ID_MAX)
        return false;
    for (size_t i = 0; i < len; i++) {
        if (id[i] <= ' ' || id[i] > '~' || id[i] == '"' || id[i] == '\\')
            return false;
    }
    return true;
}

/* The caller's own, so that both logs can be joined; else a made one. */
static void take_request_id(struct call *c)
{
    static atomic_ullong count;
    const char *given = call_metadata(c, "x-request-id");

    if (given != NULL && is_request_id(given))
        snprintf(c->request_id, sizeof(c->request_id), "%s", given);
    else
        snprintf(c->request_id, sizeof(c->request_id), "%llx-%llx",
                 (unsigned long long)clock_wall_ns(), atomic_fetch_add(&count, 1));
}

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

static void begin(struct call *c)
{
    grpc_op close = {
        .op = GRPC_OP_RECV_CLOSE_ON_SERVER,
        .data.recv_close_on_server.cancelled = &c->cancelled,
    };

    c->started_ns = clock_monotonic_ns();
    c->deadline_ns = from_core_time(c->details.deadline);
    c->binding = server_find(c->worker->server, &c->details.method);
    list_for_drain(c);
    take_request_id(c);
    start_batch(c, &close, 1, &c->closed);
    if (c->binding == NULL) {
        refuse_unknown(c);
    } else if (c->binding->method->kind == METHOD_BIDI) {
        c->binding->method->start(c, NULL);
        if (call_is_draining(c))
            tell_drain(c);
        receive(c);
    } else {
        receive(c);
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
    c->refs = 1; /* the open call's; see on_ended() */
    list_init(&c->node);
    c->requested.done = on_requested;
    c->received.done = on_received;
    c->closed.done = on_closed;
    c->sent.done = on_sent;
    c->ended.done = on_ended;
    c->kick.done = on_kick;
    c->drain.run = run_drain;
    c->executor.post = post;
    c->inbox_end = &c->inbox_first;
    pthread_mutex_init(&c->inbox_lock, NULL);
    grpc_call_details_init(&c->details);
    grpc_metadata_array_init(&c->metadata);

    pthread_mutex_lock(&s->lock);
    s->n_calls++;
    pthread_mutex_unlock(&s->lock);
    if (grpc_server_request_call(s->core, &c->core, &c->details, &c->metadata, w->cq, w->cq,
                                 &c->requested) != GRPC_CALL_OK)
        call_unref(c); /* the server was shut down a moment ago */
}
