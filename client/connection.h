/* An address's channel, as calls use it: what endpoint.c and rpc.c, which know gRPC core, share. */
#pragma once

#include "client/endpoint.h"

#include <grpc/grpc.h>

/*
 * A channel, kept until the last call on it is over: a call that is started while its channel is
 * destroyed may hang in gRPC for ever.
 */
struct connection {
    grpc_channel *channel; /* owned */
    unsigned refs;         /* under the endpoint's lock: the endpoint and each call */
};

/* A reference to what new calls at this address use. */
struct connection *connection_get(struct endpoint *e);
void connection_put(struct endpoint *e, struct connection *c);

/* New calls use another one. Nothing happens when they do already; NULL is fine. */
void connection_abandon(struct endpoint *e, struct connection *c);

/* A monotonic time for gRPC; INT64_MAX: never. */
gpr_timespec grpc_deadline(int64_t ns);

/* Takes what is still in it, which nobody waits for. */
void grpc_queue_destroy(grpc_completion_queue *cq);
