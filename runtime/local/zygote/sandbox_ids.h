/* User namespaces: making a process in new ones, and which ids it has there. */
#pragma once

#include "runtime/local/zygote/sandbox_host.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/*
 * As fork(), into new namespaces (CLONE_NEW*) and, unless cgroup_fd is -1, into that group of
 * version 2; in the parent *ret_pidfd is the child's.
 */
pid_t sandbox_ids_fork(uint64_t namespaces, int cgroup_fd, int *ret_pidfd);

/*
 * Writes the id maps of a child made with CLONE_NEWUSER. first: in tier A, what its root is
 * outside. False: errno is set.
 */
bool sandbox_ids_map(const struct sandbox_host *host, pid_t child, uint32_t first);

/* In the child, once its maps are written: takes the ids of the agent. False: errno is set. */
bool sandbox_ids_take(const struct sandbox_host *host);

/* A descriptor of a user namespace with a sandbox's map; -1 when there is none to be had. */
int sandbox_ids_namespace(const struct sandbox_host *host);
