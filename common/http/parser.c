/*
 * See parser.h. The head is gathered until its empty line and then taken apart as a whole (head.c):
 * no state in the middle of a field. Bodies are never copied.
 */
#include "common/http/parser.h"

#include "common/http/head.h"

#include <stdlib.h>
#include <string.h>

enum { CHUNK_DIGITS_MAX = 15, LEADING_LINES_MAX = 2 };

void http_parser_init(struct http_parser *p, bool is_response)
{
    *p = (struct http_parser){
        .is_response = is_response,
        .bytes = BUF_INIT(HTTP_HEAD_MAX),
        .line = BUF_INIT(HTTP_HEAD_MAX),
    };
}

void http_parser_deinit(struct http_parser *p)
{
    buf_deinit(&p->bytes);
    buf_deinit(&p->line);
    free(p->head.headers);
    p->head.headers = NULL;
}

void http_parser_reset(struct http_parser *p)
{
    bool is_response = p->is_response;

    http_parser_deinit(p);
    http_parser_init(p, is_response);
}

bool http_parser_is_idle(const struct http_parser *p)
{
    return p->state == HTTP_STATE_HEAD && buf_len(&p->bytes) == 0;
}

static enum http_event finish_head(struct http_parser *p)
{
    if (!http_parse_head(p))
        return HTTP_ERROR;
    p->line_start = 0;
    switch (p->head.framing) {
    case HTTP_FRAMING_NONE:
        p->left = 0;
        p->state = HTTP_STATE_LENGTH;
        break;
    case HTTP_FRAMING_LENGTH:
        p->left = p->head.content_length;
        p->state = HTTP_STATE_LENGTH;
        break;
    case HTTP_FRAMING_CHUNKED:
        p->state = HTTP_STATE_CHUNK_SIZE;
        break;
    case HTTP_FRAMING_CLOSE:
        p->state = HTTP_STATE_CLOSE;
        break;
    }
    return HTTP_HEAD;
}

/* Appends input up to the end of a line. True: the line is whole, from line_start to the end. */
static bool take_line(struct http_parser *p, struct buf *to, size_t max, const uint8_t *in,
                      size_t len, size_t *consumed, bool *ret_full)
{
    const uint8_t *from = in + *consumed;
    const uint8_t *nl = memchr(from, '\n', len - *consumed);
    size_t n = nl != NULL ? (size_t)(nl - from) + 1 : len - *consumed;

    *ret_full = buf_len(to) + n > max || !buf_append(to, from, n);
    if (*ret_full)
        return false;
    *consumed += n;
    return nl != NULL;
}

static bool line_is_empty(const struct buf *b, size_t start)
{
    const char *s = (const char *)buf_data(b) + start;
    size_t len = buf_len(b) - start;

    return (len == 1 && s[0] == '\n') || (len == 2 && s[0] == '\r' && s[1] == '\n');
}

static enum http_event read_head(struct http_parser *p, const uint8_t *in, size_t len,
                                 size_t *consumed)
{
    bool full = false;

    while (*consumed < len) {
        if (!take_line(p, &p->bytes, HTTP_HEAD_MAX, in, len, consumed, &full)) {
            if (full)
                return http_fail(p, 431, "the head of the message is too long");
            return HTTP_NEED_MORE;
        }
        if (!line_is_empty(&p->bytes, p->line_start)) {
            p->line_start = buf_len(&p->bytes);
            continue;
        }
        if (p->line_start > 0)
            return finish_head(p);
        /* An empty line in front of a request is a leftover of old clients (RFC 9112, 2.2). */
        if (++p->left > LEADING_LINES_MAX)
            return http_fail(p, 400, "the start line is empty");
        buf_clear(&p->bytes);
    }
    return HTTP_NEED_MORE;
}

static bool parse_chunk_size(struct http_parser *p)
{
    const char *s = buf_str(&p->line);
    size_t n = strspn(s, "0123456789abcdefABCDEF");
    size_t len = buf_len(&p->line);
    const char *rest = s + n + strspn(s + n, " \t");

    if (n == 0 || n > CHUNK_DIGITS_MAX || len < 2 || s[len - 2] != '\r')
        return http_fail(p, 400, "a chunk has no valid size"), false;
    if ((*rest != ';' && *rest != '\r') || !http_is_text(rest, len - 2 - (size_t)(rest - s)))
        return http_fail(p, 400, "a chunk has no valid size"), false;
    p->left = strtoull(s, NULL, 16);
    return true;
}

static enum http_event read_chunk_size(struct http_parser *p, const uint8_t *in, size_t len,
                                       size_t *consumed)
{
    bool full;

    if (!take_line(p, &p->line, HTTP_CHUNK_LINE_MAX, in, len, consumed, &full))
        return full ? http_fail(p, 400, "a chunk has no valid size") : HTTP_NEED_MORE;
    if (!parse_chunk_size(p))
        return HTTP_ERROR;
    buf_deinit(&p->line);
    p->line_start = 0;
    p->state = p->left > 0 ? HTTP_STATE_CHUNK_DATA : HTTP_STATE_TRAILER;
    return HTTP_NEED_MORE;
}

static enum http_event read_chunk_end(struct http_parser *p, const uint8_t *in, size_t len,
                                      size_t *consumed)
{
    static const char crlf[] = "\r\n";

    /* line_start counts how much of the CRLF is there. */
    while (*consumed < len && p->line_start < 2) {
        if (in[(*consumed)++] != (uint8_t)crlf[p->line_start++])
            return http_fail(p, 400, "a chunk is longer than its size");
    }
    if (p->line_start == 2) {
        p->line_start = 0;
        p->state = HTTP_STATE_CHUNK_SIZE;
    }
    return HTTP_NEED_MORE;
}

static bool is_trailer(const struct buf *b, size_t start)
{
    const char *s = (const char *)buf_data(b) + start;
    size_t len = buf_len(b) - start;
    const char *colon = memchr(s, ':', len);

    return colon != NULL && len >= 2 && s[len - 2] == '\r' &&
           http_is_token(s, (size_t)(colon - s)) && http_is_text(s, len - 2);
}

/* Trailers are checked and dropped: nothing here has a use for them. */
static enum http_event read_trailer(struct http_parser *p, const uint8_t *in, size_t len,
                                    size_t *consumed)
{
    bool full;

    while (*consumed < len) {
        if (!take_line(p, &p->line, HTTP_HEAD_MAX, in, len, consumed, &full))
            return full ? http_fail(p, 431, "the trailers are too long") : HTTP_NEED_MORE;
        if (buf_len(&p->line) - p->line_start == 2 && line_is_empty(&p->line, p->line_start)) {
            p->state = HTTP_STATE_DONE;
            return HTTP_END;
        }
        if (!is_trailer(&p->line, p->line_start))
            return http_fail(p, 400, "a trailer is malformed");
        p->line_start = buf_len(&p->line);
    }
    return HTTP_NEED_MORE;
}

static enum http_event take_body(struct http_parser *p, const uint8_t *in, size_t len,
                                 size_t *consumed, struct http_slice *ret_body)
{
    size_t n = len - *consumed;

    if (p->state != HTTP_STATE_CLOSE) {
        n = n < p->left ? n : (size_t)p->left;
        p->left -= n;
    }
    *ret_body = (struct http_slice){in + *consumed, n};
    *consumed += n;
    if (p->state == HTTP_STATE_CHUNK_DATA && p->left == 0)
        p->state = HTTP_STATE_CHUNK_END;
    return HTTP_BODY;
}

enum http_event http_parser_next(struct http_parser *p, const uint8_t *in, size_t len,
                                 size_t *ret_consumed, struct http_slice *ret_body)
{
    enum http_event event = HTTP_NEED_MORE;

    *ret_consumed = 0;
    *ret_body = (struct http_slice){NULL, 0};
    if (p->state == HTTP_STATE_FAILED)
        return HTTP_ERROR;
    if (p->state == HTTP_STATE_DONE)
        return HTTP_END;
    if (p->state == HTTP_STATE_LENGTH && p->left == 0) {
        p->state = HTTP_STATE_DONE;
        return HTTP_END;
    }
    while (event == HTTP_NEED_MORE && *ret_consumed < len) {
        switch (p->state) {
        case HTTP_STATE_HEAD:
            event = read_head(p, in, len, ret_consumed);
            break;
        case HTTP_STATE_LENGTH:
        case HTTP_STATE_CLOSE:
        case HTTP_STATE_CHUNK_DATA:
            event = take_body(p, in, len, ret_consumed, ret_body);
            break;
        case HTTP_STATE_CHUNK_SIZE:
            event = read_chunk_size(p, in, len, ret_consumed);
            break;
        case HTTP_STATE_CHUNK_END:
            event = read_chunk_end(p, in, len, ret_consumed);
            break;
        case HTTP_STATE_TRAILER:
            event = read_trailer(p, in, len, ret_consumed);
            break;
        case HTTP_STATE_DONE:
            return HTTP_END;
        case HTTP_STATE_FAILED:
            return HTTP_ERROR;
        }
    }
    return event;
}

enum http_event http_parser_eof(struct http_parser *p)
{
    if (p->state == HTTP_STATE_CLOSE)
        p->state = HTTP_STATE_DONE;
    if (p->state == HTTP_STATE_DONE)
        return HTTP_END;
    if (p->state == HTTP_STATE_FAILED)
        return HTTP_ERROR;
    return http_fail(p, 400, "the connection ended in the middle of a message");
}
