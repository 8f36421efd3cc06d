/* Filling struct sandbox_error: from what a server sent, or from what the library found. Pure. */
#pragma once

#include "client/include/sandbox.h"

#include <stddef.h>

/* A fault found here. Always false, for `return error_local(...)`. err may be NULL. */
bool error_local(struct sandbox_error *err, enum sandbox_code code, const char *reason,
                 const char *fmt, ...) __attribute__((format(printf, 4, 5)));

/*
 * The outcome of a call: its code and message, and the details if it has any: a serialized
 * google.rpc.Status from grpc-status-details-bin. Details that make no sense are ignored, since the
 * code and the message stand without them.
 */
void error_decode(struct sandbox_error *err, int code, const char *message, size_t message_len,
                  const void *details, size_t details_len);

/* Whether a sandboxd said it, and not the network or a proxy on the way. */
bool error_is_from_api(const struct sandbox_error *err);

/* Whether the same call may succeed a little later, or at another address. */
bool error_is_passing(const struct sandbox_error *err);

/* Whether the server turned the call away before it had any effect. */
bool error_is_refusal(const struct sandbox_error *err);
