/*
 * Reading JSON that a peer sent: nothing about its shape is trusted. Every getter fails (NULL or
 * false) when the key is missing, of another type, too long, or holds a NUL.
 */
#pragma once

#include "common/base/cleanup.h"

#include <json-c/json.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { JSON_DEPTH = 16 };

/* One whole document of valid UTF-8; NULL otherwise. Released with json_object_put(). */
struct json_object *json_parse(const void *data, size_t len);

static inline void cleanup_json(struct json_object **o)
{
    json_object_put(*o);
}

#define AUTO_JSON AUTO(cleanup_json)

/* Borrowed from o. */
const char *json_text(struct json_object *o, const char *key, size_t max_len);
/* The same for a value at hand. */
const char *json_text_value(struct json_object *value, size_t max_len);
bool json_int(struct json_object *o, const char *key, int64_t *ret);
/* An integer or a fraction, finite. */
bool json_number(struct json_object *o, const char *key, double *ret);
bool json_flag(struct json_object *o, const char *key, bool *ret);
/* An RFC 3339 time, as wall clock. */
bool json_time(struct json_object *o, const char *key, int64_t *ret_ns);

/* Text that may be put into an HTTP header or a URL's host: printable ASCII without spaces. */
bool json_is_token(const char *s);
