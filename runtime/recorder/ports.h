/* What listens in the sandbox. */
#pragma once

#include "common/base/status.h"
#include "runtime/recorder/state.h"

#include <stdint.h>

/*
 * Prints a sandbox.v1.ListPortsResponse. port: not before something listens on it or timeout_ms are
 * over, whichever comes first; 0: at once.
 */
bool ports_list(const struct state *s, uint16_t port, int64_t timeout_ms, struct status *st);
