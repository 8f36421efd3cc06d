/* A unary call with its repetitions; calls.c names the methods, acker.c is in a hurry. */
#pragma once

#include "client/include/sandbox.h"

enum unary_repeat {
    UNARY_ONCE,  /* repeated only if the first attempt cannot have had an effect */
    UNARY_AGAIN, /* an attempt may take all the time there is */
    UNARY_QUICK, /* as AGAIN; an address that takes longer than 10 s is left for another */
};

/* As sandbox_call(), which documents it. ret and err may be NULL. timeout_ms is for all attempts.
 */
bool unary_call(struct sandbox_client *client, const ProtobufCServiceDescriptor *service,
                const char *method, const ProtobufCMessage *request, enum unary_repeat repeat,
                int64_t timeout_ms, ProtobufCMessage **ret, struct sandbox_error *err);
