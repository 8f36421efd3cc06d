/*
 * The way out: one message in flight at a time, then the status. A verdict that comes while a
 * message is in flight waits for it.
 */
#include "service/rpc/account.h"
#include "service/rpc/call_impl.h"

#include <assert.h>
#include <grpc/byte_buffer.h>
#include <stdlib.h>

/* --- ending --- */

void call_on_ended(struct op *op, bool ok)
{
    struct call *c = container_of(op, struct call, ended);

    trailers_deinit(&c->trailers);
    call_unlist_for_drain(c);
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

    call_start_batch(c, ops, n, &c->ended);
}

static bool give_verdict(struct call *c, const struct status *st)
{
    if (c->finished)
        return false;
    c->finished = true;
    c->verdict = *st;
    call_stop_timers(c);
    account_call_ended(c);
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

void call_on_sent(struct op *op, bool ok)
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
    account_message_sent(c, GRPC_SLICE_LENGTH(slice));
    grpc_slice_unref(slice);
    c->sending = true;
    call_start_batch(c, ops, add_message_ops(c, ops, message, flags), &c->sent);
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
    if (!c->finished) {
        account_note_sandbox(c, message);
        account_message_sent(c, GRPC_SLICE_LENGTH(slice));
    }
    grpc_slice_unref(slice);
    if (give_verdict(c, &STATUS_INIT)) {
        n = add_message_ops(c, ops, buffer, 0);
        n += add_status_ops(c, ops + n);
        call_start_batch(c, ops, n, &c->ended);
    }
    grpc_byte_buffer_destroy(buffer);
}
