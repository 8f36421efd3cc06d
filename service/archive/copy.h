/*
 * Copies what a sandbox has recorded into an archive: of each command its journal and what is known
 * of it. What is there already is not copied again, so a copy that was cut short goes on where it
 * was when it is tried again, and any number of pods may do it at once.
 */
#pragma once

#include "service/archive/store.h"
#include "service/e2b/e2b.h"

#include <stdatomic.h>

struct copy_args {
    struct e2b *e2b;
    struct store *store;
    const struct e2b_caller *caller;
    const char *owner, *sandbox_id;
    int64_t until_ns; /* monotonic */
    const atomic_bool *stopping;
};

struct copy_result {
    uint64_t commands; /* that were new, or had more */
    uint64_t bytes;    /* of their journals */
    uint64_t cut;      /* of them, those whose journal could not be read to its end */
};

/* Waits, on the caller's thread. NOT_FOUND, SANDBOX_NOT_FOUND: there is no such sandbox. */
bool copy_sandbox(const struct copy_args *a, struct copy_result *ret, struct status *st);
