/*
 * Calls over gRPC: this and endpoint.h are all of the library that knows gRPC core. A call sends
 * one request, or with RPC_MANY any number, and reads messages until its status; a unary call is
 * one that has a single message.
 */
#pragma once

#include "client/endpoint.h"
#include "client/include/sandbox.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct rpc; /* one call */

/* Balanced, for everything below. */
void rpc_library_init(void);
void rpc_library_deinit(void);

enum rpc_event {
    RPC_MESSAGE, /* *ret is the next message, to be freed by the caller */
    RPC_END,     /* the call is over, see rpc_error() */
    RPC_AGAIN,   /* RPC_MANY: rpc_wake() was called, or what was sent is out */
    RPC_TIMEOUT, /* nothing happened until until_ns */
};

enum rpc_requests { RPC_ONE, RPC_MANY };

/*
 * Starts a call of "/service/method". Never fails here; failures are its status. `deadline_ns` is
 * monotonic, INT64_MAX for none. The metadata is only read now.
 */
struct rpc *rpc_start(struct endpoint *e, const char *service, const char *method,
                      enum rpc_requests requests, const ProtobufCMessage *request,
                      const struct sandbox_pair *metadata, size_t n_metadata, int64_t deadline_ns);

/* RPC_MANY: sends another request. False: the one before is not out yet (RPC_AGAIN will come). */
bool rpc_send(struct rpc *rpc, const ProtobufCMessage *request);

/* RPC_MANY: no request will follow. False: as with rpc_send(). */
bool rpc_close(struct rpc *rpc);

/* RPC_MANY, from any thread while the call exists: rpc_next() returns RPC_AGAIN soon. */
void rpc_wake(struct rpc *rpc);

/* Waits for what comes next. A message that cannot be decoded ends the call (BAD_RESPONSE). */
enum rpc_event rpc_next(struct rpc *rpc, const ProtobufCMessageDescriptor *type, int64_t until_ns,
                        ProtobufCMessage **ret);

/* How it ended; after RPC_END. SANDBOX_OK when all is well. */
const struct sandbox_error *rpc_error(const struct rpc *rpc);

/*
 * The call's connection did not serve well: later calls make a new one, at once, instead of waiting
 * for gRPC's own reconnection. Other calls on it go on.
 */
void rpc_abandon_connection(struct rpc *rpc);

/* From any thread while the call exists: it ends soon, with CANCELLED. */
void rpc_cancel(struct rpc *rpc);

/* Cancels it if need be, and waits for gRPC to let go (no network is waited for). NULL is fine. */
void rpc_free(struct rpc *rpc);
