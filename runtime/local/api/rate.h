/* How often something may be done: a bucket of tokens that fills at an even pace. Pure. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct rate {
    int64_t full_at_ns; /* on the monotonic clock; a past time: it is full */
};

/* What a client is told. */
struct rate_answer {
    bool allowed;
    int64_t remaining; /* that could follow at once */
    int64_t reset_s;   /* until all could, rounded up */
    int64_t retry_s;   /* until the next one could, when this one may not; at least 1 */
};

/* Takes one of burst tokens, which come back over per_ns. */
struct rate_answer rate_take(struct rate *r, int64_t burst, int64_t per_ns, int64_t now_ns);
