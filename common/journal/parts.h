/*
 * A journal in parts, wherever it is kept: the segments in a sandbox, the pieces of an archive.
 * What has to look back, or for the end, goes over parts; it knows neither files nor stores.
 */
#pragma once

#include "common/journal/journal.h"

struct segment {
    uint64_t first_seq;
    uint64_t bytes_before; /* of the command's output */
    uint64_t size;
};

struct parts {
    const struct segment *list; /* borrowed; oldest first */
    size_t n;

    /* Goes over the events of one part, one part at a time. open is false when the part is not
     * there any more; what next gives holds until it is called again. */
    bool (*open)(struct parts *p, size_t i);
    bool (*next)(struct parts *p, struct journal_event *ret);
    void (*close)(struct parts *p);
};

static inline bool event_is_output(const struct journal_event *e)
{
    return e->kind == JOURNAL_STDOUT || e->kind == JOURNAL_STDERR || e->kind == JOURNAL_TERMINAL;
}

/* Bytes of the command's output in an event: those it stands for, when it is a Dropped. */
static inline uint64_t event_bytes(const struct journal_event *e)
{
    if (e->kind == JOURNAL_DROPPED)
        return e->dropped_bytes;
    return event_is_output(e) ? e->data_len : 0;
}
