/*
 * Protocol buffers' wire form, for messages that are read and written by hand: pure, nothing is
 * copied on reading. For programs that go without a protobuf library.
 */
#pragma once

#include "common/base/buf.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { PB_VARINT_MAX = 10 }; /* bytes of the longest varint */

enum pb_wire {
    PB_VARINT = 0,
    PB_FIXED64 = 1,
    PB_BYTES = 2, /* strings and submessages too */
    PB_FIXED32 = 5,
};

/*
 * Reads a varint at the start of data. Returns how many bytes it took; 0 when data ends inside it;
 * -1 when it is none (more than 64 bits).
 */
int pb_varint(const uint8_t *data, size_t len, uint64_t *ret);

struct pb_field {
    uint32_t number;
    enum pb_wire wire;
    uint64_t value;      /* of the three that are numbers */
    const uint8_t *data; /* borrowed; of PB_BYTES */
    size_t len;
};

/* Goes over the fields of one whole message. */
struct pb_reader {
    const uint8_t *at;
    const uint8_t *end;
    bool malformed; /* truncated, a group, field 0 …: nothing after it can be read */
};

static inline struct pb_reader pb_reader(const void *data, size_t len)
{
    return (struct pb_reader){.at = data, .end = (const uint8_t *)data + len};
}

/* The next field, known or not. False at the end of the message and when it is malformed. */
bool pb_next(struct pb_reader *r, struct pb_field *ret);

/*
 * Writers into memory that the caller knows to be large enough; each returns the place behind what
 * it wrote. As proto3 has it, pb_put_uint() leaves out 0.
 */
uint8_t *pb_put_varint(uint8_t *to, uint64_t value);
uint8_t *pb_put_tag(uint8_t *to, uint32_t number, enum pb_wire wire);
uint8_t *pb_put_uint(uint8_t *to, uint32_t number, uint64_t value);
uint8_t *pb_put_bytes(uint8_t *to, uint32_t number, const void *data, size_t len);
/* A Timestamp or a Duration: both are seconds and nanoseconds, here not negative. */
uint8_t *pb_put_time(uint8_t *to, uint32_t number, int64_t time_ns);

/* The same into a buffer. False when its cap would be exceeded; empty and 0 are left out. */
bool pb_add_uint(struct buf *to, uint32_t number, uint64_t value);
bool pb_add_bytes(struct buf *to, uint32_t number, const void *data, size_t len);
/* As pb_add_bytes(); an empty one is written too: an element of a list, a message that is set. */
bool pb_add_element(struct buf *to, uint32_t number, const void *data, size_t len);
bool pb_add_time(struct buf *to, uint32_t number, int64_t time_ns);
