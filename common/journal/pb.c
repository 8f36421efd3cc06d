/* See pb.h. */
#include "common/journal/pb.h"

#include "common/base/clock.h"

#include <string.h>

int pb_varint(const uint8_t *data, size_t len, uint64_t *ret)
{
    uint64_t value = 0;

    for (size_t i = 0; i < PB_VARINT_MAX; i++) {
        if (i == len)
            return 0;
        if (i == PB_VARINT_MAX - 1 && data[i] > 1)
            return -1;
        value |= (uint64_t)(data[i] & 0x7f) << (7 * i);
        if ((data[i] & 0x80) == 0) {
            *ret = value;
            return (int)i + 1;
        }
    }
    return -1;
}

static bool take_varint(struct pb_reader *r, uint64_t *ret)
{
    int n = pb_varint(r->at, (size_t)(r->end - r->at), ret);

    if (n <= 0)
        return false;
    r->at += n;
    return true;
}

static bool take_fixed(struct pb_reader *r, size_t size, uint64_t *ret)
{
    if ((size_t)(r->end - r->at) < size)
        return false;
    *ret = 0;
    for (size_t i = 0; i < size; i++)
        *ret |= (uint64_t)r->at[i] << (8 * i);
    r->at += size;
    return true;
}

static bool take_bytes(struct pb_reader *r, struct pb_field *f)
{
    uint64_t len;

    if (!take_varint(r, &len) || len > (uint64_t)(r->end - r->at))
        return false;
    f->data = r->at;
    f->len = (size_t)len;
    r->at += len;
    return true;
}

static bool take_field(struct pb_reader *r, struct pb_field *f)
{
    uint64_t tag;

    if (!take_varint(r, &tag) || tag > UINT32_MAX || tag >> 3 == 0)
        return false;
    f->number = (uint32_t)(tag >> 3);
    switch (tag & 7) {
    case PB_VARINT:
        f->wire = PB_VARINT;
        return take_varint(r, &f->value);
    case PB_FIXED64:
        f->wire = PB_FIXED64;
        return take_fixed(r, 8, &f->value);
    case PB_BYTES:
        f->wire = PB_BYTES;
        return take_bytes(r, f);
    case PB_FIXED32:
        f->wire = PB_FIXED32;
        return take_fixed(r, 4, &f->value);
    default:
        return false; /* groups, and numbers that stand for nothing */
    }
}

bool pb_next(struct pb_reader *r, struct pb_field *ret)
{
    *ret = (struct pb_field){0};
    if (r->malformed || r->at == r->end)
        return false;
    r->malformed = !take_field(r, ret);
    return !r->malformed;
}

uint8_t *pb_put_varint(uint8_t *to, uint64_t value)
{
    while (value >= 0x80) {
        *to++ = (uint8_t)(value | 0x80);
        value >>= 7;
    }
    *to++ = (uint8_t)value;
    return to;
}

uint8_t *pb_put_tag(uint8_t *to, uint32_t number, enum pb_wire wire)
{
    return pb_put_varint(to, (uint64_t)number << 3 | wire);
}

uint8_t *pb_put_uint(uint8_t *to, uint32_t number, uint64_t value)
{
    if (value == 0)
        return to;
    return pb_put_varint(pb_put_tag(to, number, PB_VARINT), value);
}

uint8_t *pb_put_bytes(uint8_t *to, uint32_t number, const void *data, size_t len)
{
    to = pb_put_varint(pb_put_tag(to, number, PB_BYTES), len);
    if (len > 0)
        memcpy(to, data, len);
    return to + len;
}

uint8_t *pb_put_time(uint8_t *to, uint32_t number, int64_t time_ns)
{
    uint8_t body[2 * (1 + PB_VARINT_MAX)], *end = body;

    end = pb_put_uint(end, 1, (uint64_t)(time_ns / NS_PER_S));
    end = pb_put_uint(end, 2, (uint64_t)(time_ns % NS_PER_S));
    return pb_put_bytes(to, number, body, (size_t)(end - body));
}

bool pb_add_uint(struct buf *to, uint32_t number, uint64_t value)
{
    uint8_t field[2 * PB_VARINT_MAX];

    return buf_append(to, field, (size_t)(pb_put_uint(field, number, value) - field));
}

bool pb_add_element(struct buf *to, uint32_t number, const void *data, size_t len)
{
    uint8_t *at = buf_reserve(to, 2 * PB_VARINT_MAX + len);

    if (at == NULL)
        return false;
    buf_commit(to, (size_t)(pb_put_bytes(at, number, data, len) - at));
    return true;
}

bool pb_add_bytes(struct buf *to, uint32_t number, const void *data, size_t len)
{
    return len == 0 || pb_add_element(to, number, data, len);
}

bool pb_add_time(struct buf *to, uint32_t number, int64_t time_ns)
{
    uint8_t field[64];

    return buf_append(to, field, (size_t)(pb_put_time(field, number, time_ns) - field));
}
