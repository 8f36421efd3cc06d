/* Decompression of request bodies. */
#pragma once

#include "common/base/buf.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <zlib.h>

/* A body that comes in pieces. */
struct gzip {
    z_stream z;
    bool ended; /* the last member is complete */
    bool begun;
};

void gzip_init(struct gzip *g);
void gzip_deinit(struct gzip *g); /* may be called twice */

/* Gives sink what comes out of a piece. False: it is no gzip, or sink said false. */
bool gzip_next(struct gzip *g, const uint8_t *data, size_t len,
               bool (*sink)(void *ctx, const uint8_t *data, size_t len), void *ctx);
/* Whether the body may end here. */
bool gzip_is_complete(const struct gzip *g);

/* A response's body, made smaller piece by piece. About 256 KiB of memory each. */
struct gzip_out {
    z_stream z;
    bool begun;
};

void gzip_out_init(struct gzip_out *g);
void gzip_out_deinit(struct gzip_out *g); /* may be called twice */

/* Gives sink what a piece becomes, maybe nothing yet; all that is left with the last one. */
void gzip_out_next(struct gzip_out *g, const uint8_t *data, size_t len, bool last,
                   void (*sink)(void *ctx, const uint8_t *data, size_t len), void *ctx);

/* All at once, into a buffer whose cap bounds what may come out. */
bool gzip_inflate_all(struct buf *out, const uint8_t *data, size_t len);
