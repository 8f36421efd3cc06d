/*
 * Limits by control groups: memory, processes and CPU time of a whole sandbox. Each controller is
 * looked for on its own, because hybrid machines have some in version 1 hierarchies and some in
 * version 2. All groups of one daemon lie below one directory per hierarchy, named after its data
 * directory, so that the next daemon can remove what a killed one left.
 */
#pragma once

#include "common/base/status.h"
#include "runtime/local/zygote.h"

#include <stdbool.h>
#include <sys/types.h>

enum sandbox_controller { CONTROLLER_MEMORY, CONTROLLER_PIDS, CONTROLLER_CPU, CONTROLLERS };

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

/* Makes the groups of one sandbox, sets its limits (all fields given) and puts pid in. */
bool sandbox_cgroups_enter(const struct sandbox_cgroups *cgroups, const char *id,
                           const struct zygote_limits *limits, pid_t pid, struct status *st);
/*
 * Once its processes are gone. False: not yet; a reaped process leaves its group a moment later
 * than waitpid() returns.
 */
bool sandbox_cgroups_remove(const struct sandbox_cgroups *cgroups, const char *id);
