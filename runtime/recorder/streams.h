/*
 * What the command writes, on its way into the journal. Streams are read only while the journal
 * has room and nothing that was read waits for it; all of it happens in the writer's loop.
 */
#pragma once

#include "common/journal/journal.h"

#include <stdbool.h>

struct writer;

/* Takes *fd. */
void streams_add(struct writer *w, int i, int *fd, enum journal_kind kind);

/* Reads on, or not, as things stand now. */
void streams_watch(struct writer *w);

/* Readers moved: there may be room again. */
void streams_unblock(struct writer *w);

/*
 * Puts the pending output into the journal. On a full disk it is given up and accounted for, but
 * under BLOCK, where nothing may be: there it stays pending, and the command comes to wait.
 */
bool streams_store_pending(struct writer *w);

/*
 * What the command had written before it ended is in its pipes now, however full the journal is; it
 * is bounded by what a pipe holds. Background processes may be adding more: that is for later.
 * False: not all of it is stored yet.
 */
bool streams_drain(struct writer *w);

/* Streams that are not read for want of room may have ended all the same. */
void streams_close_ended(struct writer *w);

/* All have ended, and all they brought is stored. */
bool streams_are_done(const struct writer *w);
