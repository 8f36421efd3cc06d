/*
 * What encoding and decoding JSON know of protobuf-c's layout: a message is a C struct, each field
 * at an offset the descriptor gives; repeated fields have a count at quantifier_offset, members of
 * a oneof share a case number there.
 */
#pragma once

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stddef.h>

static inline const void *json_at(const void *base, size_t offset)
{
    return (const char *)base + offset;
}

static inline void *json_at_mut(void *base, size_t offset)
{
    return (char *)base + offset;
}

static inline bool json_is_oneof(const ProtobufCFieldDescriptor *f)
{
    return (f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0;
}

/* protoc makes map<K, V> a repeated message NameEntry { K key = 1; V value = 2; }. */
bool json_is_map(const ProtobufCFieldDescriptor *f);
bool json_is_timestamp(const ProtobufCMessageDescriptor *d);
bool json_is_duration(const ProtobufCMessageDescriptor *d);
/* "exit_code" as "exitCode". */
void json_camel_case(const char *name, char *to, size_t size);
/* How much an element of a repeated field takes. */
size_t json_size_of(ProtobufCType type);
