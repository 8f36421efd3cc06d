/*
 * The file system of a sandbox: built on a tmpfs that is its whole writable layer, then entered.
 * Both run in the sandbox's first process and end it through sandbox_fail().
 */
#pragma once

#include "runtime/local/zygote/sandbox_setup.h"

/* Tells the zygote which step failed (errno: why) and ends the process. */
_Noreturn void sandbox_fail(const char *step);

/* layer_fd: of sandbox_layers_receive(). */
void sandbox_root_build(const struct sandbox_inside *in, const int layer_fd[SANDBOX_LAYERS]);
/* The writable layer below the overlays, before the host's files are left. The caller's. */
int sandbox_root_open_store(void);
void sandbox_root_enter(void);
