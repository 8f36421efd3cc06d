/*
 * See rpc.h. Each call has a completion queue of its own, driven by the thread that waits for it:
 * no background thread, and a blocked handler blocks nobody else. Tags are operations; gRPC holds
 * `pending` of them, and a call is freed when the last one has come back.
 */
#include "client/rpc.h"

#include "client/connection.h"
#include "client/error.h"
#include "common/base/clock.h"
#include "common/base/mem.h"

#include <grpc/byte_buffer_reader.h>
#include <grpc/grpc.h>
#include <grpc/support/alloc.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum op { OP_START = 1, OP_STATUS, OP_MESSAGE, OP_SEND, OP_WAKE };

struct rpc {
    struct endpoint *endpoint;     /* borrowed */
    struct connection *connection; /* a reference */
    grpc_completion_queue *cq;
    grpc_call *call;
    atomic_uint pending; /* operations that gRPC holds */
    bool sending;        /* the request, or OP_SEND, is one of them; or it failed */
    atomic_bool waking;  /* OP_WAKE is */
    bool many;           /* RPC_MANY */
    bool reading;        /* OP_MESSAGE is one of them */
    bool drained;        /* no message will follow */
    bool have_status;
    grpc_metadata_array initial, trailing;
    grpc_byte_buffer *message;
    grpc_status_code code;
    grpc_slice details;
    struct sandbox_error error;
};

static void *tag(enum op op)
{
    return (void *)(intptr_t)op;
}

void rpc_library_init(void)
{
    grpc_init();
}

void rpc_library_deinit(void)
{
    grpc_shutdown();
}

static grpc_byte_buffer *pack(const ProtobufCMessage *m)
{
    grpc_slice slice = grpc_slice_malloc(protobuf_c_message_get_packed_size(m));

    protobuf_c_message_pack(m, GRPC_SLICE_START_PTR(slice));

    grpc_byte_buffer *bytes = grpc_raw_byte_buffer_create(&slice, 1);

    grpc_slice_unref(slice);
    return bytes;
}

static void start_batch(struct rpc *rpc, const grpc_op *ops, size_t n, enum op op)
{
    /* An error here is a misuse of gRPC's interface, by us: there is nobody to report it to. */
    rpc->pending++;
    if (grpc_call_start_batch(rpc->call, ops, n, tag(op), NULL) != GRPC_CALL_OK)
        abort();
}

static void start_request(struct rpc *rpc, enum rpc_requests requests,
                          const ProtobufCMessage *request, const struct sandbox_pair *metadata,
                          size_t n_metadata)
{
    grpc_metadata *pairs = xcalloc(n_metadata, sizeof(*pairs));
    grpc_byte_buffer *bytes = pack(request);

    for (size_t i = 0; i < n_metadata; i++) {
        pairs[i].key = grpc_slice_from_copied_string(metadata[i].key);
        pairs[i].value = grpc_slice_from_copied_string(metadata[i].value);
    }

    grpc_op ops[] = {
        {.op = GRPC_OP_SEND_INITIAL_METADATA,
         .data.send_initial_metadata = {.count = n_metadata, .metadata = pairs}},
        {.op = GRPC_OP_SEND_MESSAGE, .data.send_message.send_message = bytes},
        {.op = GRPC_OP_SEND_CLOSE_FROM_CLIENT},
    };

    rpc->sending = true;
    start_batch(rpc, ops, requests == RPC_ONE ? 3 : 2, OP_SEND);
    grpc_byte_buffer_destroy(bytes);
    for (size_t i = 0; i < n_metadata; i++) {
        grpc_slice_unref(pairs[i].key);
        grpc_slice_unref(pairs[i].value);
    }
    free(pairs);
}

static void start_initial(struct rpc *rpc)
{
    grpc_op op = {.op = GRPC_OP_RECV_INITIAL_METADATA,
                  .data.recv_initial_metadata.recv_initial_metadata = &rpc->initial};

    start_batch(rpc, &op, 1, OP_START);
}

static void start_status(struct rpc *rpc)
{
    grpc_op op = {.op = GRPC_OP_RECV_STATUS_ON_CLIENT,
                  .data.recv_status_on_client = {.trailing_metadata = &rpc->trailing,
                                                 .status = &rpc->code,
                                                 .status_details = &rpc->details}};

    start_batch(rpc, &op, 1, OP_STATUS);
}

static void start_reading(struct rpc *rpc)
{
    grpc_op op = {.op = GRPC_OP_RECV_MESSAGE, .data.recv_message.recv_message = &rpc->message};

    rpc->reading = true;
    start_batch(rpc, &op, 1, OP_MESSAGE);
}

struct rpc *rpc_start(struct endpoint *e, const char *service, const char *method,
                      enum rpc_requests requests, const ProtobufCMessage *request,
                      const struct sandbox_pair *metadata, size_t n_metadata, int64_t deadline_ns)
{
    struct rpc *rpc = xcalloc(1, sizeof(*rpc));
    char *path = xasprintf("/%s/%s", service, method);
    grpc_slice path_slice = grpc_slice_from_copied_string(path);

    rpc->endpoint = e;
    rpc->many = requests == RPC_MANY;
    rpc->details = grpc_empty_slice();
    grpc_metadata_array_init(&rpc->initial);
    grpc_metadata_array_init(&rpc->trailing);
    rpc->cq = grpc_completion_queue_create_for_next(NULL);
    rpc->connection = connection_get(e);
    rpc->call =
        grpc_channel_create_call(rpc->connection->channel, NULL, GRPC_PROPAGATE_DEFAULTS, rpc->cq,
                                 path_slice, NULL, grpc_deadline(deadline_ns), NULL);
    grpc_slice_unref(path_slice);
    free(path);
    start_request(rpc, requests, request, metadata, n_metadata);
    start_initial(rpc);
    start_status(rpc);
    return rpc;
}

bool rpc_send(struct rpc *rpc, const ProtobufCMessage *request)
{
    grpc_op op = {.op = GRPC_OP_SEND_MESSAGE};

    if (rpc->sending)
        return false;
    rpc->sending = true;
    op.data.send_message.send_message = pack(request);
    start_batch(rpc, &op, 1, OP_SEND);
    grpc_byte_buffer_destroy(op.data.send_message.send_message);
    return true;
}

bool rpc_close(struct rpc *rpc)
{
    grpc_op op = {.op = GRPC_OP_SEND_CLOSE_FROM_CLIENT};

    if (rpc->sending)
        return false;
    rpc->sending = true;
    start_batch(rpc, &op, 1, OP_SEND);
    return true;
}

/* An empty batch comes back at once. */
void rpc_wake(struct rpc *rpc)
{
    if (!atomic_exchange(&rpc->waking, true))
        start_batch(rpc, NULL, 0, OP_WAKE);
}

static void take_status(struct rpc *rpc)
{
    const grpc_slice *found = NULL;

    for (size_t i = 0; i < rpc->trailing.count; i++) {
        if (grpc_slice_str_cmp(rpc->trailing.metadata[i].key, "grpc-status-details-bin") == 0)
            found = &rpc->trailing.metadata[i].value;
    }
    rpc->have_status = true;
    if (rpc->error.local)
        return; /* found here, before: the status is only the echo of our cancel */
    error_decode(&rpc->error, (int)rpc->code, (const char *)GRPC_SLICE_START_PTR(rpc->details),
                 GRPC_SLICE_LENGTH(rpc->details),
                 found != NULL ? GRPC_SLICE_START_PTR(*found) : NULL,
                 found != NULL ? GRPC_SLICE_LENGTH(*found) : 0);
}

/*
 * One completed operation. gRPC fills in its results before it tells, so a message, say, may only
 * be looked at when its own operation has come back.
 */
static enum op take_event(struct rpc *rpc, const grpc_event *event)
{
    enum op op = (enum op)(intptr_t)event->tag;

    rpc->pending--;
    switch (op) {
    case OP_START:
        break;
    case OP_SEND:
        /* Where sending failed nothing more can be sent; the status, which says why, will come. */
        rpc->sending = !event->success;
        break;
    case OP_WAKE:
        rpc->waking = false;
        break;
    case OP_STATUS:
        take_status(rpc);
        break;
    case OP_MESSAGE:
        rpc->reading = false;
        rpc->drained = rpc->message == NULL;
        break;
    }
    return op;
}

static void drop_message(struct rpc *rpc)
{
    if (rpc->message != NULL)
        grpc_byte_buffer_destroy(rpc->message);
    rpc->message = NULL;
}

static ProtobufCMessage *unpack(struct rpc *rpc, const ProtobufCMessageDescriptor *type)
{
    ProtobufCMessage *m = NULL;
    grpc_byte_buffer_reader reader;

    if (grpc_byte_buffer_reader_init(&reader, rpc->message)) {
        grpc_slice bytes = grpc_byte_buffer_reader_readall(&reader);

        m = protobuf_c_message_unpack(type, NULL, GRPC_SLICE_LENGTH(bytes),
                                      GRPC_SLICE_START_PTR(bytes));
        grpc_slice_unref(bytes);
        grpc_byte_buffer_reader_destroy(&reader);
    }
    drop_message(rpc);
    return m;
}

enum rpc_event rpc_next(struct rpc *rpc, const ProtobufCMessageDescriptor *type, int64_t until_ns,
                        ProtobufCMessage **ret)
{
    while (!(rpc->have_status && rpc->drained)) {
        if (!rpc->reading && !rpc->drained)
            start_reading(rpc);

        grpc_event event = grpc_completion_queue_next(rpc->cq, grpc_deadline(until_ns), NULL);

        if (event.type == GRPC_QUEUE_TIMEOUT)
            return RPC_TIMEOUT;
        enum op op = take_event(rpc, &event);

        if (op == OP_WAKE || (op == OP_SEND && rpc->many && !rpc->sending))
            return RPC_AGAIN;
        if (op != OP_MESSAGE || rpc->message == NULL)
            continue;
        if (rpc->error.local) {
            drop_message(rpc);
            continue;
        }
        *ret = unpack(rpc, type);
        if (*ret != NULL)
            return RPC_MESSAGE;
        error_local(&rpc->error, SANDBOX_DATA_LOSS, "BAD_RESPONSE",
                    "the server sent something that is no %s", type->short_name);
        rpc_cancel(rpc);
    }
    return RPC_END;
}

const struct sandbox_error *rpc_error(const struct rpc *rpc)
{
    return &rpc->error;
}

void rpc_abandon_connection(struct rpc *rpc)
{
    connection_abandon(rpc->endpoint, rpc->connection);
}

void rpc_cancel(struct rpc *rpc)
{
    grpc_call_cancel(rpc->call, NULL);
}

void rpc_free(struct rpc *rpc)
{
    if (rpc == NULL)
        return;
    if (!rpc->have_status)
        rpc_cancel(rpc);
    while (rpc->pending > 0) {
        grpc_event event =
            grpc_completion_queue_next(rpc->cq, gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL);

        take_event(rpc, &event);
    }
    drop_message(rpc);
    grpc_metadata_array_destroy(&rpc->initial);
    grpc_metadata_array_destroy(&rpc->trailing);
    grpc_slice_unref(rpc->details);
    grpc_call_unref(rpc->call);
    grpc_queue_destroy(rpc->cq);
    connection_put(rpc->endpoint, rpc->connection);
    free(rpc);
}
