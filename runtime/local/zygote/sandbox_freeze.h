/* A sandbox that stands still: all its processes, where they are, with their memory. */
#pragma once

#include "runtime/local/zygote/sandbox_spawn.h"

/* By its control group; without one by SIGSTOP to each process, which they can notice afterwards.
 * False: something of it still moves, and it is as it was. */
bool sandbox_freeze(const struct sandbox_host *host, struct sandbox *s);
/* What had been stopped before by its own hand stays so. */
void sandbox_thaw(const struct sandbox_host *host, struct sandbox *s);
