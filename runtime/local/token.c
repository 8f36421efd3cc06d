/* See token.h. */
#include "runtime/local/token.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void token_make(const uint8_t *seed, size_t seed_len, const char *id,
                char token[static SANDBOX_TOKEN_LEN + 1])
{
    uint8_t mac[EVP_MAX_MD_SIZE];
    unsigned mac_len = 0;

    if (HMAC(EVP_sha256(), seed, (int)seed_len, (const uint8_t *)id, strlen(id), mac, &mac_len) ==
        NULL)
        abort();
    for (unsigned i = 0; i < mac_len; i++)
        snprintf(token + 2 * i, 3, "%02x", mac[i]);
}
