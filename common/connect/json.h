/*
 * The proto3 JSON mapping of protobuf-c messages, by their descriptors.
 *
 * Names are lowerCamelCase (the proto's own are understood too), bytes are base64, 64-bit integers
 * are strings, enums are names, maps are objects, google.protobuf.Timestamp and Duration have their
 * text forms. Fields with their default value are left out, but not a chosen member of a oneof.
 * Unknown fields are ignored.
 */
#pragma once

#include "common/base/buf.h"
#include "common/base/status.h"

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stddef.h>

enum { JSON_DEPTH_MAX = 32 };

/* Appends m as one line. False: the buffer's cap is reached, or a string of m is no UTF-8. */
bool json_encode(struct buf *out, const ProtobufCMessage *m);

/*
 * A message of that type, to be freed with protobuf_c_message_free_unpacked(m, NULL). NULL with
 * INVALID_ARGUMENT when the text is no JSON or does not fit the type. The memory it takes is
 * bounded by a small multiple of len.
 */
ProtobufCMessage *json_decode(const ProtobufCMessageDescriptor *type, const char *text, size_t len,
                              struct status *st);

/* Appends s as a JSON string, quotes included. False: no UTF-8, or no room. */
bool json_append_string(struct buf *out, const char *s, size_t len);
