/*
 * Limits by control groups: memory, processes and CPU time of a whole sandbox. Each controller is
 * looked for on its own, because hybrid machines have some in version 1 hierarchies and some in
 * version 2. All groups of one daemon lie below one directory per hierarchy, named after its data
 * directory, so that the next daemon can remove what a killed one left.
 */
#pragma once

#include "common/base/status.h"
#include "runtime/local/zygote/zygote.h"

#include <stdbool.h>

enum sandbox_controller {
    CONTROLLER_MEMORY,
    CONTROLLER_PIDS,
    CONTROLLER_CPU,
    CONTROLLER_FREEZER, /* version 1 alone: version 2 freezes by any group */
    CONTROLLERS
};

struct sandbox_cgroups {
    struct {
        int version; /* 1 or 2; 0: not to be had */
        char *base;  /* owned; the directory of this daemon */
    } controller[CONTROLLERS];
};

/*
 * Finds the controllers below root ("/sys/fs/cgroup") that can be used and makes the daemon's own
 * directory, called name, in each; removes old groups found in it. self is the text of
 * /proc/self/cgroup. What is not to be had is not an error.
 */
void sandbox_cgroups_find(struct sandbox_cgroups *cgroups, const char *root, const char *self,
                          const char *name);
/* Removes the daemon's directories. */
void sandbox_cgroups_deinit(struct sandbox_cgroups *cgroups);

/*
 * The ways into the groups of one sandbox. Its first process joins by itself: a process that is put
 * into a group by another makes the whole machine wait for a grace period, some 10 ms.
 */
struct sandbox_cgroup_ways {
    int tasks_fd[CONTROLLERS]; /* owned; of version 1, -1: none */
    int group_fd;              /* owned; of version 2, for sandbox_ids_fork(), -1: none */
};

/* Makes the groups of one sandbox and sets its limits (all fields given). */
bool sandbox_cgroups_make(const struct sandbox_cgroups *cgroups, const char *id,
                          const struct zygote_limits *limits, struct sandbox_cgroup_ways *ret,
                          struct status *st);
/* Puts the caller, which has one thread, into those of version 1. False: errno is set. */
bool sandbox_cgroups_join(const struct sandbox_cgroup_ways *ways);
void sandbox_cgroup_ways_deinit(struct sandbox_cgroup_ways *ways);
/* Whether there is a group by which a whole sandbox can be frozen. */
bool sandbox_cgroups_can_freeze(const struct sandbox_cgroups *cgroups);
/* Stops all processes of the sandbox where they are, or lets them go on. True: done. */
bool sandbox_cgroups_freeze(const struct sandbox_cgroups *cgroups, const char *id, bool frozen);
/*
 * Once its processes are gone. False: not yet; a reaped process leaves its group a moment later
 * than waitpid() returns.
 */
bool sandbox_cgroups_remove(const struct sandbox_cgroups *cgroups, const char *id);
