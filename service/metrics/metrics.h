/*
 * What the service counts, for whoever scrapes it: counters, gauges and histograms of fixed series,
 * declared at start by the modules that count, written as Prometheus text by the admin port.
 *
 * Counting is for any thread and takes no lock: each thread adds to cells of its own cache lines,
 * which are summed when they are read. Every series is known when its metric is declared, so that
 * no caller can make new ones; labels come from tables, never from what a peer sent.
 */
#pragma once

#include "common/base/buf.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum metric_type {
    METRIC_COUNTER,   /* only grows */
    METRIC_GAUGE,     /* metric_count() up and down, or metric_set() from one place; not both */
    METRIC_HISTOGRAM, /* of durations in microseconds, written in seconds */
};

struct metric_spec {
    const char *name;
    const char *help; /* a sentence */
    enum metric_type type;
    /* One for each series, such as `method="Get"`; copied. NULL: one series without labels. */
    const char *const *labels;
    size_t n_series; /* with labels */
    bool sparse;     /* series that are 0 are left out */
};

struct metrics;
struct metric;

struct metrics *metrics_new(void);
void metrics_free(struct metrics *m); /* and all of its metrics; NULL is fine */

/* At start. Where metrics are not wanted m is NULL, and so is what it gives. */
struct metric *metrics_add(struct metrics *m, const struct metric_spec *spec);

/* Any thread; nothing happens where the metric is NULL. */
void metric_count(struct metric *metric, size_t series, int64_t n);
void metric_set(struct metric *metric, size_t series, int64_t value);
void metric_observe(struct metric *metric, size_t series, int64_t us);

/* --- values that are looked up when they are asked for --- */

struct metrics_page;
typedef void metrics_collector(void *ctx, struct metrics_page *page);

/* At start. Called for each page, on the thread of whoever asks for it; ctx outlives them. */
void metrics_collect(struct metrics *m, metrics_collector *collect, void *ctx);

/* The head of a metric; then its values. labels: as above; NULL: none. */
void metrics_head(struct metrics_page *page, const char *name, enum metric_type type,
                  const char *help);
void metrics_value(struct metrics_page *page, const char *name, const char *labels, double value);

/* The page in Prometheus' text format. False: larger than the buffer may be. */
bool metrics_write(struct metrics *m, struct buf *to);

#define METRICS_CONTENT_TYPE "text/plain; version=0.0.4; charset=utf-8"

/* A label's value between its quotes; ret has room for 2 * strlen(value) + 1. */
void metrics_escape(const char *value, char *ret);
