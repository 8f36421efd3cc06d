/*
 * One RPC in progress, as handlers see it. Handlers know neither gRPC core nor threads: everything
 * about a call, the handler's callbacks included, happens on the one worker thread that owns it, so
 * handlers need no locks. Only call_executor() may be used from elsewhere, to come back.
 *
 * Life of a call: the worker unpacks the request and calls method.start. The handler answers now or
 * later. A call always ends with exactly one call_finish() by the handler, even when the client is
 * gone already (then nothing is sent). After call_finish() no callback of the handler runs but
 * call_handler.destroy, once, when the last reference to the call is given back.
 */
#pragma once

#include "common/base/status.h"
#include "common/base/task.h"
#include "common/base/timers.h"
#include "service/rpc/gate.h"

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct call;
struct trace;

enum method_kind {
    METHOD_UNARY,         /* one message each way */
    METHOD_SERVER_STREAM, /* one in, any number out */
    METHOD_CLIENT_STREAM, /* any number in, one out */
    METHOD_BIDI,          /* any number each way */
};

/* Whether its messages come through call_handler.on_message, not with the start. */
static inline bool method_takes_stream(enum method_kind kind)
{
    return kind == METHOD_CLIENT_STREAM || kind == METHOD_BIDI;
}

/* One entry of the method table; see methods.c. */
struct method {
    const ProtobufCServiceDescriptor *service;
    const char *name; /* as in the .proto */
    enum method_kind kind;
    /* The request is borrowed for this call of start only (copy what must live longer); NULL for
     * those that take a stream. */
    void (*start)(struct call *c, const ProtobufCMessage *request);
    bool creates; /* makes a sandbox: the gate counts these */
};

/* What a handler that does not answer at once wants to hear of. Any member may be NULL. */
struct call_handler {
    /* call_can_send() became true again. */
    void (*on_sent)(void *state);
    /* The client cancelled, lost its connection, or the deadline passed (call_end_reason()). The
     * handler must finish the call soon; what it sends is dropped. At most once. */
    void (*on_gone)(void *state);
    /* The pod is draining (call_is_draining()), or else the stream's connection is about to be
     * closed: a long stream should say where to resume and finish. At most once. */
    void (*on_drain)(void *state);
    /* Methods that take a stream: the next message, borrowed; NULL at the client's half-close. It
     * may come while a message is in flight the other way; see call_hold(). */
    void (*on_message)(void *state, const ProtobufCMessage *message);
    /* The call is about to be freed: free the state. */
    void (*destroy)(void *state);
};

/* At most once per call, from start. */
void call_set_handler(struct call *c, const struct call_handler *handler, void *state);

/* The application's own context, as given to the server. */
void *call_app(const struct call *c);

const struct method *call_method(const struct call *c);

/* What the gate gave it; NULL when the server has no gate. Lives as long as the call. */
struct pass *call_pass(const struct call *c);

/* Of a request metadata key; NULL when absent. Lives as long as the call. */
const char *call_metadata(const struct call *c, const char *key);

/* Monotonic time at which the caller stops waiting; INT64_MAX for never. */
int64_t call_deadline_ns(const struct call *c);

/* CODE_OK while the client is there, else CODE_CANCELLED or CODE_DEADLINE_EXCEEDED. */
enum code call_end_reason(const struct call *c);

bool call_is_draining(const struct call *c);

/* "ipv4:10.0.0.7:51234"; lives as long as the call. */
const char *call_peer(const struct call *c);

/* What the client brought to the handshake, PEM: its own certificate and, apart from it, those that
 * came along; NULL: none. Nothing is known of it but that the client has its key. Lives as long as
 * the call. */
const char *call_peer_certificate(const struct call *c, const char **ret_others);

/* The trace that it is part of, for what is done on its behalf; NULL: none. Lives as long as the
 * call. */
struct trace *call_trace(const struct call *c);

/* Runs tasks on the call's thread; posting is for any thread. Whoever may still post must hold a
 * reference to the call; references are taken and given back on the call's thread. */
struct executor *call_executor(struct call *c);
void call_ref(struct call *c);
void call_unref(struct call *c);

/* --- answering --- */

/* One message may be in flight. While false, call_send…() must not be called; on_sent tells. */
bool call_can_send(const struct call *c);

/* Packs and sends. For unary methods followed by call_finish() with OK; see call_reply(). */
void call_send(struct call *c, const ProtobufCMessage *message);

/*
 * Sends an already serialized message without copying. data points into base, which becomes the
 * call's and is released with free(). more: another message is ready to follow at once, so gRPC may
 * wait for it before it writes to the network (a promise: without one the message would be stuck).
 */
void call_send_bytes_take(struct call *c, void *base, const uint8_t *data, size_t len, bool more);

/* Ends the call. st->code OK: success. May be called while a message is in flight: it goes first.
 * Idempotent: the first verdict stands. */
void call_finish(struct call *c, const struct status *st);

/* One message and OK. */
void call_reply(struct call *c, const ProtobufCMessage *message);

/* --- receiving --- */

/* Methods that take a stream: while a call is held no further message is read, so flow control
 * stops the client. Held from within on_message, none follows that one; held elsewhere, one more
 * may. */
void call_hold(struct call *c);
void call_release(struct call *c);

/* --- timers on the call's thread --- */

struct call_timer {
    struct call *call;       /* set by call_timer_start */
    struct timer timer;      /* of the worker's; monotonic */
    struct call_timer *next; /* of the same call */
    void (*run)(struct call_timer *self);
};

/* (Re)starts; the timer is embedded in the handler's state. All of a call's timers are stopped by
 * call_finish(). */
void call_timer_start(struct call *c, struct call_timer *t, int64_t at_ns);
void call_timer_stop(struct call_timer *t);
