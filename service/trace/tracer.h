/*
 * Which calls are traced, and where their spans go: to an OpenTelemetry collector, as OTLP over
 * HTTP in JSON, from a thread of its own. Spans wait in a bounded queue; when the collector does
 * not keep up they are dropped and counted, and no call ever waits for one.
 *
 * Without a tracer the trace of a caller is still passed on as it came.
 */
#pragma once

#include "common/base/status.h"
#include "service/trace/trace.h"

enum {
    TRACER_QUEUE = 2048,
    TRACER_BATCH = 512,
    SPAN_TEXT_MAX = 129, /* with the NUL; longer texts are cut */
};

enum sampler {
    SAMPLER_ALWAYS_ON,
    SAMPLER_ALWAYS_OFF,
    SAMPLER_RATIO,
};

struct metrics;

struct tracer_config {
    const char *endpoint;     /* http://HOST:4318; /v1/traces is put behind it */
    const char *headers;      /* "name=value,…"; NULL: none */
    const char *service_name; /* of the resource */
    const char *resource;     /* "key=value,…"; NULL: none */
    enum sampler sampler;     /* of traces that begin here, and */
    bool follows_parent;      /* of others too, unless their caller's decision stands */
    double ratio;             /* of SAMPLER_RATIO */
    struct metrics *metrics;  /* borrowed; NULL: nothing is counted */
};

struct tracer;

/* Copies what it needs of config. */
bool tracer_new(const struct tracer_config *config, struct tracer **ret, struct status *st);
/* Sends what waits, for two seconds at most. NULL is fine. */
void tracer_free(struct tracer *t);

/*
 * The trace that a piece of work of ours belongs to, given what its caller sent. NULL: none. Any
 * thread; t may be NULL.
 */
struct trace *tracer_begin(struct tracer *t, const char *traceparent, const char *tracestate);

enum span_kind { SPAN_SERVER = 2, SPAN_CLIENT = 3 }; /* as OTLP has them */

struct span {
    struct trace *trace; /* borrowed by tracer_end() */
    uint8_t id[TRACE_SPAN_LEN], parent[TRACE_SPAN_LEN];
    enum span_kind kind;
    const char *service, *name; /* of the program's own tables; service: "" for none */
    int64_t start_ns, end_ns;   /* wall clock */
    enum code code;
    bool failed; /* as whoever made the span sees it */
    long http_status;
    char sandbox_id[SPAN_TEXT_MAX], request_id[SPAN_TEXT_MAX], tenant[SPAN_TEXT_MAX];
};

/* The span is over. Any thread; what is not sampled, and a t that is NULL, is no work. */
void tracer_end(struct tracer *t, const struct span *span);
