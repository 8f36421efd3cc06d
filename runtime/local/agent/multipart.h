/*
 * multipart/form-data bodies (RFC 7578) from bytes: pure, incremental. Content is given out in
 * place, never gathered.
 */
#pragma once

#include "common/base/buf.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    MULTIPART_BOUNDARY_MAX = 70, /* RFC 2046 */
    MULTIPART_HEAD_MAX = 16 << 10,
    MULTIPART_NAME_MAX = 4096,
};

enum multipart_event {
    MULTIPART_MORE,  /* all input is consumed */
    MULTIPART_PART,  /* a part begins; m->name and m->filename are its */
    MULTIPART_DATA,  /* some of its content */
    MULTIPART_END,   /* of the part */
    MULTIPART_DONE,  /* of the body; what follows is ignored */
    MULTIPART_ERROR, /* it is none; stays so */
};

enum multipart_state {
    MULTIPART_IN_PREAMBLE, /* until the first delimiter line */
    MULTIPART_IN_TAIL,     /* behind a delimiter: "--", or blanks and CRLF */
    MULTIPART_IN_HEAD,     /* the fields of a part, until an empty line */
    MULTIPART_IN_CONTENT,
    MULTIPART_AT_END, /* the delimiter behind content was found: END is to be told */
    MULTIPART_IS_DONE,
    MULTIPART_FAILED,
};

struct multipart {
    enum multipart_state state;
    char delimiter[MULTIPART_BOUNDARY_MAX + 5]; /* CRLF "--" boundary */
    size_t delimiter_len;
    size_t matched;  /* of the delimiter, at the end of what was seen */
    size_t replay;   /* bytes of the delimiter that turned out to be content */
    struct buf head; /* the fields of a part, or the tail of a delimiter line */
    char *name;      /* owned; NULL: none */
    char *filename;  /* owned; NULL: none */
};

/* content_type is the header's whole value. False: it names no usable boundary. */
bool multipart_init(struct multipart *m, const char *content_type);
void multipart_deinit(struct multipart *m); /* may be called twice */

/* Advances *data and *len. *ret points into the input or into m, until the next call. */
enum multipart_event multipart_next(struct multipart *m, const uint8_t **data, size_t *len,
                                    const uint8_t **ret, size_t *ret_len);
