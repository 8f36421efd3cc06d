/* RunCommand and Logs: one durable stream. See follow.c and follow_start.c. */
#pragma once

#include "service/rpc/call.h"

#include <stdbool.h>
#include <stdint.h>

void run_command_start(struct call *c, const ProtobufCMessage *request);
void logs_start(struct call *c, const ProtobufCMessage *request);

/*
 * The same view for a handler that has more to say on its call: it keeps the call's handler and
 * passes on what the call tells. Everything on the call's worker.
 */
struct follow;

struct follow_owner {
    /* A message may be sent: sends one of the owner's and returns true, or false if it has none. */
    bool (*interject)(void *owner);
    /* The call has its verdict. */
    void (*finished)(void *owner);
};

/* Ids are valid. until: "exited" or "closed". The result lives until follow_free(). */
struct follow *follow_open(struct call *c, const char *sandbox_id, const char *command_id,
                           uint64_t from_seq, const char *until, const struct follow_owner *owner,
                           void *ctx);
/* To be called from the call's destroy alone. NULL is fine. */
void follow_free(struct follow *f);
/* call_can_send() became true, or the owner has something to interject. */
void follow_step(struct follow *f);
void follow_gone(struct follow *f);
void follow_drain(struct follow *f);
/* Ends the call as a failure; the resume point is added. */
void follow_fail(struct follow *f, const struct status *st);
