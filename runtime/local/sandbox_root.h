/*
 * The file system of a sandbox: built on a tmpfs that is its whole writable layer, then entered.
 * Both run in the sandbox's first process and end it through sandbox_fail().
 */
#pragma once

#include "runtime/local/sandbox_host.h"

/* Tells the zygote which step failed (errno: why) and ends the process. */
_Noreturn void sandbox_fail(const char *step);

void sandbox_root_build(const struct sandbox_host *host, const struct zygote_limits *limits);
void sandbox_root_enter(void);
