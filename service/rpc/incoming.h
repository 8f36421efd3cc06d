/* What came in, as a message: decompressed, checked, unpacked, all of it within bounds. */
#pragma once

#include "common/base/status.h"

#include <grpc/byte_buffer.h>
#include <protobuf-c/protobuf-c.h>
#include <stddef.h>

/* max: bytes after decompression. NULL: st says why. The caller frees the message. */
ProtobufCMessage *incoming_unpack(const ProtobufCMessageDescriptor *type, grpc_byte_buffer *buffer,
                                  size_t max, struct status *st);
