/*
 * See metrics.h. A metric's cells stand in SHARDS rows, each of whole cache lines; a thread has a
 * row, which it shares only when there are more threads than rows. Relaxed atomics suffice: a page
 * is no snapshot, but each of its numbers was true at some moment while it was made.
 */
#include "service/metrics/metrics.h"

#include "common/base/mem.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    SHARDS = 16, /* a power of two */
    LINE = 64 / sizeof(int64_t),
    COLLECTORS_MAX = 8,
};

/* From a call that only looks something up to the longest that still is an answer; streams are
 * longer, and all in the last one. */
static const int64_t bounds_us[] = {
    1000,   2500,    5000,    10000,   25000,    50000,    100000,   250000,
    500000, 1000000, 2500000, 5000000, 10000000, 30000000, 60000000,
};

enum {
    N_BOUNDS = sizeof(bounds_us) / sizeof(bounds_us[0]),
    N_CELLS = N_BOUNDS + 2, /* of a histogram: its buckets, what is above them, the sum */
};

struct metric {
    struct metric *next;
    char *name, *help; /* owned */
    enum metric_type type;
    bool sparse;
    char **labels; /* owned, as are they; NULL: one series without */
    size_t n_series;
    size_t cells_each, row_len;
    _Atomic int64_t *cells; /* owned; SHARDS rows of row_len */
};

struct metrics {
    pthread_mutex_t lock; /* of the lists; what they hold stays */
    struct metric *first, **end;
    struct {
        metrics_collector *collect;
        void *ctx;
    } collectors[COLLECTORS_MAX];
    size_t n_collectors;
};

struct metrics_page {
    struct buf *to;
    bool fits;
};

/* --- declaring --- */

struct metrics *metrics_new(void)
{
    struct metrics *m = xcalloc(1, sizeof(*m));

    m->end = &m->first;
    pthread_mutex_init(&m->lock, NULL);
    return m;
}

static void metric_free(struct metric *metric)
{
    free_strings(metric->labels, metric->n_series);
    free(metric->cells);
    free(metric->name);
    free(metric->help);
    free(metric);
}

void metrics_free(struct metrics *m)
{
    if (m == NULL)
        return;
    while (m->first != NULL) {
        struct metric *metric = m->first;

        m->first = metric->next;
        metric_free(metric);
    }
    pthread_mutex_destroy(&m->lock);
    free(m);
}

static void copy_labels(struct metric *metric, const struct metric_spec *spec)
{
    metric->n_series = spec->labels != NULL ? spec->n_series : 1;
    if (spec->labels == NULL)
        return;
    metric->labels = xcalloc(spec->n_series + 1, sizeof(char *));
    for (size_t i = 0; i < spec->n_series; i++)
        metric->labels[i] = xstrdup(spec->labels[i]);
}

static _Atomic int64_t *make_cells(size_t n)
{
    _Atomic int64_t *cells = aligned_alloc(64, n * sizeof(*cells));

    if (cells == NULL)
        abort();
    for (size_t i = 0; i < n; i++)
        atomic_init(&cells[i], 0);
    return cells;
}

struct metric *metrics_add(struct metrics *m, const struct metric_spec *spec)
{
    struct metric *metric;

    if (m == NULL)
        return NULL;
    metric = xcalloc(1, sizeof(*metric));
    metric->name = xstrdup(spec->name);
    metric->help = xstrdup(spec->help);
    metric->type = spec->type;
    metric->sparse = spec->sparse;
    copy_labels(metric, spec);
    metric->cells_each = spec->type == METRIC_HISTOGRAM ? N_CELLS : 1;
    metric->row_len = (metric->n_series * metric->cells_each + LINE - 1) / LINE * LINE;
    metric->cells = make_cells(SHARDS * metric->row_len);
    pthread_mutex_lock(&m->lock);
    *m->end = metric;
    m->end = &metric->next;
    pthread_mutex_unlock(&m->lock);
    return metric;
}

void metrics_collect(struct metrics *m, metrics_collector *collect, void *ctx)
{
    if (m == NULL)
        return;
    pthread_mutex_lock(&m->lock);
    if (m->n_collectors == COLLECTORS_MAX)
        abort(); /* a number to raise, found by the first start */
    m->collectors[m->n_collectors].collect = collect;
    m->collectors[m->n_collectors++].ctx = ctx;
    pthread_mutex_unlock(&m->lock);
}

/* --- counting --- */

static size_t my_row(void)
{
    static _Atomic size_t threads;
    static _Thread_local size_t row = SIZE_MAX;

    if (row == SIZE_MAX)
        row = atomic_fetch_add_explicit(&threads, 1, memory_order_relaxed) % SHARDS;
    return row;
}

static void add(struct metric *metric, size_t cell, int64_t n)
{
    atomic_fetch_add_explicit(&metric->cells[my_row() * metric->row_len + cell], n,
                              memory_order_relaxed);
}

void metric_count(struct metric *metric, size_t series, int64_t n)
{
    if (metric != NULL)
        add(metric, series, n);
}

void metric_set(struct metric *metric, size_t series, int64_t value)
{
    if (metric != NULL)
        atomic_store_explicit(&metric->cells[series], value, memory_order_relaxed);
}

void metric_observe(struct metric *metric, size_t series, int64_t us)
{
    size_t first = series * N_CELLS, bucket = 0;

    if (metric == NULL)
        return;
    while (bucket < N_BOUNDS && us > bounds_us[bucket])
        bucket++;
    add(metric, first + bucket, 1);
    add(metric, first + N_BOUNDS + 1, us);
}

/* --- writing --- */

void metrics_escape(const char *value, char *ret)
{
    for (; *value != '\0'; value++) {
        if (*value == '\\' || *value == '"' || *value == '\n')
            *ret++ = '\\';
        *ret++ = *value == '\n' ? 'n' : *value;
    }
    *ret = '\0';
}

void metrics_head(struct metrics_page *page, const char *name, enum metric_type type,
                  const char *help)
{
    static const char *const types[] = {"counter", "gauge", "histogram"};

    page->fits = page->fits && buf_printf(page->to, "# HELP %s %s\n# TYPE %s %s\n", name, help,
                                          name, types[type]);
}

/* labels and more are both optional. */
static void write_value(struct metrics_page *page, const char *name, const char *suffix,
                        const char *labels, const char *more, double value)
{
    bool has_labels = labels != NULL && *labels != '\0', both = has_labels && *more != '\0';

    page->fits = page->fits && buf_printf(page->to, "%s%s", name, suffix);
    if (has_labels || *more != '\0')
        page->fits = page->fits && buf_printf(page->to, "{%s%s%s}", has_labels ? labels : "",
                                              both ? "," : "", more);
    /* Whole numbers as they are: 15 digits would cut what counts bytes. */
    if (value == rint(value) && fabs(value) < 9e15)
        page->fits = page->fits && buf_printf(page->to, " %lld\n", (long long)value);
    else
        page->fits = page->fits && buf_printf(page->to, " %.15g\n", value);
}

void metrics_value(struct metrics_page *page, const char *name, const char *labels, double value)
{
    write_value(page, name, "", labels, "", value);
}

static int64_t sum(const struct metric *metric, size_t cell)
{
    int64_t total = 0;

    for (size_t row = 0; row < SHARDS; row++)
        total += atomic_load_explicit(&metric->cells[row * metric->row_len + cell],
                                      memory_order_relaxed);
    return total;
}

static void write_histogram(struct metrics_page *page, const struct metric *metric, size_t series,
                            const char *labels)
{
    size_t first = series * N_CELLS;
    int64_t below[N_BOUNDS + 1], total = 0;
    char le[32];

    for (size_t i = 0; i <= N_BOUNDS; i++)
        below[i] = total += sum(metric, first + i);
    if (total == 0 && metric->sparse)
        return;
    for (size_t i = 0; i < N_BOUNDS; i++) {
        snprintf(le, sizeof(le), "le=\"%g\"", (double)bounds_us[i] / 1e6);
        write_value(page, metric->name, "_bucket", labels, le, (double)below[i]);
    }
    write_value(page, metric->name, "_bucket", labels, "le=\"+Inf\"", (double)total);
    write_value(page, metric->name, "_sum", labels, "",
                (double)sum(metric, first + N_BOUNDS + 1) / 1e6);
    write_value(page, metric->name, "_count", labels, "", (double)total);
}

static void write_metric(struct metrics_page *page, const struct metric *metric)
{
    metrics_head(page, metric->name, metric->type, metric->help);
    for (size_t i = 0; i < metric->n_series; i++) {
        const char *labels = metric->labels != NULL ? metric->labels[i] : NULL;
        int64_t value;

        if (metric->type == METRIC_HISTOGRAM) {
            write_histogram(page, metric, i, labels);
            continue;
        }
        value = sum(metric, i);
        if (value != 0 || !metric->sparse)
            write_value(page, metric->name, "", labels, "", (double)value);
    }
}

bool metrics_write(struct metrics *m, struct buf *to)
{
    struct metrics_page page = {.to = to, .fits = true};

    pthread_mutex_lock(&m->lock);
    for (const struct metric *metric = m->first; metric != NULL; metric = metric->next)
        write_metric(&page, metric);
    for (size_t i = 0; i < m->n_collectors; i++)
        m->collectors[i].collect(m->collectors[i].ctx, &page);
    pthread_mutex_unlock(&m->lock);
    return page.fits;
}
