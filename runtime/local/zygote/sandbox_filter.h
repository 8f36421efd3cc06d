/*
 * The system call filter of every sandbox, made once with libseccomp and kept as plain BPF, so that
 * a new sandbox loads it with one prctl() and no library.
 *
 * It allows what programs need and refuses what reaches beyond namespaces: mounts and new
 * namespaces, kernel keys, bpf, perf, userfaultfd, io_uring, other processes' memory, and the
 * socket families that namespaces do not confine (AF_VSOCK reaches the hypervisor).
 */
#pragma once

#include "common/base/status.h"

#include <linux/filter.h>
#include <stdbool.h>

bool sandbox_filter_make(struct sock_fprog *ret, struct status *st);

/*
 * For the calling process and what it starts, for ever. Needs no_new_privs, or CAP_SYS_ADMIN in the
 * caller's user namespace. False: errno is set.
 */
bool sandbox_filter_load(const struct sock_fprog *filter);
