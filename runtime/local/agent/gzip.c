/* See gzip.h. Pure but for zlib's memory, about 40 KiB for each body. */
#include "runtime/local/agent/gzip.h"

#include <stdlib.h>
#include <string.h>

enum { GZIP_WINDOW = 15 + 16, PIECE = 64 << 10 };

void gzip_init(struct gzip *g)
{
    memset(g, 0, sizeof(*g));
    if (inflateInit2(&g->z, GZIP_WINDOW) != Z_OK)
        abort(); /* out of memory */
    g->begun = true;
}

void gzip_deinit(struct gzip *g)
{
    if (g->begun)
        inflateEnd(&g->z);
    g->begun = false;
}

/* Members may follow each other, and count as one. */
static bool next_member(struct gzip *g)
{
    g->ended = false;
    return inflateReset(&g->z) == Z_OK;
}

bool gzip_next(struct gzip *g, const uint8_t *data, size_t len,
               bool (*sink)(void *ctx, const uint8_t *data, size_t len), void *ctx)
{
    static uint8_t piece[PIECE];

    g->z.next_in = (uint8_t *)data;
    g->z.avail_in = (uInt)len;
    for (;;) {
        int result;

        if (g->ended && (g->z.avail_in == 0 || !next_member(g)))
            return true;
        g->z.next_out = piece;
        g->z.avail_out = sizeof(piece);
        result = inflate(&g->z, Z_NO_FLUSH);
        if (result != Z_OK && result != Z_STREAM_END && result != Z_BUF_ERROR)
            return false;
        if (g->z.avail_out < sizeof(piece) && !sink(ctx, piece, sizeof(piece) - g->z.avail_out))
            return false;
        g->ended = result == Z_STREAM_END;
        if (!g->ended && g->z.avail_out > 0)
            return true; /* it wants more input */
    }
}

bool gzip_is_complete(const struct gzip *g)
{
    return g->ended;
}

static bool append(void *ctx, const uint8_t *data, size_t len)
{
    return buf_append(ctx, data, len);
}

bool gzip_inflate_all(struct buf *out, const uint8_t *data, size_t len)
{
    struct gzip g;
    bool whole;

    gzip_init(&g);
    whole = gzip_next(&g, data, len, append, out) && gzip_is_complete(&g);
    gzip_deinit(&g);
    return whole;
}

void gzip_out_init(struct gzip_out *g)
{
    memset(g, 0, sizeof(*g));
    /* The fastest level: the client is on the same machine, and time is what it waits for. */
    if (deflateInit2(&g->z, Z_BEST_SPEED, Z_DEFLATED, GZIP_WINDOW, 8, Z_DEFAULT_STRATEGY) != Z_OK)
        abort(); /* out of memory */
    g->begun = true;
}

void gzip_out_deinit(struct gzip_out *g)
{
    if (g->begun)
        deflateEnd(&g->z);
    g->begun = false;
}

void gzip_out_next(struct gzip_out *g, const uint8_t *data, size_t len, bool last,
                   void (*sink)(void *ctx, const uint8_t *data, size_t len), void *ctx)
{
    static uint8_t piece[PIECE];

    g->z.next_in = (uint8_t *)data;
    g->z.avail_in = (uInt)len;
    do {
        g->z.next_out = piece;
        g->z.avail_out = sizeof(piece);
        deflate(&g->z, last ? Z_FINISH : Z_NO_FLUSH);
        if (g->z.avail_out < sizeof(piece))
            sink(ctx, piece, sizeof(piece) - g->z.avail_out);
    } while (g->z.avail_out == 0);
}
