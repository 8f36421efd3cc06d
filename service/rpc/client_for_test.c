/* See client_for_test.h. Every client has a channel and a pluck queue of its own. */
#include "service/rpc/client_for_test.h"

#include <grpc/byte_buffer.h>
#include <grpc/grpc_security.h>
#include <grpc/support/time.h>
#include <stdlib.h>
#include <string.h>

void client_batch(struct client *k, const grpc_op *ops, size_t n)
{
    if (grpc_call_start_batch(k->call, ops, n, &k->tag, NULL) != GRPC_CALL_OK)
        abort(); /* this test asks for something that cannot be */
    grpc_completion_queue_pluck(k->cq, &k->tag, gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL);
}

void client_start(struct client *k, const char *address, const char *path, int64_t deadline_ms)
{
    grpc_channel_credentials *plain = grpc_insecure_credentials_create();
    gpr_timespec deadline = deadline_ms == 0
                                ? gpr_inf_future(GPR_CLOCK_MONOTONIC)
                                : gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC),
                                               gpr_time_from_millis(deadline_ms, GPR_TIMESPAN));
    grpc_arg own = {.type = GRPC_ARG_INTEGER,
                    .key = (char *)GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL,
                    .value.integer = 1};
    grpc_channel_args args = {.num_args = 1, .args = &own};
    grpc_op ops[] = {{.op = GRPC_OP_SEND_INITIAL_METADATA}};

    memset(k, 0, sizeof(*k));
    k->channel = grpc_channel_create(address, plain, &args);
    grpc_channel_credentials_release(plain);
    k->cq = grpc_completion_queue_create_for_pluck(NULL);
    k->call = grpc_channel_create_call(k->channel, NULL, 0, k->cq,
                                       grpc_slice_from_static_string(path), NULL, deadline, NULL);
    k->message = grpc_empty_slice();
    grpc_metadata_array_init(&k->initial);
    grpc_metadata_array_init(&k->trailing);
    client_batch(k, ops, 1);
}

void client_send(struct client *k, const void *data, size_t len, bool close)
{
    grpc_slice slice = grpc_slice_from_copied_buffer(data, len);
    grpc_byte_buffer *buffer = grpc_raw_byte_buffer_create(&slice, 1);
    grpc_op ops[2] = {{.op = GRPC_OP_SEND_MESSAGE, .data.send_message.send_message = buffer},
                      {.op = GRPC_OP_SEND_CLOSE_FROM_CLIENT}};

    client_batch(k, ops, close ? 2 : 1);
    grpc_byte_buffer_destroy(buffer);
    grpc_slice_unref(slice);
}

long client_receive(struct client *k)
{
    grpc_byte_buffer *buffer = NULL;
    grpc_op ops[2] = {{.op = GRPC_OP_RECV_MESSAGE, .data.recv_message.recv_message = &buffer},
                      {.op = GRPC_OP_RECV_INITIAL_METADATA,
                       .data.recv_initial_metadata.recv_initial_metadata = &k->initial}};
    long len = -1;

    client_batch(k, ops, k->received ? 1 : 2);
    k->received = true;
    if (buffer != NULL) {
        len = (long)grpc_byte_buffer_length(buffer);
        grpc_byte_buffer_destroy(buffer);
    }
    return len;
}

/* Core gives the status only to who has asked for initial metadata. */
grpc_status_code client_status(struct client *k)
{
    grpc_op ops[2] = {{.op = GRPC_OP_RECV_STATUS_ON_CLIENT,
                       .data.recv_status_on_client = {.trailing_metadata = &k->trailing,
                                                      .status = &k->code,
                                                      .status_details = &k->message}},
                      {.op = GRPC_OP_RECV_INITIAL_METADATA,
                       .data.recv_initial_metadata.recv_initial_metadata = &k->initial}};

    client_batch(k, ops, k->received ? 1 : 2);
    return k->code;
}

void client_end(struct client *k)
{
    grpc_call_unref(k->call);
    grpc_metadata_array_destroy(&k->initial);
    grpc_metadata_array_destroy(&k->trailing);
    grpc_slice_unref(k->message);
    grpc_completion_queue_shutdown(k->cq);
    grpc_completion_queue_destroy(k->cq);
    grpc_channel_destroy(k->channel);
}

const grpc_metadata *client_trailer(const struct client *k, const char *key)
{
    for (size_t i = 0; i < k->trailing.count; i++) {
        if (grpc_slice_str_cmp(k->trailing.metadata[i].key, key) == 0)
            return &k->trailing.metadata[i];
    }
    return NULL;
}
