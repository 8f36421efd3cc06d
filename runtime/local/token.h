/* Access tokens: derived from the server's seed and the id, so that every answer gives the same. */
#pragma once

#include "runtime/local/registry.h"

/* Hexadecimal HMAC-SHA256 of the id. */
void token_make(const uint8_t *seed, size_t seed_len, const char *id,
                char token[static SANDBOX_TOKEN_LEN + 1]);
