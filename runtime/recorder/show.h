/* What is known of commands, as sandbox.v1.Command messages. */
#pragma once

#include "common/base/buf.h"
#include "common/base/status.h"
#include "runtime/recorder/state.h"

enum { SHOW_MAX = 16 * 1024 * 1024 };

/* Appends one frame with the command. */
bool show_command(const struct state *s, const char *id, struct buf *to, struct status *st);

/* Which commands: in one of these states, by name (none: in any), with all of these labels. */
struct show_filter {
    const char *const *states;
    size_t n_states;
    const char *const *labels; /* key=value */
    size_t n_labels;
};

/*
 * The same for a page of them, oldest first, written to stdout. after: "<start time ns>:<id>" of
 * the last one seen; NULL: from the first.
 */
bool show_list(const struct state *s, const char *after, size_t limit,
               const struct show_filter *filter, struct status *st);
