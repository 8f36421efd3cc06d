/*
 * What a template has done at a sandbox's start: a command of its own, and one that tells when the
 * sandbox is ready. Only then are the agent's words taken: the zygote waits for its byte.
 */
#pragma once

#include "runtime/local/agent/agent.h"

/* Begins; says that the agent serves at once, or later. Behind agent_init(). */
bool startup_begin(struct agent *a, struct status *st);
/* A child has ended. */
void startup_reaped(struct agent *a, pid_t pid, int wait_status);
