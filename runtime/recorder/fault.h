/*
 * Failures of this program: a status whose reason is the exit code (common/journal/verbs.h) and
 * whose message is the sentence that main() prints.
 */
#pragma once

#include "common/base/status.h"
#include "common/journal/verbs.h"

/* Always false, as status_set(). */
#define fault(st, exit_code, ...) status_set((st), CODE_UNKNOWN, (exit_code), __VA_ARGS__)

/* The same for a failed system call: NO_SPACE when that was it. Reads errno. */
#define fault_errno(st, ...)                                                                       \
    (status_set((st), CODE_UNKNOWN, fault_exit_of_errno(), __VA_ARGS__),                           \
     fault_add_errno(st, fault_saved_errno))

extern int fault_saved_errno;

int fault_exit_of_errno(void);
bool fault_add_errno(struct status *st, int error); /* always false */
