/* See retry.h. */
#include "service/e2b/retry.h"

#include "common/base/clock.h"

int64_t retry_jitter(int64_t value, int percent, uint64_t random)
{
    int64_t span = value / 100 * percent;

    return span > 0 ? value - span + (int64_t)(random % (uint64_t)(2 * span + 1)) : value;
}

bool retry_next(struct retry *r, enum again again, bool safe, int64_t told_ms, int64_t now_ns,
                int64_t deadline_ns, uint64_t random, int64_t *ret_at_ns)
{
    int64_t wait_ns;

    r->attempts++;
    if (again == AGAIN_NEVER || (again == AGAIN_IF_SAFE && !safe))
        return false;
    if (again == AGAIN_IF_TOLD && told_ms < 0)
        return false;
    if (r->attempts >= RETRY_ATTEMPTS || told_ms > RETRY_LONGEST_WAIT_S * 1000)
        return false;
    wait_ns = (RETRY_FIRST_MS * NS_PER_MS) << (r->attempts - 1);
    wait_ns = retry_jitter(wait_ns, 50, random);
    /* Everyone else was told the same, so the jitter comes on top. */
    if (told_ms > 0)
        wait_ns += told_ms * NS_PER_MS;
    if (wait_ns >= deadline_ns - now_ns)
        return false;
    *ret_at_ns = now_ns + wait_ns;
    return true;
}
