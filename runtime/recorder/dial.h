/* A TCP connection to a port of the sandbox, carried over stdin and stdout. */
#pragma once

#include "common/base/status.h"

#include <stdint.h>

/*
 * Connects, then carries bytes both ways until both have ended (common/journal/dial.h). host: an IP
 * address; NULL: the sandbox itself, 127.0.0.1 or else ::1. silence_ms: 0 for the usual.
 */
bool dial(const char *host, uint16_t port, int64_t silence_ms, struct status *st);
