/* What is kept of commands that are closed, and removing the rest. */
#pragma once

#include "common/base/status.h"
#include "runtime/recorder/state.h"

#include <stdint.h>

/* 0: as the default has it; of the age: no limit. */
struct retention {
    uint64_t max_commands, max_bytes;
    int64_t max_age_ms;
};

struct retention_result {
    uint64_t removed, freed_bytes;
};

/* What was set for this sandbox; the default when nothing was. */
void retention_read(const struct state *s, struct retention *ret);
bool retention_write(const struct state *s, const struct retention *r, struct status *st);

/*
 * Removes the output of closed commands, the oldest first, until what is left is within r. What is
 * known of them, and how they ended, stays: an id is used up for good. spare: whose output stays
 * whatever r says; NULL: nobody's.
 */
void retention_apply(const struct state *s, const struct retention *r, const char *spare,
                     struct retention_result *ret);

/* Whether a command's output was removed: it is closed, and nothing is left of its journal. */
bool retention_is_expired(int dir);
