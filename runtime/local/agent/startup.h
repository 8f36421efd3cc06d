/*
 * What a template has done at a sandbox's start: its directory made, a command of its own, and one
 * that tells when the sandbox is ready. Only then is the sandbox there: the zygote waits for the
 * agent's byte, or for its sentence on why there will be none.
 */
#pragma once

#include "runtime/local/agent/agent.h"

/* Begins; says that the agent serves at once, or later. Behind agent_init(). */
bool startup_begin(struct agent *a, struct status *st);
/* Tells the zygote why the agent ends. */
void startup_fail(const struct status *st);
/* A child has ended. */
void startup_reaped(struct agent *a, pid_t pid, int wait_status);
