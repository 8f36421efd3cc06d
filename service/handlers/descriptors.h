/* The API's own descriptors, built into the program (//proto:descriptor_set), by name and symbol.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* A serialized google.protobuf.FileDescriptorProto, pointing into the program. */
struct descriptor_file {
    const uint8_t *data;
    size_t len;
};

/* "sandbox/v1/files.proto"; NULL when there is none. */
const struct descriptor_file *descriptors_by_name(const char *name);

/* "sandbox.v1.File", "sandbox.v1.SandboxService.Logs" and so on; NULL when there is none. */
const struct descriptor_file *descriptors_by_symbol(const char *symbol);
