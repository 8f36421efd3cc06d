/* Access tokens: derived from the server's seed and the id, so that every answer gives the same. */
#pragma once

#include "common/base/status.h"
#include "runtime/local/daemon/registry.h"

enum { TOKEN_SEED_LEN = 32 };

/*
 * The seed that is kept in the folder, made when there is none: so tokens are the same for the next
 * server there.
 */
bool token_seed(const char *folder, uint8_t seed[static TOKEN_SEED_LEN], struct status *st);

/* Hexadecimal HMAC-SHA256 of the id. */
void token_make(const uint8_t *seed, size_t seed_len, const char *id,
                char token[static SANDBOX_TOKEN_LEN + 1]);
