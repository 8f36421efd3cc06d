/*
 * Where a file operation works: the user it is for, and paths as E2B's agent reads them (absolute,
 * "~", or relative to the user's home). Users say whose home and who owns what is made; access is
 * root's, as with everything that goes through the agent.
 */
#pragma once

#include "runtime/recorder/state.h"

#include <stdbool.h>
#include <sys/types.h>

struct place {
    uid_t uid;
    gid_t gid;
    bool own;   /* may give files away */
    char *home; /* owned */
};

/* name: empty for the template's user. */
bool place_init(struct place *p, const struct state *s, const char *name, struct status *st);
void place_deinit(struct place *p);

/* The absolute path, without slashes at its end; owned by the caller. */
bool place_resolve(const struct place *p, const char *path, char **ret, struct status *st);

/* The last part of such a path; "/" for the root. */
const char *place_name(const char *path);

/* Makes the directory with this owner and mode. False with errno set. */
bool place_make_dir(const struct place *p, const char *path, mode_t mode);

/* Makes all that is missing of the directories above path. */
bool place_make_parents(const struct place *p, const char *path, struct status *st);

/* The exit code for an errno of a file operation. */
int place_exit_of(int error);
/* A failure of path for errno; always false. */
bool place_fault(struct status *st, const char *path);
