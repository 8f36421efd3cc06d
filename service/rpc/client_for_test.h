/* A gRPC client in few words, for tests: one call at a time, every step waits for its end. */
#pragma once

#include <grpc/grpc.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct client {
    grpc_channel *channel;
    grpc_completion_queue *cq;
    grpc_call *call;
    grpc_metadata_array initial, trailing;
    grpc_status_code code;
    grpc_slice message;
    bool received; /* initial metadata was asked for */
    int tag;
};

/* deadline_ms: 0 for none. A connection of its own, which no other client shares. */
void client_start(struct client *k, const char *address, const char *path, int64_t deadline_ms);
void client_batch(struct client *k, const grpc_op *ops, size_t n);
void client_send(struct client *k, const void *data, size_t len, bool close);
/* The next message's length; -1 at the end. */
long client_receive(struct client *k);
/* Waits until every message has been received, or the call is given up. */
grpc_status_code client_status(struct client *k);
/* After client_status(); NULL when there is none of that name. */
const grpc_metadata *client_trailer(const struct client *k, const char *key);
void client_end(struct client *k);
