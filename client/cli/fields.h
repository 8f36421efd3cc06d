/* Texts of the command line as fields of messages, and fields as text. */
#pragma once

#include "common/base/options.h"
#include "sandbox/v1/sandbox_service.pb-c.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Where a message has a field, one that is there; of a repeated one also where its length is. */
void *cli_field(const ProtobufCMessage *m, const char *name, size_t **ret_n);

/*
 * KEY=VALUE texts as the entries of a request's map field, string to string. False: the usage error
 * is printed. Give the entries back with cli_map_free(), which any request may be given to.
 */
bool cli_map(const char *option, const struct option_strings *from, ProtobufCMessage *request,
             const char *name);
void cli_map_free(ProtobufCMessage *request, const char *name);

/* A time of day for tables: "2026-01-31 12:00:00", in UTC; "-" for none. */
const char *cli_time(const Google__Protobuf__Timestamp *t, char room[32]);

/* The name of an enum's value without its prefix, in lower case: "running". */
const char *cli_enum(const ProtobufCEnumDescriptor *type, int value, const char *prefix,
                     char room[32]);

/* The value that is called so, with dashes ("keep-up"), the unspecified one excepted. False: the
 * usage error, which lists the names, is printed. */
bool cli_enum_of(const char *option, const ProtobufCEnumDescriptor *type, const char *prefix,
                 const char *text, int *ret);

/* --mode: "755" as permission bits; "" for 0. False: the usage error is printed. */
bool cli_mode(const char *text, uint32_t *ret);

/* "120x40" as a terminal's size. False: the usage error is printed. */
bool cli_terminal_size(const char *option, const char *text, Sandbox__V1__TerminalSize *ret);

/*
 * "2026-01-31T12:00:00Z", or "10m" for so long ago, as a time in room; *ret points to it then. NULL
 * leaves *ret. False: the usage error is printed.
 */
bool cli_when(const char *option, const char *text, Google__Protobuf__Timestamp *room,
              Google__Protobuf__Timestamp **ret);

/* Fills a duration from milliseconds; returns NULL (not set) for 0. */
Google__Protobuf__Duration *cli_duration(int64_t ms, Google__Protobuf__Duration *room);
