/* See url.h. */
#include "common/http/url.h"

#include "common/base/cleanup.h"

#include <string.h>

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

bool url_decode(struct buf *out, const char *in, size_t len, bool plus_is_space)
{
    for (size_t i = 0; i < len; i++) {
        char c = in[i];

        if (c == '+' && plus_is_space) {
            c = ' ';
        } else if (c == '%') {
            int high = i + 2 < len ? hex_value(in[i + 1]) : -1;
            int low = i + 2 < len ? hex_value(in[i + 2]) : -1;

            if (high < 0 || low < 0)
                return false;
            c = (char)(high << 4 | low);
            i += 2;
        }
        if (!buf_append_byte(out, (uint8_t)c))
            return false;
    }
    return true;
}

static bool is_unreserved(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (c != '\0' && strchr("-._~", c) != NULL);
}

bool url_encode(struct buf *out, const char *in, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (!(is_unreserved(in[i]) ? buf_append_byte(out, (uint8_t)in[i])
                                   : buf_printf(out, "%%%02X", (unsigned char)in[i])))
            return false;
    }
    return true;
}

/* Whether the (encoded) name of a parameter is this one. */
static bool name_is(const char *encoded, size_t len, const char *name)
{
    AUTO(buf_deinit) struct buf decoded = BUF_INIT(256);

    return url_decode(&decoded, encoded, len, true) && buf_len(&decoded) == strlen(name) &&
           memcmp(buf_str(&decoded), name, strlen(name)) == 0;
}

enum url_query url_query_get(const char *query, const char *name, struct buf *out)
{
    buf_clear(out);
    while (*query != '\0') {
        size_t len = strcspn(query, "&");
        const char *equals = memchr(query, '=', len);
        size_t name_len = equals != NULL ? (size_t)(equals - query) : len;

        if (name_is(query, name_len, name)) {
            if (equals != NULL && !url_decode(out, equals + 1, len - name_len - 1, true))
                return URL_QUERY_BAD;
            if (memchr(buf_str(out), '\0', buf_len(out)) != NULL)
                return URL_QUERY_BAD;
            return URL_QUERY_FOUND;
        }
        query += len;
        query += *query == '&';
    }
    return URL_QUERY_ABSENT;
}
