/* See rate.h. Only the moment at which the bucket would be full is kept. */
#include "runtime/local/api/rate.h"

#include "common/base/clock.h"

static int64_t seconds_up(int64_t ns)
{
    return (ns + NS_PER_S - 1) / NS_PER_S;
}

struct rate_answer rate_take(struct rate *r, int64_t burst, int64_t per_ns, int64_t now_ns)
{
    int64_t token_ns = per_ns / burst;
    int64_t full_at_ns = r->full_at_ns > now_ns ? r->full_at_ns : now_ns;
    int64_t missing_ns = full_at_ns + token_ns - now_ns; /* once this one is taken */
    struct rate_answer a = {.allowed = missing_ns <= burst * token_ns};

    if (a.allowed) {
        r->full_at_ns = full_at_ns + token_ns;
        a.remaining = burst - (missing_ns + token_ns - 1) / token_ns;
        a.reset_s = seconds_up(missing_ns);
        return a;
    }
    a.reset_s = seconds_up(full_at_ns - now_ns);
    a.retry_s = seconds_up(missing_ns - burst * token_ns);
    if (a.retry_s < 1)
        a.retry_s = 1;
    return a;
}
