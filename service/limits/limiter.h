/*
 * How much may be under way at once, and how often a sandbox may be made: for each tenant, and for
 * the pod as a whole. A tenant over its quota is told so (RESOURCE_EXHAUSTED: it would be the same
 * on every pod); what this pod has no room for may go to another (UNAVAILABLE). Quotas count on
 * each pod by itself: pods share nothing. Any thread; never blocks for long.
 */
#pragma once

#include "common/base/status.h"

#include <stdbool.h>
#include <stdint.h>

/* 0 everywhere: no limit. */
struct limits {
    int64_t calls;              /* in flight, streams included */
    int64_t streams;            /* of these, open streams */
    int64_t creates_per_minute; /* as many at once, then evenly; not of the pod */
};

struct limiter;
struct share; /* what one tenant has under way */

enum { LIMITER_IDLE_MAX = 4096 }; /* tenants without calls whose account is kept */

struct limiter *limiter_new(const struct limits *pod);
void limiter_free(struct limiter *l); /* every call has left; NULL is fine */

struct limiter_call {
    const char *tenant;          /* "": those that are not told apart, together */
    const struct limits *limits; /* the tenant's; borrowed for this call */
    bool stream;
    bool pressed;   /* the pod is out of memory for streams */
    bool creates;   /* a sandbox */
    int64_t now_ns; /* monotonic */
    uint64_t random;
};

/* False: st says which limit, and when to come again; nothing was counted. */
bool limiter_enter(struct limiter *l, const struct limiter_call *c, struct share **ret,
                   struct status *st);
void limiter_leave(struct limiter *l, struct share *s, bool stream);

/* For whoever watches. */
struct limiter_counts {
    int64_t calls, streams, tenants;
    int64_t refused_tenant, refused_pod; /* since the start */
};
void limiter_count(struct limiter *l, struct limiter_counts *ret);
