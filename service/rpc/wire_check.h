/*
 * What unpacking does not look at: protobuf-c gives strings as C strings, so a NUL would silently
 * cut one ("/etc/passwd\0.txt"), and it accepts bytes that are no UTF-8. Every request is checked
 * once, on the wire, before it is unpacked.
 */
#pragma once

#include "common/base/status.h"

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* False: INVALID_ARGUMENT, with the field's name where it is known. */
bool wire_check(const ProtobufCMessageDescriptor *type, const uint8_t *data, size_t len,
                struct status *st);
