/*
 * Answers that are kept for a day, so that what was done is not done again when it is asked for
 * once more because the answer was lost; also how far a long digest came (digest.h). In the state
 * directory, which programs in the sandbox cannot change.
 */
#pragma once

#include "common/base/buf.h"
#include "common/base/sha256.h"
#include "runtime/recorder/state.h"

/* key: of what was asked for. False: it was not done, or nobody knows. */
bool receipt_find(const struct state *s, const uint8_t key[SHA256_LEN], struct buf *out);
/* That it cannot be kept is no failure. */
void receipt_keep(const struct state *s, const uint8_t key[SHA256_LEN], const struct buf *answer);
