/* See utf8.h. */
#include "common/base/utf8.h"

#include "common/base/mem.h"

#include <string.h>

static bool between(uint8_t b, uint8_t low, uint8_t high)
{
    return b >= low && b <= high;
}

int utf8_sequence(const uint8_t *s, size_t len)
{
    uint8_t low = 0x80, high = 0xbf; /* of the second byte */
    size_t need;

    if (len == 0)
        return 0;
    if (s[0] < 0x80)
        return 1;
    if (between(s[0], 0xc2, 0xdf)) {
        need = 2;
    } else if (between(s[0], 0xe0, 0xef)) {
        need = 3;
        if (s[0] == 0xe0)
            low = 0xa0;
        else if (s[0] == 0xed)
            high = 0x9f;
    } else if (between(s[0], 0xf0, 0xf4)) {
        need = 4;
        if (s[0] == 0xf0)
            low = 0x90;
        else if (s[0] == 0xf4)
            high = 0x8f;
    } else {
        return -1;
    }
    for (size_t i = 1; i < need; i++) {
        if (i >= len)
            return 0;
        if (!between(s[i], low, high))
            return -(int)i;
        low = 0x80;
        high = 0xbf;
    }
    return (int)need;
}

bool utf8_is_valid(const uint8_t *s, size_t len)
{
    while (len > 0) {
        /* Text is mostly ASCII: eight bytes at a time while none has its top bit set. */
        while (len >= 8) {
            uint64_t word;

            memcpy(&word, s, sizeof(word));
            if ((word & UINT64_C(0x8080808080808080)) != 0)
                break;
            s += 8;
            len -= 8;
        }
        if (len == 0)
            break;

        int n = utf8_sequence(s, len);

        if (n <= 0)
            return false;
        s += n;
        len -= (size_t)n;
    }
    return true;
}

void utf8_sanitize(char *s)
{
    size_t len = strlen(s);

    while (len > 0) {
        int n = utf8_sequence((uint8_t *)s, len);
        size_t step = n > 0 ? (size_t)n : 1;

        if (n <= 0)
            *s = '?';
        s += step;
        len -= step;
    }
}

/* The text is at most three times as long: every bad byte can become the three of U+FFFD. */
char *utf8_repair(const uint8_t *data, size_t len)
{
    bool clean = utf8_is_valid(data, len) && (len == 0 || memchr(data, 0, len) == NULL);
    char *text = xmalloc((clean ? len : 3 * len) + 1), *to = text;

    if (clean)
        to = mempcpy(text, data, len);
    while (!clean && len > 0) {
        int n = data[0] == 0 ? -1 : utf8_sequence(data, len);
        size_t step = n > 0 ? (size_t)n : n < 0 ? (size_t)-n : len;

        to = n > 0 ? mempcpy(to, data, step) : mempcpy(to, "\xef\xbf\xbd", 3);
        data += step;
        len -= step;
    }
    *to = '\0';
    return text;
}

void utf8_tail_push(struct utf8_tail *t, const uint8_t *data, size_t len)
{
    size_t fresh = len < UTF8_TAIL ? len : UTF8_TAIL;
    size_t kept = t->n < UTF8_TAIL - fresh ? t->n : UTF8_TAIL - fresh;

    if (fresh == 0)
        return;
    memmove(t->bytes, t->bytes + t->n - kept, kept);
    memcpy(t->bytes + kept, data + len - fresh, fresh);
    t->n = kept + fresh;
}

size_t utf8_tail_cut(const struct utf8_tail *t)
{
    for (size_t n = t->n; n > 0; n--) {
        if (utf8_sequence(t->bytes + t->n - n, n) == 0)
            return n;
    }
    return 0;
}

size_t utf8_fitting(const char *s, size_t room)
{
    size_t len = strnlen(s, room);

    if (s[len] == '\0')
        return len;
    while (len > 0 && ((uint8_t)s[len] & 0xc0) == 0x80)
        len--;
    return len;
}
