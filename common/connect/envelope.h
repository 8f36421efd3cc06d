/*
 * Connect's streaming envelopes: one byte of flags, the payload's length as 32 bits big-endian, the
 * payload. Both ends use this: bytes in, frames out, no I/O.
 */
#pragma once

#include "common/base/buf.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { ENVELOPE_HEADER = 5 };

enum envelope_flags {
    ENVELOPE_COMPRESSED = 0x01, /* never asked for here, so it is an error to see it */
    ENVELOPE_END = 0x02,        /* the payload is the EndStreamResponse, JSON; nothing follows */
};

enum envelope_state {
    ENVELOPE_IN_HEADER,  /* fewer than 5 bytes of a header so far, maybe none */
    ENVELOPE_IN_PAYLOAD, /* fewer bytes of a payload than its header said */
    ENVELOPE_ENDED,      /* after the frame with ENVELOPE_END */
    ENVELOPE_FAILED,     /* sticky; see error */
};

enum envelope_error {
    ENVELOPE_OK,
    ENVELOPE_TOO_LONG,       /* a payload above the cap */
    ENVELOPE_IS_COMPRESSED,  /* ENVELOPE_COMPRESSED is set */
    ENVELOPE_BAD_FLAGS,      /* a flag that nobody has defined */
    ENVELOPE_BYTES_AFTER_END /* something follows ENVELOPE_END */
};

struct envelope_parser {
    enum envelope_state state;
    enum envelope_error error;
    uint8_t header[ENVELOPE_HEADER];
    size_t header_len;
    size_t payload_len;
    size_t payload_at; /* of it were given out or gathered */
    bool end;
    bool given;          /* `gathered` holds the frame that the last call gave out */
    struct buf gathered; /* a payload that came in pieces; empty allocation otherwise */
};

struct envelope_frame {
    bool end;            /* ENVELOPE_END */
    const uint8_t *data; /* valid until the next call, and no longer than the input */
    size_t len;
};

enum envelope_result {
    ENVELOPE_MORE,  /* all input was consumed and no frame is complete */
    ENVELOPE_FRAME, /* *ret is a frame; call again with the rest of the input */
    ENVELOPE_ERROR, /* parser->error says why; nothing good can follow */
};

/* max_payload caps the memory that a peer can make us hold. */
void envelope_init(struct envelope_parser *p, size_t max_payload);
void envelope_deinit(struct envelope_parser *p); /* may be called twice */

/* Advances *data and *len. A payload that lies whole in the input is not copied. */
enum envelope_result envelope_next(struct envelope_parser *p, const uint8_t **data, size_t *len,
                                   struct envelope_frame *ret);

/* A part of a payload, as it lies in the input: for whom gathering large payloads is a copy too
 * many. ENVELOPE_FRAME stands for a piece then; the last one of a frame ends at frame_len, and an
 * empty payload is one empty piece. A parser is used either way, not both. */
struct envelope_piece {
    bool end;            /* ENVELOPE_END */
    size_t frame_len;    /* of the whole payload */
    size_t at;           /* where in it this piece starts */
    const uint8_t *data; /* in the input */
    size_t len;
};

enum envelope_result envelope_next_piece(struct envelope_parser *p, const uint8_t **data,
                                         size_t *len, struct envelope_piece *ret);

/* No frame is cut here: where a client's stream may end, which has no ENVELOPE_END. */
bool envelope_is_between(const struct envelope_parser *p);

/* "a payload above the limit" and so on. */
const char *envelope_error_text(enum envelope_error error);

void envelope_put_header(uint8_t header[ENVELOPE_HEADER], unsigned flags, uint32_t payload_len);

/* Header and payload; false when b's cap would be exceeded. */
bool envelope_append(struct buf *b, unsigned flags, const void *payload, size_t len);
