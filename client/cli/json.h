/*
 * Protobuf messages as JSON, the way protobuf's own JSON mapping has it: lowerCamelCase names, 64-bit
 * numbers as strings, bytes in base64, enums by name, RFC 3339 times, nothing for default values.
 */
#pragma once

#include "common/base/buf.h"

#include <protobuf-c/protobuf-c.h>

/* Appends one object. Text that is not UTF-8 gets U+FFFD in its place. */
void json_message(struct buf *to, const ProtobufCMessage *message);

/* Appends a string with its quotes. */
void json_string(struct buf *to, const char *text);
