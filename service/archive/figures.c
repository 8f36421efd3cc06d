/*
 * See figures.h. A copy that failed is missing until the next one of the same sandbox succeeds, or
 * finds that it is gone. Pods do not talk to each other: what nobody tried again here for a while
 * was copied by another pod, or is over, and is forgotten. Written on the thread of whoever asks.
 */
#include "service/archive/figures.h"

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "sandbox/v1/errors.pb-c.h"
#include "service/metrics/metrics.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    MISSING_MAX = 256, /* the oldest ones are what counts */
    FORGET_S = 15 * 60,
    ID_SIZE = 65,
};

enum { COPY_DONE, COPY_FAILED, COPY_GONE };

enum { READ_FOUND, READ_ABSENT, READ_FAILED };

struct missing {
    char sandbox_id[ID_SIZE];
    int64_t since_ns, tried_ns; /* monotonic */
};

struct archive_figures {
    struct metric *copies, *bytes, *reads;
    pthread_mutex_t lock;
    struct missing missing[MISSING_MAX]; /* under lock, the oldest first */
    size_t n_missing;
};

/* --- what is missing; all of it under the lock --- */

static void remove_at(struct archive_figures *f, size_t i)
{
    f->n_missing--;
    memmove(&f->missing[i], &f->missing[i + 1], (f->n_missing - i) * sizeof(f->missing[0]));
}

static struct missing *find(struct archive_figures *f, const char *sandbox_id)
{
    for (size_t i = 0; i < f->n_missing; i++)
        if (strcmp(f->missing[i].sandbox_id, sandbox_id) == 0)
            return &f->missing[i];
    return NULL;
}

static void forget_old(struct archive_figures *f, int64_t now_ns)
{
    for (size_t i = f->n_missing; i-- > 0;)
        if (now_ns - f->missing[i].tried_ns > FORGET_S * NS_PER_S)
            remove_at(f, i);
}

static void note_missing(struct archive_figures *f, const char *sandbox_id)
{
    int64_t now_ns = clock_monotonic_ns();
    struct missing *m;

    pthread_mutex_lock(&f->lock);
    forget_old(f, now_ns);
    m = find(f, sandbox_id);
    if (m == NULL && f->n_missing < MISSING_MAX) {
        m = &f->missing[f->n_missing++];
        m->since_ns = now_ns;
        snprintf(m->sandbox_id, sizeof(m->sandbox_id), "%s", sandbox_id);
    }
    if (m != NULL)
        m->tried_ns = now_ns;
    pthread_mutex_unlock(&f->lock);
}

static void note_settled(struct archive_figures *f, const char *sandbox_id)
{
    struct missing *m;

    pthread_mutex_lock(&f->lock);
    m = find(f, sandbox_id);
    if (m != NULL)
        remove_at(f, (size_t)(m - f->missing));
    pthread_mutex_unlock(&f->lock);
}

static void write_missing(void *ctx, struct metrics_page *page)
{
    static const char name[] = "sandboxd_archive_missing_seconds";
    struct archive_figures *f = ctx;
    int64_t now_ns = clock_monotonic_ns(), age_ns;

    pthread_mutex_lock(&f->lock);
    forget_old(f, now_ns);
    age_ns = f->n_missing > 0 ? now_ns - f->missing[0].since_ns : 0;
    pthread_mutex_unlock(&f->lock);
    metrics_head(page, name, METRIC_GAUGE,
                 "How long the oldest of the copies that failed, and were not made since, has been "
                 "missing; 0: none is.");
    metrics_value(page, name, NULL, (double)age_ns / NS_PER_S);
}

/* --- what happens --- */

void archive_figures_copied(struct archive_figures *f, const char *sandbox_id, uint64_t bytes)
{
    metric_count(f->copies, COPY_DONE, 1);
    metric_count(f->bytes, 0, (int64_t)bytes);
    note_settled(f, sandbox_id);
}

void archive_figures_not_copied(struct archive_figures *f, const char *sandbox_id,
                                const struct status *st)
{
    if (st->reason == SANDBOX__V1__ERROR_REASON__ERROR_REASON_SANDBOX_NOT_FOUND) {
        metric_count(f->copies, COPY_GONE, 1);
        note_settled(f, sandbox_id);
    } else {
        metric_count(f->copies, COPY_FAILED, 1);
        note_missing(f, sandbox_id);
    }
}

void archive_figures_read(struct archive_figures *f, const struct status *st)
{
    metric_count(f->reads,
                 st->code == CODE_OK          ? READ_FOUND
                 : st->code == CODE_NOT_FOUND ? READ_ABSENT
                                              : READ_FAILED,
                 1);
}

/* --- its life --- */

static const char *const copy_outcomes[] = {
    [COPY_DONE] = "outcome=\"done\"",
    [COPY_FAILED] = "outcome=\"failed\"",
    [COPY_GONE] = "outcome=\"gone\"",
};

static const char *const read_outcomes[] = {
    [READ_FOUND] = "outcome=\"found\"",
    [READ_ABSENT] = "outcome=\"absent\"",
    [READ_FAILED] = "outcome=\"failed\"",
};

struct archive_figures *archive_figures_new(struct metrics *m)
{
    struct archive_figures *f = xcalloc(1, sizeof(*f));

    pthread_mutex_init(&f->lock, NULL);
    f->copies = metrics_add(
        m, &(struct metric_spec){
               .name = "sandboxd_archive_copies_total",
               .help = "Sandboxes that were copied into the archive: done, failed, or gone before.",
               .labels = copy_outcomes,
               .n_series = 3,
           });
    f->bytes = metrics_add(m, &(struct metric_spec){
                                  .name = "sandboxd_archive_copied_bytes_total",
                                  .help = "Bytes of journals that were new to the archive.",
                              });
    f->reads = metrics_add(
        m, &(struct metric_spec){
               .name = "sandboxd_archive_reads_total",
               .help = "Questions that the archive was asked: found, absent, or failed.",
               .labels = read_outcomes,
               .n_series = 3,
           });
    metrics_collect(m, write_missing, f);
    return f;
}

void archive_figures_free(struct archive_figures *f)
{
    if (f == NULL)
        return;
    pthread_mutex_destroy(&f->lock);
    free(f);
}
