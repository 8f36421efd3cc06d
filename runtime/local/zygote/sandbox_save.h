/*
 * What a sandbox has written, as a file of the host, and back: a tar archive of its writable layer,
 * with the owners as they are inside, all modes and attributes, and what overlays need to know.
 */
#pragma once

#include "runtime/local/zygote/sandbox_spawn.h"

/* How the saving process ends when it is not tar that does. */
enum { SAVE_NOT_READY = 100, SAVE_NO_TAR = 101 };

/*
 * Starts writing it to to_fd in a process of its own, which ends with 0 when all is there. The
 * sandbox stands still meanwhile. Returns its pid and a pidfd; -1: errno. It runs as root of the
 * sandbox's own user namespace: a hostile tree can do no more than the sandbox could.
 */
pid_t sandbox_save_start(const struct sandbox_host *host, const struct sandbox *s, int to_fd,
                         int *ret_pidfd);

/*
 * Fills the writable layer at path from such a file; in the sandbox's first process, before it is
 * anything's. False: errno.
 */
bool sandbox_restore(const struct sandbox_host *host, const char *path, int from_fd);
