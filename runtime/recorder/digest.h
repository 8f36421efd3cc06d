/*
 * The digest of a file's content. How far it came in a large one is kept in the state directory, so
 * where a process is stopped (those that take long are let live for some minutes) the next one goes
 * on there instead of beginning again, and a slow machine comes to the end of any file.
 */
#pragma once

#include "common/base/sha256.h"
#include "runtime/recorder/state.h"

#include <stdbool.h>

enum { DIGEST_STEP = 16 << 20 }; /* so often it is kept */

/* s: NULL to keep nothing. False with errno set. */
bool digest_file(const struct state *s, int fd, uint8_t ret[SHA256_LEN]);
