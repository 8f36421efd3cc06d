/*
 * The descriptors of everything that is served, built into the program (//proto:descriptor_set), by
 * file name and by symbol. Any thread.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

enum { DESCRIPTORS_MAX = 64 }; /* files */

/* A serialized google.protobuf.FileDescriptorProto, pointing into the program. */
struct descriptor_file {
    const uint8_t *data;
    size_t len;
};

/* "sandbox/v1/files.proto"; NULL when there is none. */
const struct descriptor_file *descriptors_by_name(const char *name);

/*
 * The file that declares a message, field, oneof, enum, service or method by its full name, such as
 * "sandbox.v1.SandboxService.Logs"; NULL when there is none. Enum values are, as in C++, beside
 * their enum: "sandbox.v1.ENCODING_TEXT".
 */
const struct descriptor_file *descriptors_by_symbol(const char *symbol);

/* The file, then all that it imports, directly or not, each before what it imports itself. Returns
 * how many. */
size_t descriptors_with_imports(const struct descriptor_file *file,
                                const struct descriptor_file *ret[DESCRIPTORS_MAX]);
