/* Waiting for a command's end without reading it. */
#pragma once

#include "common/base/status.h"

#include <stdint.h>

/* Until it exited, or is closed, or the time is over: look which it was. dir: the command's. */
bool wait_for_end(int dir, bool closed, int64_t timeout_ms, struct status *st);
