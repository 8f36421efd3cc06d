/*
 * The way in: messages are asked for one at a time, unpacked, and given to the handler; the
 * client's end of the stream, and its going away, are told apart here.
 */
#include "service/rpc/account.h"
#include "service/rpc/call_impl.h"

#include "common/base/clock.h"
#include "service/rpc/incoming.h"

#include <grpc/byte_buffer.h>

void call_receive(struct call *c)
{
    grpc_op op = {.op = GRPC_OP_RECV_MESSAGE, .data.recv_message.recv_message = &c->incoming};

    if (c->receiving || c->held || c->no_more || c->finished)
        return;
    c->receiving = true;
    call_start_batch(c, &op, 1, &c->received);
}

void call_hold(struct call *c)
{
    c->held = true;
}

void call_release(struct call *c)
{
    c->held = false;
    call_receive(c);
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

    if (!method_takes_stream(m->kind))
        m->start(c, message);
    else if (c->handler != NULL && c->handler->on_message != NULL)
        c->handler->on_message(c->state, message);
    if (call_is_draining(c))
        call_tell_drain(c);
}

/* No message: the client half-closed, or is gone (then RECV_CLOSE tells a handler that is there).
 */
static void deliver_end(struct call *c, bool ok)
{
    struct status st;

    if (method_takes_stream(c->binding->method->kind)) {
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

    account_message_received(c, grpc_byte_buffer_length(bytes));
    if (message == NULL) {
        call_finish(c, &st);
        return;
    }
    account_note_sandbox(c, message);
    deliver(c, message);
    protobuf_c_message_free_unpacked(message, NULL);
}

void call_on_received(struct op *op, bool ok)
{
    struct call *c = container_of(op, struct call, received);
    grpc_byte_buffer *incoming = c->incoming;
    bool bidi = method_takes_stream(c->binding->method->kind);

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
        call_receive(c);
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

void call_on_closed(struct op *op, bool ok)
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
