/*
 * Reads the events of one journal in order, from the segment that holds the first one wanted on,
 * over rotations and over what was dropped meanwhile. It never waits and knows no writer.
 */
#pragma once

#include "common/journal/view.h"
#include "runtime/recorder/segments.h"

enum { READER_MADE_MAX = 4 };

enum reader_step {
    READER_EVENT,   /* *ret, and its frame in reader.frame */
    READER_NOTHING, /* for now */
    READER_CORRUPT,
};

/* Events that stand for what is gone, made on the way. */
struct reader_made {
    uint8_t frames[READER_MADE_MAX][1536];
    size_t len[READER_MADE_MAX];
    int n, next;
};

struct reader {
    int dir;       /* borrowed; the command's directory */
    uint64_t from; /* the first event wanted; those before it come too, back to a segment's start */
    int fd;        /* owned; the segment that is read; -1: none yet */
    struct segment_walk walk; /* of fd */
    uint64_t segment_first;
    uint64_t next_seq; /* the next event of the journal */
    uint64_t bytes;    /* of output before it */
    bool bytes_known;
    int64_t last_ns; /* of the event before it */
    bool corrupt;
    bool looked_again; /* a later segment is there, and this one was read to its end since */

    struct segment stop;  /* what was recorded at the start */
    size_t start_index;   /* of the first segment that is read, in list */
    struct segments list; /* owned; as it was at the start */

    struct reader_made made;
    const uint8_t *frame; /* of the last event */
    size_t frame_len;
};

/* start_ns: when the record began. */
void reader_init(struct reader *r, int dir, uint64_t from, int64_t start_ns);
void reader_deinit(struct reader *r);

/*
 * The next event. suspect: also look for later segments when this one has no more (that costs a
 * look at the directory). The walk's buffer, and with it every frame before, is overwritten unless
 * reader_buffered() would have given the event.
 */
enum reader_step reader_next(struct reader *r, bool suspect, struct journal_event *ret);

/* The same, of what was read already: NOTHING when reader_next() would have to read. */
enum reader_step reader_buffered(struct reader *r, struct journal_event *ret);

/* Tells a view what of earlier events still matters where reading starts. */
void reader_look_back(const struct reader *r, struct view *v);

/* Everything that was recorded when it began was read. */
bool reader_is_past_start(const struct reader *r);
