/* See timers.h. Used by every event loop. */
#include "common/base/timers.h"

#include "common/base/mem.h"

#include <stdlib.h>

void timers_deinit(struct timers *t)
{
    free(t->heap);
    *t = (struct timers){0};
}

static struct timer *at(const struct timers *t, size_t slot)
{
    return t->heap[slot - 1];
}

static void place(struct timers *t, size_t slot, struct timer *timer)
{
    t->heap[slot - 1] = timer;
    timer->slot = slot;
}

static void sift_up(struct timers *t, struct timer *timer)
{
    size_t slot = timer->slot;

    while (slot > 1 && at(t, slot / 2)->at_ns > timer->at_ns) {
        place(t, slot, at(t, slot / 2));
        slot /= 2;
    }
    place(t, slot, timer);
}

static void sift_down(struct timers *t, struct timer *timer)
{
    size_t slot = timer->slot;

    for (;;) {
        size_t child = 2 * slot;

        if (child < t->n && at(t, child + 1)->at_ns < at(t, child)->at_ns)
            child++;
        if (child > t->n || at(t, child)->at_ns >= timer->at_ns)
            break;
        place(t, slot, at(t, child));
        slot = child;
    }
    place(t, slot, timer);
}

void timers_set(struct timers *t, struct timer *timer, int64_t at_ns)
{
    if (!timer_is_set(timer)) {
        if (t->n == t->size) {
            t->size = t->size != 0 ? 2 * t->size : 64;
            t->heap = xrealloc(t->heap, t->size * sizeof(t->heap[0]));
        }
        place(t, ++t->n, timer);
    }
    timer->at_ns = at_ns;
    sift_up(t, timer);
    sift_down(t, timer);
}

void timers_stop(struct timers *t, struct timer *timer)
{
    size_t slot = timer->slot;
    struct timer *last;

    if (!timer_is_set(timer))
        return;
    last = at(t, t->n--);
    timer->slot = 0;
    if (last == timer)
        return;
    place(t, slot, last);
    sift_up(t, last);
    sift_down(t, last);
}

int64_t timers_next_ns(const struct timers *t)
{
    return t->n > 0 ? at(t, 1)->at_ns : INT64_MAX;
}

struct timer *timers_take_due(struct timers *t, int64_t now_ns)
{
    struct timer *timer;

    if (timers_next_ns(t) > now_ns)
        return NULL;
    timer = at(t, 1);
    timers_stop(t, timer);
    return timer;
}
