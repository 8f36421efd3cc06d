/* See timers.h. Each timer knows its slot, so that any of them can be removed in O(log n). */
#include "service/rpc/timers.h"

#include "common/base/mem.h"

#include <assert.h>
#include <stdlib.h>

void timers_deinit(struct timers *t)
{
    free(t->heap);
    *t = (struct timers){0};
}

static void place(struct timers *t, size_t slot, struct call_timer *timer)
{
    t->heap[slot] = timer;
    timer->slot = slot;
}

static void sift_up(struct timers *t, size_t slot)
{
    struct call_timer *timer = t->heap[slot];

    while (slot > 0) {
        size_t parent = (slot - 1) / 2;

        if (t->heap[parent]->at_ns <= timer->at_ns)
            break;
        place(t, slot, t->heap[parent]);
        slot = parent;
    }
    place(t, slot, timer);
}

static void sift_down(struct timers *t, size_t slot)
{
    struct call_timer *timer = t->heap[slot];

    for (;;) {
        size_t child = 2 * slot + 1;

        if (child >= t->n)
            break;
        if (child + 1 < t->n && t->heap[child + 1]->at_ns < t->heap[child]->at_ns)
            child++;
        if (timer->at_ns <= t->heap[child]->at_ns)
            break;
        place(t, slot, t->heap[child]);
        slot = child;
    }
    place(t, slot, timer);
}

void timers_add(struct timers *t, struct call_timer *timer, int64_t at_ns)
{
    assert(timer->at_ns == 0 && at_ns != 0);
    if (t->n == t->size) {
        t->size = t->size != 0 ? 2 * t->size : 64;
        t->heap = xrealloc(t->heap, t->size * sizeof(t->heap[0]));
    }
    timer->at_ns = at_ns;
    place(t, t->n++, timer);
    sift_up(t, timer->slot);
}

void timers_remove(struct timers *t, struct call_timer *timer)
{
    size_t slot = timer->slot;
    struct call_timer *last = t->heap[--t->n];

    timer->at_ns = 0;
    if (last == timer)
        return;
    place(t, slot, last);
    sift_up(t, slot);
    sift_down(t, last->slot);
}

int64_t timers_next_ns(const struct timers *t)
{
    return t->n > 0 ? t->heap[0]->at_ns : INT64_MAX;
}

struct call_timer *timers_take_due(struct timers *t, int64_t now_ns)
{
    if (t->n == 0 || t->heap[0]->at_ns > now_ns)
        return NULL;

    struct call_timer *timer = t->heap[0];

    timers_remove(t, timer);
    return timer;
}
