/*
 * One command in an archive: its Record, and its journal event by event. Pieces are fetched when
 * they are needed, one at a time, and everything in them is checked as what comes out of a sandbox
 * is. Waits, on the thread of a job.
 */
#pragma once

#include "common/base/list.h"
#include "service/archive/record.h"

/* Where to read. */
struct archived_place {
    struct store *store;
    const char *owner, *sandbox_id;
    int64_t timeout_ms; /* of one object */
};

/* What is archived of a sandbox, oldest command first; owned by the caller. */
bool archived_names(const struct archived_place *p, struct record_name **ret, size_t *ret_n,
                    struct status *st);
const struct record_name *archived_find(const struct record_name *names, size_t n,
                                        const char *command_id);

struct archived {
    const struct archived_place *place; /* borrowed */
    Archive__V1__Record *record;        /* owned */
    struct segment *segments;           /* owned; the pieces */
    struct parts parts;                 /* them, for who looks back */
    struct buf piece;                   /* the one that is loaded */
    size_t loaded;                      /* which; SIZE_MAX: none */
    size_t at;                          /* in it, behind the last event that parts gave */

    size_t part;                /* what is read on, and where in it the next frame starts */
    size_t part_at;             /* … */
    size_t frame_at, frame_len; /* the last event's frame */
    struct journal_check check;
    struct status st; /* CODE_OK, or why nothing more can be read */
};

bool archived_open(struct archived *a, const struct archived_place *p,
                   const struct record_name *name, struct status *st);
void archived_deinit(struct archived *a); /* may be called twice, and on a zeroed one */

/* Reading starts with the piece that holds from; returns which that is. */
size_t archived_start(struct archived *a, uint64_t from);

enum archived_step {
    ARCHIVED_EVENT, /* *ret; it and archived_frame() hold until the next call */
    ARCHIVED_END,
    ARCHIVED_FAILED, /* a->st */
};
enum archived_step archived_next(struct archived *a, struct journal_event *ret);
const uint8_t *archived_frame(const struct archived *a);

/* Gives memory back. The last event holds no more, until archived_again() gives it once more. */
void archived_unload(struct archived *a);
bool archived_again(struct archived *a, struct journal_event *ret);
