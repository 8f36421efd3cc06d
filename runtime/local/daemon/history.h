/*
 * What is known of each sandbox's past: its log and its use of the machine. It outlasts the
 * sandbox; of those that have ended, the last HISTORY_ENDED_MAX are kept. Pure memory.
 */
#pragma once

#include "runtime/local/daemon/logbook.h"
#include "runtime/local/daemon/registry.h"
#include "runtime/local/daemon/series.h"

enum { HISTORY_ENDED_MAX = 64, HISTORY_BUCKETS = 256 };

struct history {
    char id[SANDBOX_ID_LEN + 1];
    struct history *next_in_bucket;
    struct list in_ended; /* in none while the sandbox lives */
    struct logbook log;
    struct series series;
};

struct histories {
    struct history *buckets[HISTORY_BUCKETS]; /* owned */
    struct list ended;                        /* oldest first */
    size_t n_ended;
};

void histories_init(struct histories *h);
void histories_deinit(struct histories *h);

/* That of the id, which is made when there is none; the sandbox lives (again). */
struct history *history_open(struct histories *h, const char *id);
/* NULL when nothing is known. */
struct history *history_find(const struct histories *h, const char *id);
/* The sandbox has ended. May forget the oldest, but not this one. */
void history_close(struct histories *h, struct history *history);
