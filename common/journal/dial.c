/* See dial.h. */
#include "common/journal/dial.h"

#define SIGN_BEAT UINT32_C(0)
#define SIGN_END UINT32_C(0xffffffff)

static void put(uint8_t to[DIAL_HEADER], uint32_t word)
{
    for (int i = 0; i < DIAL_HEADER; i++)
        to[i] = (uint8_t)(word >> (24 - 8 * i));
}

void dial_put_header(uint8_t to[DIAL_HEADER], size_t len)
{
    put(to, (uint32_t)len);
}

void dial_put_beat(uint8_t to[DIAL_HEADER])
{
    put(to, SIGN_BEAT);
}

void dial_put_end(uint8_t to[DIAL_HEADER])
{
    put(to, SIGN_END);
}

/* A header is whole: what it says. DIAL_DATA: bytes follow. */
static enum dial_result begin(struct dial_parser *p)
{
    uint32_t word = 0;

    for (int i = 0; i < DIAL_HEADER; i++)
        word = word << 8 | p->header[i];
    p->header_len = 0;
    if (word == SIGN_BEAT)
        return DIAL_BEAT;
    if (word == SIGN_END)
        return DIAL_END;
    if (word > DIAL_FRAME_MAX)
        return DIAL_NONE;
    p->left = word;
    return DIAL_DATA;
}

enum dial_result dial_next(struct dial_parser *p, const uint8_t **data, size_t *len,
                           const uint8_t **ret_data, size_t *ret_len, bool *ret_whole)
{
    enum dial_result result = DIAL_DATA;

    while (*len > 0 && p->left == 0 && result == DIAL_DATA) {
        p->header[p->header_len++] = *(*data)++;
        --*len;
        if (p->header_len == DIAL_HEADER)
            result = begin(p);
    }
    if (result != DIAL_DATA)
        return result;
    if (*len == 0)
        return DIAL_MORE;
    *ret_data = *data;
    *ret_len = *len < p->left ? *len : p->left;
    *data += *ret_len;
    *len -= *ret_len;
    p->left -= *ret_len;
    *ret_whole = p->left == 0;
    return DIAL_DATA;
}
