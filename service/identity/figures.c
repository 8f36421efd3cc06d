/* See figures.h. On the thread of whoever asks for the page. */
#include "service/identity/figures.h"

#include "common/base/clock.h"

static void write_one(struct metrics_page *page, const char *name, enum metric_type type,
                      const char *help, double value)
{
    metrics_head(page, name, type, help);
    metrics_value(page, name, NULL, value);
}

static void write_reloads(struct metrics_page *page, const char *name, const char *help,
                          int64_t reloads, int64_t failed)
{
    metrics_head(page, name, METRIC_COUNTER, help);
    metrics_value(page, name, "result=\"ok\"", (double)reloads);
    metrics_value(page, name, "result=\"failed\"", (double)failed);
}

static void write_identity(void *ctx, struct metrics_page *page)
{
    struct identity_counts n;

    identity_count(ctx, &n);
    write_one(page, "sandboxd_keys", METRIC_GAUGE, "Keys that callers may bring.", (double)n.keys);
    write_one(page, "sandboxd_tenants", METRIC_GAUGE, "Tenants that have a key or limits.",
              (double)n.tenants);
    write_reloads(page, "sandboxd_key_reloads_total",
                  "How often the file of keys was read again, and kept as it was because the new "
                  "one is wrong.",
                  n.reloads, n.failed_reloads);
    write_one(page, "sandboxd_unauthenticated_calls_total", METRIC_COUNTER,
              "Calls without a key, or with one that is not known.", (double)n.refused);
    metrics_head(page, "sandboxd_limited_calls_total", METRIC_COUNTER,
                 "Calls that were refused because a limit was reached.");
    metrics_value(page, "sandboxd_limited_calls_total", "limit=\"tenant\"",
                  (double)n.limits.refused_tenant);
    metrics_value(page, "sandboxd_limited_calls_total", "limit=\"pod\"",
                  (double)n.limits.refused_pod);
}

static void write_certificate(void *ctx, struct metrics_page *page)
{
    struct rotation_counts n;

    rotation_count(ctx, &n);
    write_one(page, "sandboxd_certificate_expiry_timestamp_seconds", METRIC_GAUGE,
              "When the first certificate of the server's chain expires, in seconds since 1970.",
              (double)n.not_after_ns / NS_PER_S);
    write_reloads(page, "sandboxd_certificate_reloads_total",
                  "How often the certificate was read again, and kept as it was because the new "
                  "one is wrong.",
                  n.reloads, n.failed_reloads);
}

void figures_add(struct metrics *m, struct identity *identity, struct rotation *rotation)
{
    metrics_collect(m, write_identity, identity);
    if (rotation != NULL)
        metrics_collect(m, write_certificate, rotation);
}
