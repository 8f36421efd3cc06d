/* See base64.h. Pure. Encoding is on the path of all output that goes out as JSON. */
#include "common/base/base64.h"

static const char alphabet[64] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

size_t base64_encode(char *to, const void *data, size_t len)
{
    const uint8_t *in = data;
    char *out = to;

    for (; len >= 3; in += 3, len -= 3) {
        uint32_t bits = (uint32_t)in[0] << 16 | (uint32_t)in[1] << 8 | in[2];

        *out++ = alphabet[bits >> 18];
        *out++ = alphabet[bits >> 12 & 63];
        *out++ = alphabet[bits >> 6 & 63];
        *out++ = alphabet[bits & 63];
    }
    if (len > 0) {
        uint32_t bits = (uint32_t)in[0] << 16 | (len > 1 ? (uint32_t)in[1] << 8 : 0);

        *out++ = alphabet[bits >> 18];
        *out++ = alphabet[bits >> 12 & 63];
        *out++ = len > 1 ? alphabet[bits >> 6 & 63] : '=';
        *out++ = '=';
    }
    return (size_t)(out - to);
}

static int value_of(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    if (c == '+' || c == '-')
        return 62;
    if (c == '/' || c == '_')
        return 63;
    return -1;
}

bool base64_decode(uint8_t *to, const char *text, size_t len, size_t *ret_len)
{
    uint8_t *out = to;
    uint32_t bits = 0;
    size_t n = 0;

    if (len % 4 == 0)
        for (int i = 0; i < 2 && len > 0 && text[len - 1] == '='; i++)
            len--;
    if (len % 4 == 1)
        return false;
    for (; n < len; n++) {
        int value = value_of(text[n]);

        if (value < 0)
            return false;
        bits = bits << 6 | (uint32_t)value;
        if (n % 4 == 3) {
            *out++ = (uint8_t)(bits >> 16);
            *out++ = (uint8_t)(bits >> 8);
            *out++ = (uint8_t)bits;
        }
    }
    if (n % 4 == 2) {
        *out++ = (uint8_t)(bits >> 4);
    } else if (n % 4 == 3) {
        *out++ = (uint8_t)(bits >> 10);
        *out++ = (uint8_t)(bits >> 2);
    }
    *ret_len = (size_t)(out - to);
    return true;
}
