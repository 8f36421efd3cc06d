/*
 * A unary RPC that is one operation of E2B: what all such handlers share. The handler embeds a
 * struct operation first in its state, starts the E2B operation on operation.op, and is called back
 * once.
 */
#pragma once

#include "common/base/list.h"
#include "service/app.h"
#include "service/e2b/e2b.h"
#include "service/rpc/call.h"

struct operation {
    struct call *call; /* borrowed: it owns this */
    struct e2b_op op;
    void (*answer)(struct operation *o); /* it went well: call_reply() */
    /* It did not: true when it goes on with something else. NULL: it ends the call. */
    bool (*failed)(struct operation *o);
    void (*release)(struct operation *o); /* frees what the state owns, then the state */
};

/* Prepares the op and hooks the state to the call; start the E2B operation next. */
void operation_begin(struct operation *o, struct call *c);

/* From answer() and failed(): the op is about to be started once more; the call goes on. */
void operation_again(struct operation *o);

struct e2b *operation_e2b(const struct operation *o);
