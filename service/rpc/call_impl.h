/*
 * What a call is made of, for the files that make it: call.c (its life), call_metadata.c (what the
 * caller sent along), call_inbox.c (tasks of other threads), call_receive.c, call_send.c, and
 * account.c (what is told of it).
 * Everything runs on the worker's thread, but for the inbox's post.
 */
#pragma once

#include "service/rpc/call.h"

#include "sandbox/v1/errors.pb-c.h"
#include "service/rpc/trailers.h"
#include "service/rpc/worker.h"

#define REASON(name) SANDBOX__V1__ERROR_REASON__ERROR_REASON_##name

enum { REQUEST_ID_MAX = 128, SANDBOX_ID_MAX = 64 };

struct copied;

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
    struct pass *pass;             /* owned: given back to the gate; NULL: none */
    int64_t started_ns, deadline_ns;
    struct copied *copied;          /* owned */
    char *peer;                     /* owned by core's allocator */
    struct grpc_auth_context *auth; /* owned; NULL: not asked for */
    char request_id[REQUEST_ID_MAX + 1];
    struct trace *trace;                 /* owned: a reference; NULL: none */
    char sandbox_id[SANDBOX_ID_MAX + 1]; /* as a message named it; "" until one did */

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
    struct call_timer aged; /* its connection is about to be closed */

    /* From other threads. */
    struct executor executor;
    pthread_mutex_t inbox_lock;
    struct task *inbox_first, **inbox_end;
    bool kicked;
    struct op kick;
    struct task drain;
    atomic_bool drain_posted;
};

/* Starts a batch whose end is op->done; the batch holds a reference, which done gives back. */
void call_start_batch(struct call *c, const grpc_op *ops, size_t n, struct op *op);
void call_stop_timers(struct call *c);

/* call_metadata.c */
/* The caller's own, so that both logs can be joined; else a made one. */
void call_take_request_id(struct call *c);
/* The caller's trace, or one that begins here. */
void call_take_trace(struct call *c);
void call_metadata_deinit(struct call *c);

/* call_age.c */
/* A stream ends by itself before its connection is closed under it. */
void call_watch_age(struct call *c);

/* call_inbox.c */
void call_inbox_init(struct call *c);
void call_inbox_deinit(struct call *c);
/* A call that can be drained holds a reference for the task that does it. */
void call_list_for_drain(struct call *c);
void call_unlist_for_drain(struct call *c);
/* Tells the handler, once. */
void call_tell_drain(struct call *c);

/* call_receive.c */
/* Asks for the next message, if one is wanted. */
void call_receive(struct call *c);
/* What core gave back. */
void call_on_received(struct op *op, bool ok);
void call_on_closed(struct op *op, bool ok);

/* call_send.c */
void call_on_sent(struct op *op, bool ok);
void call_on_ended(struct op *op, bool ok);
