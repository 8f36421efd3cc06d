/*
 * The files that a journal is kept in: journal.<first seq>.<bytes before>, where bytes before
 * counts the output of the command ahead of the segment, so that what is missing before it can be
 * told exactly. They are appended to, and removed oldest first; never renamed or rewritten. Only
 * the newest may end in a torn frame, and only while, or after, its writer is interrupted.
 */
#pragma once

#include "common/base/status.h"
#include "common/journal/parts.h"
#include "common/journal/tail.h"

struct segments {
    struct segment *list; /* owned; oldest first */
    size_t n;
};

void segments_deinit(struct segments *s);

/* What is there now. */
void segments_list(int dir, struct segments *ret);

/* The newest that starts at or before seq; NULL when there is none. */
const struct segment *segments_find(const struct segments *s, uint64_t seq);

int segment_open(int dir, const struct segment *s, int flags);
bool segment_remove(int dir, const struct segment *s);

/* Goes over the events of a segment, a large read at a time. */
struct segment_walk {
    int fd;        /* borrowed */
    uint64_t at;   /* where the next frame starts in the file */
    uint8_t *data; /* owned */
    size_t start, end;
    const uint8_t *frame; /* the event as it is recorded */
    size_t frame_len;
};

void segment_walk_init(struct segment_walk *w, int fd, uint64_t at);
void segment_walk_deinit(struct segment_walk *w);

/*
 * The next event; its pointers hold until the next call. PARTIAL at the end of what is there: call
 * again when there may be more.
 */
enum journal_result segment_walk_next(struct segment_walk *w, struct journal_event *ret);

/* The same, of what was read already: PARTIAL when the next call would have to read. */
enum journal_result segment_walk_buffered(struct segment_walk *w, struct journal_event *ret);

/* The segments of a directory, for what goes over the parts of a journal (common/journal/parts.h).
 */
struct segment_parts {
    struct parts parts;
    int dir; /* borrowed */
    int fd;
    struct segment_walk walk;
};

/* s: borrowed. */
void segment_parts_init(struct segment_parts *p, int dir, const struct segments *s);

/* Where the end starts of what is there now. */
void segments_tail(int dir, const struct tail_options *o, struct tail_place *ret);
