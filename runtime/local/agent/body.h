/* Bodies of the plain routes, which are JSON objects. */
#pragma once

#include <json-c/json_object.h>
#include <stddef.h>
#include <stdint.h>

/* The object, to be put back with json_object_put(); NULL when it is none. */
json_object *body_parse(const uint8_t *data, size_t len);

/* Members, borrowed from the body; NULL when they are not there, null, or of another type. */
const char *body_string(json_object *body, const char *name);
json_object *body_array(json_object *body, const char *name);
json_object *body_object(json_object *body, const char *name);
