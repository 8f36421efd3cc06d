/*
 * What the recorder's verb `dial` and sandboxd say to each other, on its stdin and its stdout:
 * frames of a length, four bytes big-endian, and so many bytes. The first frame on stdout is the
 * address that was connected to, as text; all others, both ways, are what the connection carries.
 * Two lengths are signs instead. Bytes in, pieces out; pure, and used by both sides.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    DIAL_HEADER = 4,
    DIAL_FRAME_MAX = 1 << 20,
    DIAL_BEAT_MS = 20000,    /* sandboxd sends a sign of life so often */
    DIAL_SILENCE_MS = 75000, /* dial ends when it has heard nothing so long */
};

struct dial_parser {
    uint8_t header[DIAL_HEADER];
    size_t header_len;
    size_t left; /* of a frame's bytes */
};

enum dial_result {
    DIAL_MORE, /* all input was taken */
    DIAL_DATA, /* *ret_data and *ret_len are some of a frame's bytes, at least one */
    DIAL_BEAT, /* there is somebody still; nothing else */
    DIAL_END,  /* nothing more will be carried this way */
    DIAL_NONE, /* this is no such frame; nothing good can follow */
};

/* Takes from the front of *data. *ret_whole: the piece is the last of its frame. */
enum dial_result dial_next(struct dial_parser *p, const uint8_t **data, size_t *len,
                           const uint8_t **ret_data, size_t *ret_len, bool *ret_whole);

/* len: 1 to DIAL_FRAME_MAX. */
void dial_put_header(uint8_t to[DIAL_HEADER], size_t len);
void dial_put_beat(uint8_t to[DIAL_HEADER]);
void dial_put_end(uint8_t to[DIAL_HEADER]);
