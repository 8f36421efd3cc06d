/*
 * See account.h. On the call's worker. A series stands for a method of the server's table; all
 * names that are none of them share the last one, so that nobody can make new series.
 */
#include "service/rpc/account.h"

#include "common/base/cleanup.h"
#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "service/trace/tracer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N_CODES = CODE_UNAUTHENTICATED + 1 };

struct account {
    const struct binding *bindings; /* borrowed */
    size_t n;
    struct metric *started, *handled, *took, *received, *sent, *received_bytes, *sent_bytes;
    struct metric *in_flight, *open_streams;
};

/* Go's spelling, which dashboards expect. */
static const char *const code_labels[N_CODES] = {
    "OK",       "Canceled",        "Unknown",          "InvalidArgument",   "DeadlineExceeded",
    "NotFound", "AlreadyExists",   "PermissionDenied", "ResourceExhausted", "FailedPrecondition",
    "Aborted",  "OutOfRange",      "Unimplemented",    "Internal",          "Unavailable",
    "DataLoss", "Unauthenticated",
};

static const char *type_label(enum method_kind kind)
{
    switch (kind) {
    case METHOD_UNARY:
        return "unary";
    case METHOD_SERVER_STREAM:
        return "server_stream";
    case METHOD_CLIENT_STREAM:
        return "client_stream";
    case METHOD_BIDI:
        break;
    }
    return "bidi_stream";
}

/* --- the table --- */

static char *method_labels(const struct account *a, size_t i)
{
    const struct method *m = i < a->n ? a->bindings[i].method : NULL;

    return xasprintf("grpc_type=\"%s\",grpc_service=\"%s\",grpc_method=\"%s\"",
                     m != NULL ? type_label(m->kind) : "unary",
                     m != NULL ? m->service->name : "unknown", m != NULL ? m->name : "unknown");
}

static char **make_labels(const struct account *a, size_t n_codes)
{
    char **labels = xcalloc((a->n + 1) * n_codes, sizeof(char *));

    for (size_t i = 0; i <= a->n; i++) {
        AUTO_FREE char *method = method_labels(a, i);

        for (size_t code = 0; code < n_codes; code++)
            labels[i * n_codes + code] =
                n_codes == 1 ? xstrdup(method)
                             : xasprintf("%s,grpc_code=\"%s\"", method, code_labels[code]);
    }
    return labels;
}

static struct metric *add(struct metrics *m, enum metric_type type, const char *name,
                          const char *help, char **labels, size_t n)
{
    return metrics_add(m, &(struct metric_spec){.name = name,
                                                .help = help,
                                                .type = type,
                                                .labels = (const char *const *)labels,
                                                .n_series = n});
}

static void declare(struct account *a, struct metrics *m)
{
    size_t n = a->n + 1;
    char **by_method = make_labels(a, 1), **by_code = make_labels(a, N_CODES);

    a->started = add(m, METRIC_COUNTER, "grpc_server_started_total",
                     "Total number of RPCs started on the server.", by_method, n);
    a->handled =
        add(m, METRIC_COUNTER, "grpc_server_handled_total",
            "Total number of RPCs completed on the server, regardless of success or failure.",
            by_code, n * N_CODES);
    a->took = add(m, METRIC_HISTOGRAM, "grpc_server_handling_seconds",
                  "Histogram of response latency (seconds) of gRPC that had been application-level "
                  "handled by the server.",
                  by_method, n);
    a->received = add(m, METRIC_COUNTER, "grpc_server_msg_received_total",
                      "Total number of RPC stream messages received on the server.", by_method, n);
    a->sent = add(m, METRIC_COUNTER, "grpc_server_msg_sent_total",
                  "Total number of gRPC stream messages sent by the server.", by_method, n);
    a->received_bytes = add(m, METRIC_COUNTER, "sandboxd_received_bytes_total",
                            "Bytes of the messages received.", by_method, n);
    a->sent_bytes = add(m, METRIC_COUNTER, "sandboxd_sent_bytes_total",
                        "Bytes of the messages sent.", by_method, n);
    a->in_flight = add(m, METRIC_GAUGE, "sandboxd_calls_in_flight",
                       "Calls that have begun and not ended.", by_method, n);
    a->open_streams =
        add(m, METRIC_GAUGE, "sandboxd_open_streams",
            "Streams of sandbox.v1 that are open: what this pod is busy with.", NULL, 0);
    free_strings(by_method, n);
    free_strings(by_code, n * N_CODES);
}

struct account *account_new(struct metrics *m, const struct binding *bindings, size_t n)
{
    struct account *a = xcalloc(1, sizeof(*a));

    a->bindings = bindings;
    a->n = n;
    if (m != NULL)
        declare(a, m);
    return a;
}

void account_free(struct account *a)
{
    free(a);
}

/* --- counting --- */

static struct account *account_of(const struct call *c)
{
    return c->worker->server->account;
}

static size_t series_of(const struct call *c)
{
    const struct account *a = account_of(c);

    return c->binding != NULL ? (size_t)(c->binding - a->bindings) : a->n;
}

static void count_open(const struct call *c, int64_t n)
{
    const struct account *a = account_of(c);

    metric_count(a->in_flight, series_of(c), n);
    if (c->binding != NULL && c->binding->method->kind != METHOD_UNARY && !c->binding->standard)
        metric_count(a->open_streams, 0, n);
}

void account_call_started(const struct call *c)
{
    metric_count(account_of(c)->started, series_of(c), 1);
    count_open(c, 1);
}

void account_message_received(const struct call *c, size_t len)
{
    metric_count(account_of(c)->received, series_of(c), 1);
    metric_count(account_of(c)->received_bytes, series_of(c), (int64_t)len);
}

void account_message_sent(const struct call *c, size_t len)
{
    metric_count(account_of(c)->sent, series_of(c), 1);
    metric_count(account_of(c)->sent_bytes, series_of(c), (int64_t)len);
}

/* --- the sandbox --- */

static const char *string_field(const ProtobufCMessage *message, const char *name)
{
    const ProtobufCFieldDescriptor *field =
        protobuf_c_message_descriptor_get_field_by_name(message->descriptor, name);

    if (field == NULL || field->type != PROTOBUF_C_TYPE_STRING ||
        field->label == PROTOBUF_C_LABEL_REPEATED || (field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF))
        return NULL;
    return *(char *const *)((const char *)message + field->offset);
}

/* A message that stands in another one, such as the Sandbox in CreateSandboxResponse. */
static const ProtobufCMessage *message_field(const ProtobufCMessage *message, unsigned i)
{
    const ProtobufCFieldDescriptor *field = &message->descriptor->fields[i];
    const char *at = (const char *)message;

    if (field->type != PROTOBUF_C_TYPE_MESSAGE || field->label == PROTOBUF_C_LABEL_REPEATED)
        return NULL;
    if ((field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) &&
        *(const uint32_t *)(at + field->quantifier_offset) != field->id)
        return NULL;
    return *(ProtobufCMessage *const *)(at + field->offset);
}

static bool note(struct call *c, const char *id)
{
    if (id == NULL || *id == '\0')
        return false;
    snprintf(c->sandbox_id, sizeof(c->sandbox_id), "%s", id);
    return true;
}

void account_note_sandbox(struct call *c, const ProtobufCMessage *message)
{
    if (c->sandbox_id[0] != '\0' || message == NULL || c->binding->standard ||
        note(c, string_field(message, "sandbox_id")))
        return;
    for (unsigned i = 0; i < message->descriptor->n_fields; i++) {
        const ProtobufCMessage *inner = message_field(message, i);

        if (inner != NULL && note(c, string_field(inner, "sandbox_id")))
            return;
    }
}

/* --- the log --- */

static void log_call(const struct call *c, int64_t took_us)
{
    const char *path = c->binding != NULL ? c->binding->path : "unknown";
    bool quiet = strncmp(path, "/grpc.health.", 13) == 0;
    struct log_field fields[12] = {
        LOG_S("method", path),
        LOG_S("code", code_name(c->verdict.code)),
        LOG_N("duration_ms", took_us / 1000),
        LOG_S("request_id", c->request_id),
        LOG_S("peer", call_peer(c)),
    };
    char trace_id[TRACE_ID_TEXT];
    size_t n = 5;

    if (c->trace != NULL) {
        trace_id_text(c->trace, trace_id);
        fields[n++] = LOG_S("trace_id", trace_id);
    }
    if (c->pass != NULL && c->pass->tenant != NULL)
        fields[n++] = LOG_S("tenant", c->pass->tenant);
    if (c->sandbox_id[0] != '\0')
        fields[n++] = LOG_S("sandbox_id", c->sandbox_id);
    if (c->verdict.code != CODE_OK)
        fields[n++] = LOG_S("error", c->verdict.message);
    log_write(quiet ? LOG_DEBUG : LOG_INFO, "call", fields, n);
}

/* --- the span --- */

/* What a server is to blame for, as OpenTelemetry lists it. */
static bool is_failure(enum code code)
{
    return code == CODE_UNKNOWN || code == CODE_DEADLINE_EXCEEDED || code == CODE_UNIMPLEMENTED ||
           code == CODE_INTERNAL || code == CODE_UNAVAILABLE || code == CODE_DATA_LOSS;
}

static void end_span(const struct call *c, int64_t took_us)
{
    struct span span = {
        .trace = c->trace,
        .kind = SPAN_SERVER,
        .end_ns = clock_wall_ns(),
        .code = c->verdict.code,
        .failed = is_failure(c->verdict.code),
    };

    if (!trace_is_sampled(c->trace))
        return;
    memcpy(span.id, c->trace->span, sizeof(span.id));
    memcpy(span.parent, c->trace->parent, sizeof(span.parent));
    span.service = c->binding->method->service->name;
    span.name = c->binding->method->name;
    span.start_ns = span.end_ns - took_us * 1000;
    snprintf(span.sandbox_id, sizeof(span.sandbox_id), "%s", c->sandbox_id);
    snprintf(span.request_id, sizeof(span.request_id), "%s", c->request_id);
    if (c->pass != NULL && c->pass->tenant != NULL)
        snprintf(span.tenant, sizeof(span.tenant), "%s", c->pass->tenant);
    tracer_end(c->worker->server->config.tracer, &span);
}

void account_call_ended(const struct call *c)
{
    const struct account *a = account_of(c);
    int64_t took_us = (clock_monotonic_ns() - c->started_ns) / 1000;
    size_t code = (size_t)c->verdict.code < N_CODES ? (size_t)c->verdict.code : CODE_UNKNOWN;

    metric_count(a->handled, series_of(c) * N_CODES + code, 1);
    metric_observe(a->took, series_of(c), took_us);
    count_open(c, -1);
    log_call(c, took_us);
    end_span(c, took_us);
}
