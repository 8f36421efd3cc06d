/* See body.h. A string with a NUL in it is taken as none: nothing here could use it. */
#include "runtime/local/agent/body.h"

#include <json-c/json_tokener.h>
#include <string.h>

enum { DEPTH_MAX = 32 };

json_object *body_parse(const uint8_t *data, size_t len)
{
    struct json_tokener *tokener = json_tokener_new_ex(DEPTH_MAX);
    json_object *body = NULL;

    json_tokener_set_flags(tokener, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
    if (len > 0)
        body = json_tokener_parse_ex(tokener, (const char *)data, (int)len);
    if (body && !json_object_is_type(body, json_type_object)) {
        json_object_put(body);
        body = NULL;
    }
    json_tokener_free(tokener);
    return body;
}

static json_object *member(json_object *body, const char *name, enum json_type type)
{
    json_object *value;

    return json_object_object_get_ex(body, name, &value) && json_object_is_type(value, type) ? value
                                                                                             : NULL;
}

const char *body_string(json_object *body, const char *name)
{
    json_object *value = member(body, name, json_type_string);

    if (!value ||
        strlen(json_object_get_string(value)) != (size_t)json_object_get_string_len(value))
        return NULL;
    return json_object_get_string(value);
}

json_object *body_array(json_object *body, const char *name)
{
    return member(body, name, json_type_array);
}

json_object *body_object(json_object *body, const char *name)
{
    return member(body, name, json_type_object);
}
