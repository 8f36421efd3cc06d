/*
 * What a sandbox has used, over its life: samples as they come, and ever coarser means of them for
 * what is longer ago. Bounded: 720 samples of each of the finer steps, a week of five minutes, a
 * month of a quarter of an hour. Pure; times are whole seconds of the wall clock.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct sample {
    int64_t at_s;
    double cpu_percent; /* of all CPUs */
    int64_t memory_used;
    int64_t memory_cache;
    int64_t memory_total;
    int64_t disk_used;
    int64_t disk_total;
    int32_t cpus;
};

enum { SERIES_STEPS = 6 };

/* The samples of one step, a ring that grows as needed. */
struct series_ring {
    struct sample *samples; /* owned */
    size_t size;            /* of the allocation */
    size_t n;
    size_t first;
    double cpu_sum;  /* of the newest sample, */
    int n_in_newest; /* which stands for so many */
};

struct series {
    struct series_ring rings[SERIES_STEPS];
};

void series_add(struct series *s, const struct sample *sample);
void series_deinit(struct series *s);

/* The newest sample; NULL when there is none. */
const struct sample *series_newest(const struct series *s);

/* The step, in seconds, in which E2B shows so long a time. */
int series_step_s(int64_t range_s);
/*
 * Calls each with the samples from start_s to end_s, both included, oldest first, in the step that
 * suits the time between them.
 */
void series_range(const struct series *s, int64_t start_s, int64_t end_s,
                  void (*each)(void *ctx, const struct sample *sample), void *ctx);
/* Since when there are samples; 0: there are none. */
int64_t series_begin_s(const struct series *s);
