/* All commands of a sandbox in one stream: those recorded merged by time, then as they come. */
#pragma once

#include "common/base/buf.h"
#include "common/base/status.h"
#include "common/journal/view.h"
#include "runtime/recorder/state.h"

struct watch_options {
    struct view_options view; /* its limit is of all commands together */
    bool follow;
};

/* cursor: a recorder.v1.WatchCursor; empty: from the start. Writes to stdout: see verbs.h. */
bool watch(const struct state *s, const struct watch_options *o, const struct buf *cursor,
           struct status *st);
