/* See log_view.h. */
#include "service/handlers/log_view.h"

#include "common/base/clock.h"
#include "sandbox/v1/errors.pb-c.h"

#include <assert.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { INVALID_FIELD = SANDBOX__V1__ERROR_REASON__ERROR_REASON_INVALID_FIELD };

static bool read_tail(const Sandbox__V1__Tail *t, struct log_view *v, struct status *st)
{
    if (t == NULL)
        return true;
    switch (t->amount_case) {
    case SANDBOX__V1__TAIL__AMOUNT_LINES:
        v->tail = "lines";
        v->tail_amount = t->lines;
        break;
    case SANDBOX__V1__TAIL__AMOUNT_BYTES:
        v->tail = "bytes";
        v->tail_amount = t->bytes;
        break;
    default:
        v->tail = "events";
        v->tail_amount = t->amount_case == SANDBOX__V1__TAIL__AMOUNT_EVENTS ? t->events : 0;
        break;
    }
    if (v->tail_amount > INT64_MAX)
        return status_bad_field(st, INVALID_FIELD, "tail", "tail is larger than any record");
    return true;
}

static bool read_time(const char *field, const Google__Protobuf__Timestamp *t, int64_t *ret_ns,
                      struct status *st)
{
    const int64_t last_s = INT64_MAX / NS_PER_S - 1;

    if (t == NULL)
        return true;
    if (t->nanos < 0 || t->nanos >= NS_PER_S)
        return status_bad_field(st, INVALID_FIELD, field, "%s is no time: nanos out of range",
                                field);
    /* What is before 1970, or too far ahead to be counted, bounds nothing that is recorded. */
    *ret_ns = t->seconds < 0        ? 1
              : t->seconds > last_s ? INT64_MAX
                                    : t->seconds * NS_PER_S + t->nanos;
    if (*ret_ns == 0)
        *ret_ns = 1;
    return true;
}

static bool read_streams(const Sandbox__V1__LogsRequest *r, struct log_view *v, struct status *st)
{
    static const char *const names[] = {NULL, "stdout", "stderr", "terminal"};
    bool wanted[4] = {false};

    for (size_t i = 0; i < r->n_streams; i++) {
        if (r->streams[i] < SANDBOX__V1__STREAM__STREAM_STDOUT ||
            r->streams[i] > SANDBOX__V1__STREAM__STREAM_TERMINAL)
            return status_bad_field(st, INVALID_FIELD, "streams", "streams: %d is not known here",
                                    (int)r->streams[i]);
        wanted[r->streams[i]] = true;
    }
    for (int i = 1; i < 4; i++) {
        size_t len = strlen(v->streams);

        if (wanted[i])
            snprintf(v->streams + len, sizeof(v->streams) - len, "%s%s", len > 0 ? "," : "",
                     names[i]);
    }
    return true;
}

bool log_view_read(const Sandbox__V1__LogsRequest *r, struct log_view *ret, struct status *st)
{
    *ret = (struct log_view){
        .text = r->encoding == SANDBOX__V1__ENCODING__ENCODING_TEXT,
        .whole_lines = r->whole_lines,
        .limit_bytes = r->limit_bytes,
    };
    if (r->limit_bytes > INT64_MAX)
        return status_bad_field(st, INVALID_FIELD, "limit_bytes", "limit_bytes is too large");
    return read_tail(r->tail, ret, st) && read_time("since", r->since, &ret->since_ns, st) &&
           read_time("before", r->before, &ret->before_ns, st) && read_streams(r, ret, st);
}

bool log_view_is_sparse(const struct log_view *v, bool begun)
{
    return v->streams[0] != '\0' || (!begun && (v->tail != NULL || v->since_ns != 0));
}

void log_view_arg(struct log_view_args *a, const char *fmt, ...)
{
    va_list args;

    assert(a->n + 1 < LOG_VIEW_ARGS_MAX);
    va_start(args, fmt);
    vsnprintf(a->room[a->n], sizeof(a->room[a->n]), fmt, args);
    va_end(args);
    a->list[a->n] = a->room[a->n];
    a->list[++a->n] = NULL;
}

static uint64_t limit_left(const struct log_view *v, uint64_t output)
{
    return output < v->limit_bytes ? v->limit_bytes - output : 1;
}

void log_view_args(const struct log_view *v, bool begun, uint64_t output, struct log_view_args *a)
{
    if (v->text)
        log_view_arg(a, "--text");
    if (v->whole_lines)
        log_view_arg(a, "--lines");
    if (v->streams[0] != '\0')
        log_view_arg(a, "--streams=%s", v->streams);
    if (v->tail != NULL && !begun)
        log_view_arg(a, "--tail-%s=%" PRIu64, v->tail, v->tail_amount);
    if (v->since_ns != 0)
        log_view_arg(a, "--since=%" PRId64, v->since_ns);
    if (v->before_ns != 0)
        log_view_arg(a, "--before=%" PRId64, v->before_ns);
    if (v->limit_bytes != 0)
        log_view_arg(a, "--limit-bytes=%" PRIu64, limit_left(v, output));
}

static unsigned streams_of(const struct log_view *v)
{
    static const char *const names[] = {"stdout", "stderr", "terminal"};
    unsigned streams = 0;

    for (int i = 0; i < TAIL_STREAMS; i++)
        if (strstr(v->streams, names[i]) != NULL)
            streams |= 1u << i;
    return streams != 0 ? streams : TAIL_ALL_STREAMS;
}

static enum tail_unit unit_of(const char *name)
{
    return strcmp(name, "lines") == 0   ? TAIL_LINES
           : strcmp(name, "bytes") == 0 ? TAIL_BYTES
                                        : TAIL_EVENTS;
}

void log_view_archived(const struct log_view *v, const char *until, bool begun, uint64_t output,
                       struct archive_view *ret)
{
    *ret = (struct archive_view){
        .view = {.text = v->text,
                 .lines = v->whole_lines,
                 .streams = streams_of(v),
                 .since_ns = v->since_ns,
                 .before_ns = v->before_ns,
                 .limit_bytes = v->limit_bytes != 0 ? limit_left(v, output) : 0},
        .from = 1,
        .until = strcmp(until, "closed") == 0   ? ARCHIVE_CLOSED
                 : strcmp(until, "exited") == 0 ? ARCHIVE_EXITED
                                                : ARCHIVE_NOW,
    };
    if (v->tail != NULL && !begun) {
        ret->tail = unit_of(v->tail);
        ret->tail_amount = v->tail_amount;
    }
}
