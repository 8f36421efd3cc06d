/* Percent-encoding and query strings. */
#pragma once

#include "common/base/buf.h"

#include <stdbool.h>
#include <stddef.h>

/* Appends in, decoded. False: a '%' without two hexadecimal digits, or the buffer is full. */
bool url_decode(struct buf *out, const char *in, size_t len, bool plus_is_space);
/* Appends in with everything but unreserved characters encoded. */
bool url_encode(struct buf *out, const char *in, size_t len);

enum url_query {
    URL_QUERY_FOUND,
    URL_QUERY_ABSENT,
    URL_QUERY_BAD, /* not decodable, longer than the buffer's cap, or with a NUL in it */
};

/* The first parameter of that name, decoded into out (which is cleared). */
enum url_query url_query_get(const char *query, const char *name, struct buf *out);
