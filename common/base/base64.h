/* Base64 (RFC 4648). */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

static inline size_t base64_encoded_len(size_t len)
{
    return (len + 2) / 3 * 4;
}

/* Room that decoding len characters may take. */
static inline size_t base64_decoded_max(size_t len)
{
    return len / 4 * 3 + 3;
}

/* Writes base64_encoded_len(len) characters, standard alphabet, padded, and no NUL; returns it. */
size_t base64_encode(char *to, const void *data, size_t len);

/* Both alphabets, with or without padding; nothing else. False: it is no base64. */
bool base64_decode(uint8_t *to, const char *text, size_t len, size_t *ret_len);
