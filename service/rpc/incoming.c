/*
 * See incoming.h. Core's own decompression is switched off (server.c): it looks at the size only
 * when everything is unpacked, so that 4 MiB of zeros in gzip would cost 4 GiB of memory.
 */
#include "service/rpc/incoming.h"

#include "common/base/buf.h"
#include "common/base/cleanup.h"
#include "sandbox/v1/errors.pb-c.h"
#include "service/rpc/wire_check.h"

#include <grpc/byte_buffer_reader.h>
#include <grpc/slice.h>
#include <zlib.h>

#define REASON(name) SANDBOX__V1__ERROR_REASON__ERROR_REASON_##name

enum { STEP = 64 * 1024, ZLIB_OR_GZIP = MAX_WBITS + 32 };

static void inflate_deinit(z_stream *z)
{
    inflateEnd(z);
}

static bool too_large(size_t max, struct status *st)
{
    return status_set(st, CODE_RESOURCE_EXHAUSTED, REASON(INVALID_FIELD),
                      "the request decompresses to more than %zu bytes", max);
}

/* gzip, and what HTTP calls deflate: zlib tells them apart. */
static bool decompress(grpc_slice packed, struct buf *ret, size_t max, struct status *st)
{
    AUTO(inflate_deinit)
    z_stream z = {
        .next_in = GRPC_SLICE_START_PTR(packed),
        .avail_in = (uInt)GRPC_SLICE_LENGTH(packed),
    };
    int result = inflateInit2(&z, ZLIB_OR_GZIP);

    while (result == Z_OK) {
        size_t room = max - buf_len(ret) < STEP ? max - buf_len(ret) : STEP;
        uint8_t *to = buf_reserve(ret, room + 1); /* one more tells "full" from "too large" */

        z.next_out = to;
        z.avail_out = (uInt)room + 1;
        result = inflate(&z, Z_NO_FLUSH);
        buf_commit(ret, room + 1 - z.avail_out);
        if (buf_len(ret) > max)
            return too_large(max, st);
    }
    if (result != Z_STREAM_END)
        return status_set(st, CODE_INVALID_ARGUMENT, REASON(INVALID_FIELD),
                          "the request does not decompress");
    return true;
}

static ProtobufCMessage *unpack(const ProtobufCMessageDescriptor *type, const uint8_t *data,
                                size_t len, struct status *st)
{
    ProtobufCMessage *message;

    if (!wire_check(type, data, len, st))
        return NULL;
    message = protobuf_c_message_unpack(type, NULL, len, data);
    if (message == NULL)
        status_set(st, CODE_INVALID_ARGUMENT, REASON(INVALID_FIELD),
                   "the request is no %s message: its bytes do not parse", type->name);
    return message;
}

static void slice_deinit(grpc_slice *slice)
{
    grpc_slice_unref(*slice);
}

static grpc_slice read_all(grpc_byte_buffer *buffer)
{
    grpc_byte_buffer_reader reader;
    grpc_slice bytes = grpc_empty_slice();

    if (grpc_byte_buffer_reader_init(&reader, buffer)) {
        bytes = grpc_byte_buffer_reader_readall(&reader);
        grpc_byte_buffer_reader_destroy(&reader);
    }
    return bytes;
}

ProtobufCMessage *incoming_unpack(const ProtobufCMessageDescriptor *type, grpc_byte_buffer *buffer,
                                  size_t max, struct status *st)
{
    AUTO(slice_deinit) grpc_slice bytes = read_all(buffer);
    AUTO(buf_deinit) struct buf plain = BUF_INIT(max + 1);

    if (buffer->data.raw.compression == GRPC_COMPRESS_NONE)
        return unpack(type, GRPC_SLICE_START_PTR(bytes), GRPC_SLICE_LENGTH(bytes), st);
    if (!decompress(bytes, &plain, max, st))
        return NULL;
    return unpack(type, buf_data(&plain), buf_len(&plain), st);
}
