/*
 * Watching a directory, or all of a tree, with inotify.
 *
 * Every watch has an inotify instance of its own, so that one that is not read loses its own events
 * only. What is told follows E2B's agent: one event is told as it comes from the kernel, nothing is
 * merged or delayed; what appears together with a new directory is told as created.
 */
#pragma once

#include "common/base/status.h"
#include "common/http/loop.h"
#include "envd/filesystem/filesystem.pb-c.h"

#include <stdbool.h>

struct watch;
struct watched;

struct watch_ops {
    /* path is absolute and valid UTF-8, name the same below the root, "." for the root itself. The
     * watch may be paused from here, but not closed. */
    void (*event)(struct watch *w, Filesystem__EventType type, const char *path, const char *name);
    /* Nothing more comes. The watch may be closed from here. */
    void (*failed)(struct watch *w, const struct status *st);
};

struct watch {
    struct loop *loop; /* borrowed */
    struct loop_fd io; /* fd -1: closed */
    const struct watch_ops *ops;
    char *root; /* owned: absolute, clean */
    bool recursive;
    bool paused;
    struct watched *all; /* owned */
    size_t n;
    size_t n_gone; /* of n */
    size_t room;
    uint32_t moving; /* the cookie of a directory that left its place; 0: none */
    struct status failure;
};

/* Begins to watch. root is absolute; it has to be a directory. Closed on failure. */
bool watch_open(struct watch *w, struct loop *l, const char *root, bool recursive,
                const struct watch_ops *ops, struct status *st);
void watch_close(struct watch *w); /* may be called twice */

/* While it is paused events wait in the kernel, which keeps a good ten thousand of them. */
void watch_pause(struct watch *w);
void watch_resume(struct watch *w);
