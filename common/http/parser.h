/*
 * HTTP/1.1 messages from bytes: pure, incremental, strict.
 *
 *   while (used < len || more) {
 *       event = http_parser_next(&p, data + used, len - used, &n, &body);
 *       used += n;
 *       ...
 *   }
 *
 * Requests and responses. Whatever two readers could understand differently is refused: more than
 * one Content-Length, Content-Length beside Transfer-Encoding, folded headers, bare CR or LF in a
 * request, chunk sizes that are not plain hexadecimal.
 */
#pragma once

#include "common/base/buf.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { HTTP_HEAD_MAX = 64 << 10, HTTP_HEADERS_MAX = 128, HTTP_CHUNK_LINE_MAX = 1024 };

enum http_event {
    HTTP_NEED_MORE, /* all input is consumed */
    HTTP_HEAD,      /* p->head is there, until the parser is reset */
    HTTP_BODY,      /* a piece of the body, in place: it is gone when the input is */
    HTTP_END,       /* the message is complete; reset the parser for the next one */
    HTTP_ERROR,     /* p->error_status and p->error say what is wrong; stays so */
};

enum http_framing {
    HTTP_FRAMING_NONE,   /* no body */
    HTTP_FRAMING_LENGTH, /* head.content_length bytes */
    HTTP_FRAMING_CHUNKED,
    HTTP_FRAMING_CLOSE, /* a response that lasts until the connection is closed */
};

struct http_header {
    const char *name; /* as sent; compare without regard to case */
    const char *value;
};

struct http_head {
    const char *method; /* of a request */
    const char *target; /* of a request, as sent */
    const char *path;   /* in target; ends at path_len */
    size_t path_len;
    const char *query;  /* in target, behind the '?'; "" when there is none */
    int status;         /* of a response */
    const char *reason; /* of a response */
    int minor;          /* of the version: 0 or 1 */
    struct http_header *headers;
    size_t n_headers;
    enum http_framing framing;
    uint64_t content_length;
    bool keep_alive;      /* the sender lets the connection be used again */
    bool expect_continue; /* the body follows a 100 response */
    bool upgrade;         /* Connection: upgrade */
};

struct http_slice {
    const uint8_t *data;
    size_t len;
};

enum http_parser_state {
    HTTP_STATE_HEAD,       /* start-line *( field-line CRLF ) CRLF */
    HTTP_STATE_LENGTH,     /* message-body of a known length */
    HTTP_STATE_CLOSE,      /* message-body until the end of the connection */
    HTTP_STATE_CHUNK_SIZE, /* chunk-size [ chunk-ext ] CRLF */
    HTTP_STATE_CHUNK_DATA,
    HTTP_STATE_CHUNK_END, /* CRLF behind chunk-data */
    HTTP_STATE_TRAILER,   /* trailer-section CRLF */
    HTTP_STATE_DONE,
    HTTP_STATE_FAILED,
};

struct http_parser {
    bool is_response;
    bool bodyless; /* set by the owner of a response parser: it answers a HEAD request */
    enum http_parser_state state;
    struct http_head head;
    struct buf bytes;  /* the head, which its strings point into */
    struct buf line;   /* the chunk line or the trailers being received */
    size_t line_start; /* of the current line in bytes, or in line */
    uint64_t left;     /* of the body, or of the chunk */
    int error_status;  /* what a server answers; for a response always 502 */
    const char *error;
};

void http_parser_init(struct http_parser *p, bool is_response);
void http_parser_deinit(struct http_parser *p);
/* Ready for the next message; gives up all memory. */
void http_parser_reset(struct http_parser *p);

enum http_event http_parser_next(struct http_parser *p, const uint8_t *in, size_t len,
                                 size_t *ret_consumed, struct http_slice *ret_body);
/* The connection ended: HTTP_END when the message may end so, else HTTP_ERROR. */
enum http_event http_parser_eof(struct http_parser *p);
/* Not a byte of the next message was seen. */
bool http_parser_is_idle(const struct http_parser *p);

/* The value of the first header of that name; NULL when there is none. */
const char *http_header(const struct http_head *h, const char *name);
/* Whether any header of that name has the token in its comma-separated list. */
bool http_header_has(const struct http_head *h, const char *name, const char *token);
/* The path of a request is exactly this. */
bool http_path_is(const struct http_head *h, const char *path);
bool http_method_is(const struct http_head *h, const char *method);
