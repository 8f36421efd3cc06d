/* RFC 3339 timestamps in UTC, from and to wall-clock nanoseconds. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { TIMESTAMP_SIZE = 40 };

/* "2026-01-01T00:00:00.123456Z" */
void timestamp_format(int64_t ns, char text[static TIMESTAMP_SIZE]);
/* Any fraction, "Z" or an offset. */
bool timestamp_parse(const char *text, int64_t *ret_ns);
