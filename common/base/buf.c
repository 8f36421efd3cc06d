/* See buf.h. One byte beyond the live ones is always allocated, for buf_str(). */
#include "common/base/buf.h"

#include "common/base/mem.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SMALLEST = 256 };

void buf_init(struct buf *b, size_t cap)
{
    *b = BUF_INIT(cap);
}

void buf_deinit(struct buf *b)
{
    free(b->base);
    *b = BUF_INIT(b->cap);
}

static void move_to_front(struct buf *b)
{
    if (b->start == 0)
        return;
    memmove(b->base, b->base + b->start, b->len);
    b->start = 0;
}

static void grow(struct buf *b, size_t need)
{
    size_t size = b->size != 0 ? b->size : SMALLEST;

    while (size < need)
        size *= 2;
    b->base = xrealloc(b->base, size);
    b->size = size;
}

uint8_t *buf_reserve(struct buf *b, size_t len)
{
    if (len > b->cap - b->len)
        return NULL;

    size_t need = b->len + len + 1;

    if (b->start + need > b->size) {
        move_to_front(b);
        if (need > b->size)
            grow(b, need);
    }
    return buf_data(b) + b->len;
}

void buf_commit(struct buf *b, size_t len)
{
    assert(b->start + b->len + len < b->size || len == 0);
    b->len += len;
}

bool buf_append(struct buf *b, const void *data, size_t len)
{
    uint8_t *to = buf_reserve(b, len);

    if (to == NULL)
        return false;
    if (len > 0)
        memcpy(to, data, len);
    buf_commit(b, len);
    return true;
}

bool buf_append_byte(struct buf *b, uint8_t byte)
{
    return buf_append(b, &byte, 1);
}

bool buf_append_str(struct buf *b, const char *s)
{
    return buf_append(b, s, strlen(s));
}

bool buf_vprintf(struct buf *b, const char *fmt, va_list args)
{
    va_list again;
    int len;

    va_copy(again, args);
    len = vsnprintf(NULL, 0, fmt, again);
    va_end(again);
    if (len < 0)
        return false;

    uint8_t *to = buf_reserve(b, (size_t)len);

    if (to == NULL)
        return false;
    vsnprintf((char *)to, (size_t)len + 1, fmt, args);
    buf_commit(b, (size_t)len);
    return true;
}

bool buf_printf(struct buf *b, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    bool ok = buf_vprintf(b, fmt, args);
    va_end(args);
    return ok;
}

void buf_consume(struct buf *b, size_t len)
{
    assert(len <= b->len);
    b->start += len;
    b->len -= len;
    if (b->len == 0)
        b->start = 0;
    else if (b->start > b->size / 2)
        move_to_front(b);
}

void buf_clear(struct buf *b)
{
    b->start = 0;
    b->len = 0;
}

const char *buf_str(struct buf *b)
{
    if (b->base == NULL || b->start + b->len + 1 > b->size) {
        move_to_front(b);
        grow(b, b->len + 1);
    }
    buf_data(b)[b->len] = '\0';
    return (const char *)buf_data(b);
}

char *buf_take_str(struct buf *b)
{
    move_to_front(b);
    buf_str(b);

    char *s = (char *)b->base;

    b->base = NULL;
    buf_deinit(b);
    return s;
}
