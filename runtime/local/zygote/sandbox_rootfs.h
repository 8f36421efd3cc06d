/*
 * What a root file system that a template brings is to have besides what it has: the user of every
 * sandbox, the sandbox's names and the way to a name server. It is written to the upper layer: the
 * template's own files stay as they are. Runs in the sandbox's first process; ends it through
 * sandbox_fail().
 */
#pragma once

#include "runtime/local/zygote/sandbox_host.h"

/* lower: the directory below; NULL: it has none. upper: where to write. */
void sandbox_rootfs_dress_etc(const char *lower, const char *upper);
/* The user's home, unless there is one. */
void sandbox_rootfs_dress_home(const struct sandbox_host *host, const char *lower,
                               const char *upper);
