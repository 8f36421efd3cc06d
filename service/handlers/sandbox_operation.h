/*
 * What RPCs about one sandbox share: its id is checked and copied, and most end with the sandbox as
 * it is afterwards.
 */
#pragma once

#include "google/protobuf/duration.pb-c.h"
#include "google/protobuf/timestamp.pb-c.h"
#include "service/handlers/operation.h"
#include "service/handlers/validate.h"

struct sandbox_operation {
    struct operation o;
    char sandbox_id[VALIDATE_ID_MAX + 1];
    struct e2b_sandbox sandbox; /* for the adapter to fill */
    bool flag;                  /* the same; whatever the RPC asks beside it */
};

/* Begins the call's operation; start E2B's next, on o.op. NULL: refused already. */
struct sandbox_operation *sandbox_operation_new(struct call *c, const char *sandbox_id,
                                                void (*answer)(struct operation *o));

enum { TIMEOUT_DEFAULT_S = 600 };

/* The longest time that the call's server lets anybody ask for, in whole seconds. */
int64_t timeout_max_s(const struct call *c);

/* A sandbox's time in whole seconds, rounded up, from 1 to max_s. d NULL: default_s (0: required),
 * or max_s if that is less. */
bool timeout_read(const Google__Protobuf__Duration *d, int64_t default_s, int64_t max_s,
                  int64_t *ret_s, struct status *st);

/* Of wall clock. */
void timestamp_set(Google__Protobuf__Timestamp *t, int64_t ns);
