/*
 * Ways out of a sandbox, each tried by itself. The same program runs inside, where each attempt
 * must fail, and outside as root, where it must not: so we know that it is one.
 */
#pragma once

#include <stddef.h>

struct attempt {
    const char *name;
    /* 0: it succeeded, or went as far as it harmlessly can; else errno. argument: of argv. */
    int (*run)(const char *argument);
};

/* Lists that end with a NULL name. */
extern const struct attempt kernel_attempts[];
extern const struct attempt namespace_attempts[];
extern const struct attempt power_attempts[];
extern const struct attempt socket_attempts[];

/* The result of a system call as errno, 0 when it succeeded. */
int outcome(long result);
