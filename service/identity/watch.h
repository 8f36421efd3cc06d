/*
 * Files that may be replaced while the program runs: keys and certificates. A thread of its own
 * looks at them a few times a second, at what their names lead to, so that a new file, a file
 * written in place and a symlink moved elsewhere (as Kubernetes swaps a mounted secret) are all
 * seen. Files that belong together are told of once, when they have stopped changing.
 */
#pragma once

#include "common/base/buf.h"
#include "common/base/list.h"
#include "common/base/status.h"

#include <stddef.h>
#include <stdint.h>

enum { WATCHED_FILES = 3, WATCH_INTERVAL_MS = 250 };

/* What tells one content of a file from another. */
struct watch_stamp {
    uint64_t device, inode, size;
    int64_t modified_ns, changed_ns;
};

/* Files that belong together; embedded in whatever is made of them. */
struct watched {
    const char *paths[WATCHED_FILES];      /* borrowed; NULL: fewer */
    void (*changed)(struct watched *self); /* on the watch's thread */

    struct list node;
    struct watch_stamp known[WATCHED_FILES], last[WATCHED_FILES];
};

struct watch;

struct watch *watch_new(void);
/* Before watch_start(). What the files are now counts as known: read them after this. */
void watch_add(struct watch *w, struct watched *files);
bool watch_start(struct watch *w, struct status *st);
/* Waits for a `changed` that runs. NULL is fine. */
void watch_free(struct watch *w);

/* One look, as the thread takes them; for tests. */
void watch_look(struct watch *w);

/* Appends the whole file; its size is bounded by the buffer. */
bool watch_read_file(const char *path, struct buf *ret, struct status *st);
