/* What the files below e2b.h share. */
#pragma once

#include "service/e2b/address.h"
#include "service/e2b/e2b.h"
#include "service/e2b/loop.h"

#include "common/base/list.h"

#include <stdatomic.h>

#define E2B_ENVD_PORT 49983

enum {
    E2B_ID_MAX = 128, /* what we believe of a sandbox's id, either way */
    E2B_MAX_LOOPS = 2,
    E2B_RESPONSE_MAX = 256 * 1024, /* of the control plane, but for lists */
    E2B_LIST_MAX = 8 * 1024 * 1024,
    E2B_ERROR_MAX = 64 * 1024,
};

struct request;
struct scope;

struct e2b {
    struct e2b_config config; /* its strings are ours */
    char *api_url;            /* without a slash at the end */
    char *recorder_name;      /* "recorder-<first 16 hex digits of its SHA-256>" */
    struct address_cache *addresses;
    struct upstream *upstream; /* owned */
    unsigned n_loops;
    struct {
        struct loop *loop;
        struct list detached; /* requests nobody waits for; the loop's thread only */
    } loops[E2B_MAX_LOOPS];
    atomic_uint next_loop;
    atomic_size_t queued; /* bytes that wait in streams */
};

/* 32 hex digits that nobody else makes. */
void e2b_nonce(struct loop *l, char ret[33]);
