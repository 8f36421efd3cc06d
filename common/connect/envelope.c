/*
 * The parser of Connect envelopes, as a state per rule of the grammar. Used by sandboxd on its curl
 * threads and by the local agent; it only ever holds one cut payload, capped. The cap is checked
 * when the header is complete, before anything is stored.
 */
#include "common/connect/envelope.h"

#include <string.h>

void envelope_init(struct envelope_parser *p, size_t max_payload)
{
    *p = (struct envelope_parser){.state = ENVELOPE_IN_HEADER};
    buf_init(&p->gathered, max_payload);
}

void envelope_deinit(struct envelope_parser *p)
{
    buf_deinit(&p->gathered);
}

static enum envelope_result fail(struct envelope_parser *p, enum envelope_error error)
{
    p->state = ENVELOPE_FAILED;
    p->error = error;
    buf_deinit(&p->gathered);
    return ENVELOPE_ERROR;
}

static enum envelope_result header_done(struct envelope_parser *p)
{
    const uint8_t *h = p->header;

    p->payload_len = (size_t)h[1] << 24 | (size_t)h[2] << 16 | (size_t)h[3] << 8 | (size_t)h[4];
    p->end = h[0] & ENVELOPE_END;
    if (h[0] & ~(ENVELOPE_COMPRESSED | ENVELOPE_END))
        return fail(p, ENVELOPE_BAD_FLAGS);
    if (h[0] & ENVELOPE_COMPRESSED)
        return fail(p, ENVELOPE_IS_COMPRESSED);
    if (p->payload_len > p->gathered.cap)
        return fail(p, ENVELOPE_TOO_LONG);
    p->state = ENVELOPE_IN_PAYLOAD;
    return ENVELOPE_MORE;
}

/* The header, or what is there of it. */
static enum envelope_result take_header(struct envelope_parser *p, const uint8_t **data,
                                        size_t *len)
{
    size_t missing = ENVELOPE_HEADER - p->header_len;
    size_t n = *len < missing ? *len : missing;

    if (n == 0)
        return ENVELOPE_MORE;
    memcpy(p->header + p->header_len, *data, n);
    p->header_len += n;
    *data += n;
    *len -= n;
    return p->header_len == ENVELOPE_HEADER ? header_done(p) : ENVELOPE_MORE;
}

static enum envelope_result take_piece(struct envelope_parser *p, const uint8_t **data, size_t *len,
                                       struct envelope_piece *ret)
{
    size_t missing = p->payload_len - p->payload_at;
    size_t n = *len < missing ? *len : missing;

    if (n == 0 && missing > 0)
        return ENVELOPE_MORE;
    *ret = (struct envelope_piece){
        .end = p->end, .frame_len = p->payload_len, .at = p->payload_at, .data = *data, .len = n};
    *data += n;
    *len -= n;
    p->payload_at += n;
    if (n == missing) {
        p->header_len = 0;
        p->payload_at = 0;
        p->state = p->end ? ENVELOPE_ENDED : ENVELOPE_IN_HEADER;
    }
    return ENVELOPE_FRAME;
}

enum envelope_result envelope_next_piece(struct envelope_parser *p, const uint8_t **data,
                                         size_t *len, struct envelope_piece *ret)
{
    if (p->state == ENVELOPE_IN_HEADER && take_header(p, data, len) == ENVELOPE_ERROR)
        return ENVELOPE_ERROR;
    switch (p->state) {
    case ENVELOPE_IN_HEADER:
        return ENVELOPE_MORE;
    case ENVELOPE_IN_PAYLOAD:
        return take_piece(p, data, len, ret);
    case ENVELOPE_ENDED:
        return *len > 0 ? fail(p, ENVELOPE_BYTES_AFTER_END) : ENVELOPE_MORE;
    case ENVELOPE_FAILED:
        break;
    }
    return ENVELOPE_ERROR;
}

enum envelope_result envelope_next(struct envelope_parser *p, const uint8_t **data, size_t *len,
                                   struct envelope_frame *ret)
{
    struct envelope_piece piece;
    enum envelope_result r;

    /* An idle stream shall hold no memory: what the last frame needed goes. */
    if (p->given) {
        buf_deinit(&p->gathered);
        p->given = false;
    }
    while ((r = envelope_next_piece(p, data, len, &piece)) == ENVELOPE_FRAME) {
        *ret = (struct envelope_frame){.end = piece.end, .data = piece.data, .len = piece.len};
        if (piece.len == piece.frame_len)
            return ENVELOPE_FRAME;
        buf_append(&p->gathered, piece.data, piece.len); /* fits: its length was checked */
        if (piece.at + piece.len == piece.frame_len) {
            ret->data = buf_data(&p->gathered);
            ret->len = piece.frame_len;
            p->given = true;
            return ENVELOPE_FRAME;
        }
    }
    return r;
}

bool envelope_is_between(const struct envelope_parser *p)
{
    return p->state == ENVELOPE_ENDED || (p->state == ENVELOPE_IN_HEADER && p->header_len == 0);
}

const char *envelope_error_text(enum envelope_error error)
{
    switch (error) {
    case ENVELOPE_OK:
        return "no error";
    case ENVELOPE_TOO_LONG:
        return "a payload above the limit";
    case ENVELOPE_IS_COMPRESSED:
        return "a compressed payload, which was not asked for";
    case ENVELOPE_BAD_FLAGS:
        return "unknown flags";
    case ENVELOPE_BYTES_AFTER_END:
        return "bytes after the end of the stream";
    }
    return "an unknown error";
}

void envelope_put_header(uint8_t header[ENVELOPE_HEADER], unsigned flags, uint32_t payload_len)
{
    header[0] = (uint8_t)flags;
    header[1] = (uint8_t)(payload_len >> 24);
    header[2] = (uint8_t)(payload_len >> 16);
    header[3] = (uint8_t)(payload_len >> 8);
    header[4] = (uint8_t)payload_len;
}

bool envelope_append(struct buf *b, unsigned flags, const void *payload, size_t len)
{
    uint8_t header[ENVELOPE_HEADER];

    if (len > UINT32_MAX || buf_room(b) < len + sizeof header)
        return false;
    envelope_put_header(header, flags, (uint32_t)len);
    return buf_append(b, header, sizeof header) && buf_append(b, payload, len);
}
