/* Whether and when a failed attempt is made again. Pure: time and randomness are passed in. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* May the same request be sent again after it failed this way? */
enum again {
    AGAIN_NEVER,
    AGAIN_IF_SAFE, /* it may have been carried out: only when repeating does no harm */
    AGAIN_IF_TOLD, /* it was not carried out; only when the peer says how long to wait */
    AGAIN_ALWAYS,  /* it was certainly not carried out */
};

enum {
    RETRY_ATTEMPTS = 3,
    RETRY_FIRST_MS = 100,      /* doubled for each further attempt, then ±50% */
    RETRY_LONGEST_WAIT_S = 30, /* a peer that asks for more is not waited for */
};

struct retry {
    int attempts; /* made so far */
};

/*
 * After a failed attempt. told_ms: what the peer asked to wait; -1: nothing. True: try again at
 * *ret_at_ns.
 */
bool retry_next(struct retry *r, enum again again, bool safe, int64_t told_ms, int64_t now_ns,
                int64_t deadline_ns, uint64_t random, int64_t *ret_at_ns);

/* value ± percent. */
int64_t retry_jitter(int64_t value, int percent, uint64_t random);
