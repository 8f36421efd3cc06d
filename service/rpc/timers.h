/* A worker's timers: a binary heap of call_timer by time. Pure; used by its worker only. */
#pragma once

#include "service/rpc/call.h"

struct timers {
    struct call_timer **heap; /* owned; the timers are borrowed */
    size_t n, size;
};

void timers_deinit(struct timers *t);
/* The timer must not be running (at_ns is 0). */
void timers_add(struct timers *t, struct call_timer *timer, int64_t at_ns);
/* The timer must be running; at_ns becomes 0. */
void timers_remove(struct timers *t, struct call_timer *timer);
/* The next one's time; INT64_MAX without any. */
int64_t timers_next_ns(const struct timers *t);
/* Takes one whose time has come; NULL when none has. */
struct call_timer *timers_take_due(struct timers *t, int64_t now_ns);
