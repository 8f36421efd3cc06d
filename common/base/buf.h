/*
 * Growing memory with a cap. Everything a peer can make us store goes through one of these, so the
 * cap is a field and appending can fail. Bytes are taken from the front without moving the rest
 * until half of the allocation is dead.
 */
#pragma once

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct buf {
    uint8_t *base; /* owned; the allocation */
    size_t start;  /* first live byte */
    size_t len;    /* live bytes */
    size_t size;   /* of the allocation */
    size_t cap;    /* live bytes never exceed this */
};

#define BUF_INIT(max) ((struct buf){.cap = (max)})

void buf_init(struct buf *b, size_t cap);
void buf_deinit(struct buf *b); /* may be called twice */

static inline uint8_t *buf_data(const struct buf *b)
{
    return b->base + b->start;
}

static inline size_t buf_len(const struct buf *b)
{
    return b->len;
}

static inline size_t buf_room(const struct buf *b)
{
    return b->cap - b->len;
}

/* All return false, and change nothing, when the cap would be exceeded. */
bool buf_append(struct buf *b, const void *data, size_t len);
bool buf_append_byte(struct buf *b, uint8_t byte);
bool buf_append_str(struct buf *b, const char *s);
bool buf_printf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
bool buf_vprintf(struct buf *b, const char *fmt, va_list args);

/* Room for len more bytes, to be filled by the caller and then counted in with buf_commit(). */
uint8_t *buf_reserve(struct buf *b, size_t len); /* NULL when over the cap */
void buf_commit(struct buf *b, size_t len);

/* Drops len bytes from the front. */
void buf_consume(struct buf *b, size_t len);
void buf_clear(struct buf *b);

/* The content as a string: a NUL is kept behind it (not counted). Valid until the next change. */
const char *buf_str(struct buf *b);
/* The content as a string owned by the caller; the buffer is empty afterwards. */
char *buf_take_str(struct buf *b);
