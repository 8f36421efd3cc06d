/*
 * Timers by their time: a binary heap of borrowed members of other structs, each of which knows its
 * slot, so that moving and stopping need no search. Pure; the time is passed in. For one thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct timer { /* zeroed: not set */
    int64_t at_ns;
    size_t slot; /* place in the heap, from 1; 0: not set */
};

struct timers {          /* zeroed: empty */
    struct timer **heap; /* owned; the timers are borrowed */
    size_t n, size;
};

void timers_deinit(struct timers *t);

static inline bool timer_is_set(const struct timer *timer)
{
    return timer->slot != 0;
}

/* Sets it, or moves it. */
void timers_set(struct timers *t, struct timer *timer, int64_t at_ns);
/* Also when it is not set. */
void timers_stop(struct timers *t, struct timer *timer);

/* The next one's time; INT64_MAX without any. */
int64_t timers_next_ns(const struct timers *t);
/* Takes one whose time has come: it is not set any more. NULL when none has. */
struct timer *timers_take_due(struct timers *t, int64_t now_ns);
