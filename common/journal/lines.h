/*
 * Output in whole lines, event by event: what stands behind an event's last newline goes out with a
 * later event of its stream. What an event becomes depends on the LINE_MAX bytes of its stream
 * before it and on nothing else, so a reader that resumes anywhere gets the same: the bytes since
 * the last newline are held back if, and only if, they are no more than LINE_MAX. An empty event,
 * where a stream ends or the command exits, lets go of everything.
 */
#pragma once

#include "common/journal/parts.h"

enum { LINE_MAX_BYTES = 16 * 1024, LINE_STREAMS = 3 };

struct line_stream {
    uint8_t held[LINE_MAX_BYTES];
    size_t n_held;
    uint64_t since_newline; /* bytes; more than are held when those are too many */
    uint64_t offset;        /* of what comes next */
    bool gave_up;           /* what was held before it is gone */
};

struct lines {
    struct line_stream streams[LINE_STREAMS]; /* stdout, stderr, terminal */
    uint8_t whole[LINE_MAX_BYTES + JOURNAL_PAYLOAD_MAX];
};

/* Takes note of an output event that is not wanted. */
void lines_skip(struct lines *l, const struct journal_event *e);

/*
 * Makes an output event one of whole lines: its data (which holds until the next call) and offset
 * change. False when the event is larger than any that a recorder writes.
 */
bool lines_take(struct lines *l, struct journal_event *e);

/* Output was dropped here: what is held cannot be completed. Returns how many bytes that were. */
uint64_t lines_give_up(struct lines *l);

/* Finds what is held where part i starts. */
void lines_look_back(struct lines *l, struct parts *p, size_t i);
