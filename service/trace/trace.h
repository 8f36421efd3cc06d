/*
 * A trace as W3C's Trace Context carries it from one program to the next: which trace a piece of
 * work belongs to, and which span of it whatever comes next is a child of. Pure, but for the
 * randomness of new ids.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    TRACE_ID_LEN = 16,
    TRACE_SPAN_LEN = 8,
    TRACE_STATE_MAX = 512,      /* a longer tracestate is left out, as W3C lets one */
    TRACE_PARENT_SIZE = 55 + 1, /* "00-<trace>-<span>-<flags>" and a NUL */
    TRACE_ID_TEXT = 2 * TRACE_ID_LEN + 1,
};

enum { TRACE_SAMPLED = 1 }; /* of flags */

/* Does not change once it is made; shared by reference between threads. */
struct trace {
    atomic_int refs;
    uint8_t id[TRACE_ID_LEN];
    uint8_t span[TRACE_SPAN_LEN];   /* what comes next is this one's child */
    uint8_t parent[TRACE_SPAN_LEN]; /* of that span; zeros: it is the root */
    uint8_t flags;
    char state[]; /* tracestate; "" for none */
};

/* What a caller sent: its trace, and its span as the parent of ours to come. NULL where there is no
 * traceparent or a wrong one; then tracestate means nothing. Either may be NULL. */
struct trace *trace_parse(const char *traceparent, const char *tracestate);

/* A trace of our own, with a span that is its root. */
struct trace *trace_new(uint8_t flags);
/* A new span within the same trace, below t's. */
struct trace *trace_child(const struct trace *t, uint8_t flags);

struct trace *trace_ref(struct trace *t); /* NULL is fine, here and below */
void trace_unref(struct trace *t);

static inline bool trace_is_sampled(const struct trace *t)
{
    return t != NULL && (t->flags & TRACE_SAMPLED) != 0;
}

/* The traceparent whose span is t's, or another one of the same trace. */
void trace_format(const struct trace *t, const uint8_t span[TRACE_SPAN_LEN],
                  char ret[TRACE_PARENT_SIZE]);
void trace_id_text(const struct trace *t, char ret[TRACE_ID_TEXT]);

/* An id that nobody else makes; never all zeros. */
void trace_new_span(uint8_t ret[TRACE_SPAN_LEN]);
