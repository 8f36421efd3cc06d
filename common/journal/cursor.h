/*
 * The cursor of a view of all commands: how far each was read. Opaque to clients; sandboxd checks
 * it, watchers and readers of an archive write and read it. Pure.
 */
#pragma once

#include "common/base/buf.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { CURSOR_ID_MAX = 64 };

struct cursor_entry {
    char id[CURSOR_ID_MAX + 1]; /* of a command; as it came: check it */
    uint64_t last_seq;          /* the last event that was written, or considered */
    bool closed;                /* nothing can follow, and all of it was seen */
};

/* False: no room. */
bool cursor_add(struct buf *to, const struct cursor_entry *e);

/* Goes over the entries; take returns false when one is none of ours. False: that, or it is no
 * cursor at all. */
bool cursor_read(const uint8_t *data, size_t len,
                 bool (*take)(void *arg, const struct cursor_entry *e), void *arg);
