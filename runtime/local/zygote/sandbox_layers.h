/*
 * The directories of a system as a sandbox's root sees them: the host's, or those of a root file
 * system that a template brings. In tier A each sandbox gets clones of their mounts, mapped to its
 * own ids, so that what is root's outside is root's inside, to be changed in the sandbox's own
 * upper layer.
 */
#pragma once

#include "common/base/status.h"

#include <stdbool.h>
#include <sys/types.h>

enum { SANDBOX_LAYERS = 48 };

/* A directory at the top of it: an overlay over the system's, or a link as the system has it. */
struct sandbox_layer {
    char *name;  /* owned: "usr" */
    char *lower; /* owned; the lower directory, absolute or below the working directory */
    char *link;  /* owned; where it links to, and there is no directory; NULL: it is none */
    bool cloned; /* each sandbox has a clone of it */
    mode_t mode; /* of the directory, */
    uid_t uid;   /* and whose it is */
    gid_t gid;
};

struct sandbox_layers {
    struct sandbox_layer layer[SANDBOX_LAYERS];
    int n;
    bool foreign; /* not the host's: nothing of it is made ready for sandboxes */
};

/* Adds one of the name that is at lower, if there is something. Both are copied. */
struct sandbox_layer *sandbox_layers_add(struct sandbox_layers *layers, const char *name,
                                         const char *lower);
/* Those of another root file system, all but what every sandbox has of its own. */
bool sandbox_layers_read(struct sandbox_layers *ret, const char *rootfs, bool cloned,
                         struct status *st);
void sandbox_layers_deinit(struct sandbox_layers *layers);
/* By the first part of a path below the root. NULL: there is none. */
const struct sandbox_layer *sandbox_layers_find(const struct sandbox_layers *layers,
                                                const char *path);

/* Whether the file system that path is on can be mapped. Needs Linux 5.19 for overlays' layers. */
bool sandbox_layers_can_map(const char *path, int namespace_fd);

/* Sends a starting sandbox its clones, as the word to go on. False: errno. */
bool sandbox_layers_send(const struct sandbox_layers *layers, int sync_fd, int namespace_fd);

/* In its first process: fd[i] is the clone of layer i, or -1 where it has none. False: errno. */
bool sandbox_layers_receive(const struct sandbox_layers *layers, int sync_fd,
                            int fd[SANDBOX_LAYERS]);
