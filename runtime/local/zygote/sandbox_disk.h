/*
 * A writable layer on disk: a file system of its own in a sparse file of the data directory, which
 * is what bounds it. The file has no name, and its loop device frees itself, so whenever the
 * sandbox ends, however it does, nothing of it is left. Takes root: loop devices and mounts of the
 * host's.
 */
#pragma once

#include "runtime/local/zygote/sandbox_host.h"

/*
 * Makes one, empty, whose root directory is owner's; path is a name to use for a moment. Returns
 * its mount, which hangs nowhere; the caller's. -1: st says why.
 */
int sandbox_disk_make(const struct zygote_limits *limits, uid_t owner, const char *path,
                      struct status *st);

/* Whether they can be made here, by making one. */
bool sandbox_disk_try(const struct sandbox_host *host, struct status *st);
