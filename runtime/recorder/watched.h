/*
 * The commands that a watcher knows: which there are, how far each was read, and the cursor that
 * says so. A command is open only while there is something to read of it.
 */
#pragma once

#include "common/base/buf.h"
#include "common/base/list.h"
#include "common/journal/view.h"
#include "runtime/recorder/reader.h"
#include "runtime/recorder/state.h"

struct watched {
    struct list link;
    char id[ID_MAX + 1];
    int64_t start_ns;
    uint32_t format;
    uint64_t last_seq; /* the last event that was written, or considered */
    bool closed;       /* nothing can follow, and all of it was seen */
    bool done;         /* nothing more of it is wanted, for that or another reason */

    int dir; /* owned; -1: not open */
    struct reader reader;
    struct view view;
    struct journal_event next; /* read, and not written */
    bool has_next;
    bool ready;     /* there may be more to read */
    bool starved;   /* it could not be opened */
    size_t n_tried; /* when: so many were done then */

    int control;  /* owned; -1: no writer to talk to */
    bool waiting; /* it was asked to tell when there is more */
    bool settled; /* no writer, and the journal has its end */
    bool final;   /* and it was looked at once more since */
};

struct watched_set {
    const struct state *state;       /* borrowed */
    const struct view_options *view; /* borrowed */
    struct list all;                 /* of struct watched, in no order */
    size_t n_done;
    bool newer;         /* there is one that this recorder cannot read */
    int64_t listed_ns;  /* wall clock; when the directory was read */
    int64_t changed_ns; /* when it had changed then */
};

void watched_init(struct watched_set *s, const struct state *state,
                  const struct view_options *view);
void watched_deinit(struct watched_set *s);

/* Takes over what a cursor says. False: it is none. */
bool watched_set_cursor(struct watched_set *s, const struct buf *cursor);
void watched_add_cursor(const struct watched_set *s, struct buf *to);

/* Looks for new commands, if there may be some. */
void watched_refresh(struct watched_set *s);

/* False: it cannot be read (now); too many may be open. */
bool watched_open(struct watched_set *s, struct watched *w);
void watched_finish(struct watched_set *s, struct watched *w, bool closed);

/* What could not be opened is ready again, if others are done since. False: nothing is. */
bool watched_retry(struct watched_set *s);
