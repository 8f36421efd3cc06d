/* Who calls, as handlers and the adapter see it. */
#pragma once

#include "common/base/list.h"
#include "service/e2b/e2b.h"
#include "service/rpc/call.h"

/* Every pass is part of one. */
struct caller {
    struct pass pass;
    struct e2b_caller e2b;
};

/* For an operation on behalf of this call; NULL, with which nothing is done, when no gate let it
 * in. */
static inline const struct e2b_caller *caller_of(const struct call *c)
{
    struct pass *pass = call_pass(c);

    return pass != NULL ? &container_of(pass, struct caller, pass)->e2b : NULL;
}
