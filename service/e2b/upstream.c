/*
 * See upstream.h. What an exchange does is told by its method and path, against a table: series are
 * its rows, whatever ids the paths hold.
 */
#include "service/e2b/upstream.h"

#include "common/base/cleanup.h"
#include "common/base/clock.h"
#include "common/base/mem.h"
#include "service/metrics/metrics.h"
#include "service/trace/tracer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A * is one part of the path; the query does not count. */
static const struct {
    const char *method, *path, *name;
} operations[] = {
    {"POST", "/sandboxes", "create_sandbox"},
    {"GET", "/sandboxes/*", "get_sandbox"},
    {"GET", "/v2/sandboxes", "list_sandboxes"},
    {"DELETE", "/sandboxes/*", "delete_sandbox"},
    {"POST", "/sandboxes/*/timeout", "set_timeout"},
    {"POST", "/sandboxes/*/refreshes", "keep_alive"},
    {"POST", "/sandboxes/*/pause", "pause_sandbox"},
    {"POST", "/sandboxes/*/connect", "connect_sandbox"},
    {"PUT", "/sandboxes/*/network", "set_network"},
    {"GET", "/sandboxes/*/metrics", "get_metrics"},
    {"GET", "/v2/sandboxes/*/logs", "get_logs"},
    {"POST", "/sandboxes/*/snapshots", "create_snapshot"},
    {"GET", "/snapshots", "list_snapshots"},
    {"DELETE", "/templates/*", "delete_template"},
    {"GET", "/files", "read_file"},
    {"POST", "/files", "write_file"},
    {"GET", "/health", "check_agent"},
    {"POST", "/process.Process/Start", "start_process"},
    {"POST", "/process.Process/SendSignal", "signal_process"},
    {"POST", "/process.Process/StreamInput", "write_process"},
    {"", "", "other"}, /* the last one */
};

enum {
    N_OPERATIONS = sizeof(operations) / sizeof(operations[0]),
    N_CODES = CODE_UNAUTHENTICATED + 1,
};

struct upstream {
    struct metric *took, *answered, *retries;
    struct tracer *tracer; /* borrowed */
};

/* --- the table --- */

static bool matches(const char *pattern, const char *path)
{
    while (*pattern != '\0') {
        if (*pattern == '*') {
            path += strcspn(path, "/?");
            pattern++;
        } else if (*pattern++ != *path++) {
            return false;
        }
    }
    return *path == '\0' || *path == '?';
}

static size_t find_operation(const char *method, const char *path)
{
    size_t i = 0;

    while (i < N_OPERATIONS - 1 &&
           (strcmp(operations[i].method, method) != 0 || !matches(operations[i].path, path)))
        i++;
    return i;
}

static char **make_labels(size_t n_codes)
{
    char **labels = xcalloc(N_OPERATIONS * n_codes, sizeof(char *));

    for (size_t i = 0; i < N_OPERATIONS; i++) {
        for (size_t code = 0; code < n_codes; code++)
            labels[i * n_codes + code] =
                n_codes == 1 ? xasprintf("operation=\"%s\"", operations[i].name)
                             : xasprintf("operation=\"%s\",code=\"%s\"", operations[i].name,
                                         code_name((enum code)code));
    }
    return labels;
}

static struct metric *add(struct metrics *m, enum metric_type type, const char *name,
                          const char *help, size_t n_codes)
{
    char **labels = make_labels(n_codes);
    struct metric *metric =
        metrics_add(m, &(struct metric_spec){.name = name,
                                             .help = help,
                                             .type = type,
                                             .labels = (const char *const *)labels,
                                             .n_series = N_OPERATIONS * n_codes,
                                             .sparse = n_codes > 1});

    free_strings(labels, N_OPERATIONS * n_codes);
    return metric;
}

struct upstream *upstream_new(struct metrics *m, struct tracer *tracer)
{
    struct upstream *u = xcalloc(1, sizeof(*u));

    u->tracer = tracer;
    u->took =
        add(m, METRIC_HISTOGRAM, "sandboxd_upstream_seconds",
            "How long E2B took to answer one attempt; a stream is answered when it begins.", 1);
    u->answered =
        add(m, METRIC_COUNTER, "sandboxd_upstream_requests_total",
            "Attempts of requests to E2B, by what their outcome means to a caller.", N_CODES);
    u->retries = add(m, METRIC_COUNTER, "sandboxd_upstream_retries_total",
                     "Requests to E2B that were made again after they had failed.", 1);
    return u;
}

void upstream_free(struct upstream *u)
{
    free(u);
}

/* --- one attempt --- */

/* The span that the other side sees as its parent: this attempt's own where it is recorded. */
static void add_headers(struct exchange *x)
{
    const struct trace *trace = x->request->trace;
    char traceparent[TRACE_PARENT_SIZE];

    if (trace == NULL)
        return;
    if (x->request->e2b->upstream->tracer != NULL && trace_is_sampled(trace))
        trace_new_span(x->span);
    else
        memcpy(x->span, trace->span, sizeof(x->span));
    trace_format(trace, x->span, traceparent);
    transfer_header(&x->transfer, "traceparent: %s", traceparent);
    if (trace->state[0] != '\0')
        transfer_header(&x->transfer, "tracestate: %s", trace->state);
}

void upstream_begin(struct exchange *x, const char *method, const char *path)
{
    x->operation = find_operation(method, path);
    x->began_ns = clock_monotonic_ns();
    add_headers(x);
}

static void end_span(const struct exchange *x, int64_t took_ns, enum code code)
{
    struct span span = {
        .trace = x->request->trace,
        .kind = SPAN_CLIENT,
        .service = "",
        .name = operations[x->operation].name,
        .end_ns = clock_wall_ns(),
        .code = code,
        .failed = code != CODE_OK,
        .http_status = x->transfer.status,
    };

    if (!trace_is_sampled(span.trace))
        return;
    span.start_ns = span.end_ns - took_ns;
    memcpy(span.id, x->span, sizeof(span.id));
    memcpy(span.parent, span.trace->span, sizeof(span.parent));
    if (x->sandbox_id != NULL)
        snprintf(span.sandbox_id, sizeof(span.sandbox_id), "%s", x->sandbox_id);
    tracer_end(x->request->e2b->upstream->tracer, &span);
}

void upstream_end(struct exchange *x, enum code code)
{
    const struct upstream *u = x->request->e2b->upstream;
    int64_t took_ns = clock_monotonic_ns() - x->began_ns;

    if (x->began_ns == 0)
        return;
    x->began_ns = 0;
    if ((size_t)code >= N_CODES)
        code = CODE_UNKNOWN;
    metric_observe(u->took, x->operation, took_ns / 1000);
    metric_count(u->answered, x->operation * N_CODES + code, 1);
    end_span(x, took_ns, code);
}

void upstream_retry(const struct exchange *x)
{
    metric_count(x->request->e2b->upstream->retries, x->operation, 1);
}
