/*
 * The host's system directories as a sandbox's root sees them: in tier A each sandbox gets clones
 * of their mounts that are mapped to its own ids, so that what is root's outside is root's inside,
 * to be changed in the sandbox's own upper layer.
 */
#pragma once

#include "runtime/local/sandbox_host.h"

/* Whether the file system that path is on can be mapped. Needs Linux 5.19 for overlays' layers. */
bool sandbox_layers_can_map(const char *path, int namespace_fd);

/* Sends a starting sandbox its clones, as the word to go on. False: errno. */
bool sandbox_layers_send(const struct sandbox_host *host, int sync_fd, int namespace_fd);

/* In its first process: fd[i] is the clone of layer i, or -1 where it has none. False: errno. */
bool sandbox_layers_receive(const struct sandbox_host *host, int sync_fd, int fd[SANDBOX_LAYERS]);
