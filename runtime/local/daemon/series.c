/* See series.h. The newest sample of a coarse ring is still being added to; the others are done. */
#include "runtime/local/daemon/series.h"

#include "common/base/mem.h"

#include <stdlib.h>

/* E2B's steps: up to that range they are used, and so many of them make up that range. */
static const struct {
    int step_s;
    int64_t below_s;
    size_t keep;
} steps[SERIES_STEPS] = {
    {5, 3600, 720},        {30, 6 * 3600, 720},        {60, 12 * 3600, 720},
    {120, 24 * 3600, 720}, {300, 7 * 24 * 3600, 2016}, {900, INT64_MAX, 2880},
};

static size_t index_for(int64_t range_s)
{
    size_t i = 0;

    while (range_s >= steps[i].below_s && i + 1 < SERIES_STEPS)
        i++;
    return i;
}

int series_step_s(int64_t range_s)
{
    return steps[index_for(range_s)].step_s;
}

static struct sample *at(const struct series_ring *r, size_t i)
{
    return &r->samples[(r->first + i) % r->size];
}

/* Room for one more: what is oldest goes when there is enough. */
static void make_room(struct series_ring *r, size_t keep)
{
    struct sample *samples;
    size_t size = r->size == 0 ? 16 : 2 * r->size;

    if (r->n < r->size)
        return;
    if (r->size == keep) {
        r->first = (r->first + 1) % r->size;
        r->n--;
        return;
    }
    if (size > keep)
        size = keep;
    samples = xcalloc(size, sizeof(*samples));
    for (size_t i = 0; i < r->n; i++)
        samples[i] = *at(r, i);
    free(r->samples);
    r->samples = samples;
    r->size = size;
    r->first = 0;
}

/* The CPU is a mean over the step, everything else is as it was at its end. */
static void add(struct series_ring *r, int step_s, size_t keep, const struct sample *sample)
{
    int64_t at_s = sample->at_s - sample->at_s % step_s;
    struct sample *newest = r->n > 0 ? at(r, r->n - 1) : NULL;

    if (newest == NULL || at_s > newest->at_s) {
        make_room(r, keep);
        newest = at(r, r->n++);
        r->cpu_sum = 0;
        r->n_in_newest = 0;
    } else {
        at_s = newest->at_s; /* the same step, or a clock that was set back */
    }
    r->cpu_sum += sample->cpu_percent;
    r->n_in_newest++;
    *newest = *sample;
    newest->at_s = at_s;
    newest->cpu_percent = r->cpu_sum / r->n_in_newest;
}

void series_add(struct series *s, const struct sample *sample)
{
    for (size_t i = 0; i < SERIES_STEPS; i++)
        add(&s->rings[i], i == 0 ? 1 : steps[i].step_s, steps[i].keep, sample);
}

void series_deinit(struct series *s)
{
    for (size_t i = 0; i < SERIES_STEPS; i++)
        free(s->rings[i].samples);
    *s = (struct series){0};
}

const struct sample *series_newest(const struct series *s)
{
    const struct series_ring *r = &s->rings[0];

    return r->n > 0 ? at(r, r->n - 1) : NULL;
}

int64_t series_begin_s(const struct series *s)
{
    const struct series_ring *r = &s->rings[0];

    /* The finest that has not forgotten anything yet. */
    for (size_t i = 0; i < SERIES_STEPS && r->n == steps[i].keep; i++)
        r = &s->rings[i + 1 < SERIES_STEPS ? i + 1 : i];
    return r->n > 0 ? at(r, 0)->at_s : 0;
}

void series_range(const struct series *s, int64_t start_s, int64_t end_s,
                  void (*each)(void *ctx, const struct sample *sample), void *ctx)
{
    const struct series_ring *r = &s->rings[index_for(end_s - start_s)];

    for (size_t i = 0; i < r->n; i++) {
        const struct sample *sample = at(r, i);

        if (sample->at_s >= start_s && sample->at_s <= end_s)
            each(ctx, sample);
    }
}
