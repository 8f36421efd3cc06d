/* The two clocks, as plain nanoseconds. Deadlines use the monotonic one, records the wall one. */
#pragma once

#include <stdint.h>
#include <time.h>

#define NS_PER_S INT64_C(1000000000)
#define NS_PER_MS INT64_C(1000000)

static inline int64_t clock_ns(clockid_t id)
{
    struct timespec ts;

    clock_gettime(id, &ts);
    return (int64_t)ts.tv_sec * NS_PER_S + ts.tv_nsec;
}

static inline int64_t clock_monotonic_ns(void)
{
    return clock_ns(CLOCK_MONOTONIC);
}

/* As the monotonic one, and it goes on while the machine sleeps. */
static inline int64_t clock_boottime_ns(void)
{
    return clock_ns(CLOCK_BOOTTIME);
}

static inline int64_t clock_wall_ns(void)
{
    return clock_ns(CLOCK_REALTIME);
}
