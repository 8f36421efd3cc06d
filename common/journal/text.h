/*
 * Output as text, event by event: what is no UTF-8 becomes U+FFFD, and a character that is cut in
 * two goes out whole with the later event. What an event becomes depends on the last three bytes of
 * its stream before it and on nothing else (an empty event ends a cut character for good), so a
 * reader that resumes anywhere gets the same text.
 */
#pragma once

#include "common/base/utf8.h"
#include "common/journal/lines.h"
#include "common/journal/parts.h"

enum {
    TEXT_TAIL = UTF8_TAIL,
    TEXT_STREAMS = 3,
    /* Of output in an event: what a recorder writes, and what lines.c puts in front of it. */
    TEXT_EVENT_MAX = LINE_MAX_BYTES + JOURNAL_PAYLOAD_MAX,
    TEXT_FITS = JOURNAL_FRAME_MAX - 2 * JOURNAL_HEADER_MAX, /* of text in a frame */
};

struct text_stream {
    struct utf8_tail tail;
    uint64_t offset; /* of what comes next */
};

struct text {
    struct text_stream streams[TEXT_STREAMS]; /* stdout, stderr, terminal */
};

/* Takes note of an output event that is not wanted. last: the recorded event is empty. */
void text_skip(struct text *t, const struct journal_event *e, bool last);

/*
 * Writes the Text event of an output event as a frame to to (room: JOURNAL_FRAME_MAX), and takes
 * note of it. Where so much is no UTF-8 that it would not fit, '?' stands in the place of U+FFFD.
 * Returns its length; 0 when the event is larger than any that there is.
 */
size_t text_encode(struct text *t, const struct journal_event *e, bool last, uint8_t *to);

/* Finds the tails as they were where part i starts. */
void text_look_back(struct text *t, struct parts *p, size_t i);
