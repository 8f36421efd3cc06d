/*
 * See json.h: from text to messages. Goes through json-c's tree, whose depth and size are bounded
 * by the caller's cap on the text. Pure.
 */
#include "common/base/base64.h"
#include "common/base/cleanup.h"
#include "common/base/mem.h"
#include "common/base/utf8.h"
#include "common/connect/json.h"
#include "common/connect/json_fields.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static bool misfit(struct status *st, const char *name, const char *wanted)
{
    return status_set(st, CODE_INVALID_ARGUMENT, 0, "invalid JSON: %s is not %s", name, wanted);
}

/* Numbers come as numbers or as strings of digits. */
static bool read_integer(json_object *value, const char *name, int64_t min, int64_t max,
                         int64_t *ret, struct status *st)
{
    char *end;

    if (json_object_is_type(value, json_type_int)) {
        *ret = json_object_get_int64(value);
    } else if (json_object_is_type(value, json_type_double)) {
        double number = json_object_get_double(value);

        if (number != floor(number) || number < -9007199254740992.0 || number > 9007199254740992.0)
            return misfit(st, name, "an integer");
        *ret = (int64_t)number;
    } else if (json_object_is_type(value, json_type_string)) {
        errno = 0;
        *ret = strtoll(json_object_get_string(value), &end, 10);
        if (errno || *end || end == json_object_get_string(value) ||
            isspace((unsigned char)*json_object_get_string(value)))
            return misfit(st, name, "an integer");
    } else {
        return misfit(st, name, "an integer");
    }
    if (*ret < min || *ret > max)
        return misfit(st, name, "in the range of its type");
    return true;
}

static bool read_uint64(json_object *value, const char *name, uint64_t *ret, struct status *st)
{
    int64_t number;
    char *end;

    if (!json_object_is_type(value, json_type_string)) {
        /* json-c has big numbers as unsigned; asked for as signed they come out as the maximum. */
        if (json_object_is_type(value, json_type_int) &&
            json_object_get_int64(value) == INT64_MAX) {
            *ret = json_object_get_uint64(value);
            return true;
        }
        if (!read_integer(value, name, 0, INT64_MAX, &number, st))
            return false;
        *ret = (uint64_t)number;
        return true;
    }
    errno = 0;
    *ret = strtoull(json_object_get_string(value), &end, 10);
    if (errno || *end || !isdigit((unsigned char)*json_object_get_string(value)))
        return misfit(st, name, "an integer");
    return true;
}

static bool read_double(json_object *value, const char *name, double *ret, struct status *st)
{
    char *end;

    if (json_object_is_type(value, json_type_double) || json_object_is_type(value, json_type_int)) {
        *ret = json_object_get_double(value);
        return true;
    }
    if (!json_object_is_type(value, json_type_string))
        return misfit(st, name, "a number");
    *ret = strtod(json_object_get_string(value), &end);
    if (*end || end == json_object_get_string(value))
        return misfit(st, name, "a number");
    return true;
}

static bool read_enum(json_object *value, const char *name, const ProtobufCEnumDescriptor *type,
                      int *ret, struct status *st)
{
    const ProtobufCEnumValue *known;
    int64_t number;

    if (json_object_is_type(value, json_type_string)) {
        known = protobuf_c_enum_descriptor_get_value_by_name(type, json_object_get_string(value));
        if (!known)
            return misfit(st, name, "a value of its enum");
        *ret = known->value;
        return true;
    }
    if (!read_integer(value, name, INT32_MIN, INT32_MAX, &number, st))
        return false;
    *ret = (int)number;
    return true;
}

/* A C string cannot hold a NUL, and nothing here means one. */
static char *read_string(json_object *value, const char *name, struct status *st)
{
    const char *text = json_object_get_string(value);
    size_t len = (size_t)json_object_get_string_len(value);

    if (!json_object_is_type(value, json_type_string)) {
        misfit(st, name, "a string");
        return NULL;
    }
    if (strlen(text) != len || !utf8_is_valid((const uint8_t *)text, len)) {
        misfit(st, name, "a string of UTF-8 without NUL");
        return NULL;
    }
    return xstrdup(text);
}

static bool read_bytes(json_object *value, const char *name, ProtobufCBinaryData *ret,
                       struct status *st)
{
    size_t len = (size_t)json_object_get_string_len(value);

    if (!json_object_is_type(value, json_type_string))
        return misfit(st, name, "base64");
    AUTO_FREE uint8_t *data = xmalloc(base64_decoded_max(len));

    if (!base64_decode(data, json_object_get_string(value), len, &ret->len))
        return misfit(st, name, "base64");
    if (ret->len > 0)
        ret->data = TAKE(data);
    return true;
}

static ProtobufCMessage *read_message(const ProtobufCMessageDescriptor *type, json_object *value,
                                      const char *name, struct status *st);

static bool read_value(const ProtobufCFieldDescriptor *f, json_object *value, void *to,
                       struct status *st)
{
    const char *name = f->name;
    int64_t number = 0;
    double real = 0;
    int chosen = 0;

    switch (f->type) {
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_SFIXED32:
        if (!read_integer(value, name, INT32_MIN, INT32_MAX, &number, st))
            return false;
        *(int32_t *)to = (int32_t)number;
        return true;
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32:
        if (!read_integer(value, name, 0, UINT32_MAX, &number, st))
            return false;
        *(uint32_t *)to = (uint32_t)number;
        return true;
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
        return read_integer(value, name, INT64_MIN, INT64_MAX, to, st);
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
        return read_uint64(value, name, to, st);
    case PROTOBUF_C_TYPE_FLOAT:
        if (!read_double(value, name, &real, st))
            return false;
        *(float *)to = (float)real;
        return true;
    case PROTOBUF_C_TYPE_DOUBLE:
        return read_double(value, name, to, st);
    case PROTOBUF_C_TYPE_BOOL:
        if (!json_object_is_type(value, json_type_boolean))
            return misfit(st, name, "true or false");
        *(protobuf_c_boolean *)to = json_object_get_boolean(value);
        return true;
    case PROTOBUF_C_TYPE_ENUM:
        if (!read_enum(value, name, f->descriptor, &chosen, st))
            return false;
        *(int *)to = chosen;
        return true;
    case PROTOBUF_C_TYPE_STRING:
        return (*(char **)to = read_string(value, name, st)) != NULL;
    case PROTOBUF_C_TYPE_BYTES:
        return read_bytes(value, name, to, st);
    case PROTOBUF_C_TYPE_MESSAGE:
        return (*(ProtobufCMessage **)to = read_message(f->descriptor, value, name, st)) != NULL;
    }
    return false;
}

static ProtobufCMessage *new_message(const ProtobufCMessageDescriptor *type)
{
    ProtobufCMessage *m = xmalloc(type->sizeof_message);

    protobuf_c_message_init(type, m);
    return m;
}

/* Elements are counted in one by one, so that a message that fails half-way can be freed. */
static bool read_array(ProtobufCMessage *m, const ProtobufCFieldDescriptor *f, json_object *value,
                       struct status *st)
{
    size_t *n = json_at_mut(m, f->quantifier_offset);
    size_t wanted = json_object_array_length(value);
    char *elements;

    if (wanted == 0)
        return true;
    elements = xcalloc(wanted, json_size_of(f->type));
    *(char **)json_at_mut(m, f->offset) = elements;
    for (; *n < wanted; ++*n)
        if (!read_value(f, json_object_array_get_idx(value, *n),
                        elements + *n * json_size_of(f->type), st))
            return false;
    return true;
}

static bool read_map(ProtobufCMessage *m, const ProtobufCFieldDescriptor *f, json_object *value,
                     struct status *st)
{
    const ProtobufCMessageDescriptor *type = f->descriptor;
    size_t *n = json_at_mut(m, f->quantifier_offset);
    ProtobufCMessage **entries;

    if (json_object_object_length(value) == 0)
        return true;
    entries = xcalloc((size_t)json_object_object_length(value), sizeof(*entries));
    *(ProtobufCMessage ***)json_at_mut(m, f->offset) = entries;
    json_object_object_foreach(value, name, element)
    {
        ProtobufCMessage *entry = entries[(*n)++] = new_message(type);
        json_object *key = json_object_new_string(name);
        bool read =
            read_value(&type->fields[0], key, json_at_mut(entry, type->fields[0].offset), st);

        json_object_put(key);
        if (!read ||
            !read_value(&type->fields[1], element, json_at_mut(entry, type->fields[1].offset), st))
            return false;
    }
    return true;
}

static bool read_field(ProtobufCMessage *m, const ProtobufCFieldDescriptor *f, json_object *value,
                       struct status *st)
{
    if (json_is_map(f)) {
        if (!json_object_is_type(value, json_type_object))
            return misfit(st, f->name, "an object");
        return read_map(m, f, value, st);
    }
    if (f->label == PROTOBUF_C_LABEL_REPEATED) {
        if (!json_object_is_type(value, json_type_array))
            return misfit(st, f->name, "an array");
        return read_array(m, f, value, st);
    }
    if (json_is_oneof(f)) {
        uint32_t *chosen = json_at_mut(m, f->quantifier_offset);

        if (*chosen)
            return status_set(st, CODE_INVALID_ARGUMENT, 0,
                              "invalid JSON: %s and another member of its oneof are set", f->name);
        /* Chosen only once it is read: freeing looks at it. */
        if (!read_value(f, value, json_at_mut(m, f->offset), st))
            return false;
        *chosen = f->id;
        return true;
    }
    return read_value(f, value, json_at_mut(m, f->offset), st);
}

static const ProtobufCFieldDescriptor *find_field(const ProtobufCMessageDescriptor *type,
                                                  const char *name)
{
    char camel[128];

    for (unsigned i = 0; i < type->n_fields; i++) {
        json_camel_case(type->fields[i].name, camel, sizeof(camel));
        if (strcmp(camel, name) == 0 || strcmp(type->fields[i].name, name) == 0)
            return &type->fields[i];
    }
    return NULL;
}

/* "2026-01-02T03:04:05.678Z", with any offset. */
static bool read_timestamp(ProtobufCMessage *m, const char *text)
{
    struct tm tm = {0};
    int used = 0, hours = 0, minutes = 0;
    int64_t nanos = 0;

    if (sscanf(text, "%4d-%2d-%2dT%2d:%2d:%2d%n", &tm.tm_year, &tm.tm_mon, &tm.tm_mday, &tm.tm_hour,
               &tm.tm_min, &tm.tm_sec, &used) != 6 ||
        used == 0)
        return false;
    text += used;
    if (*text == '.') {
        int64_t unit = 100000000;

        for (text++; isdigit((unsigned char)*text); text++, unit /= 10)
            nanos += (*text - '0') * unit;
    }
    if (strcmp(text, "Z") != 0) {
        used = 0;
        if ((*text != '+' && *text != '-') ||
            sscanf(text + 1, "%2d:%2d%n", &hours, &minutes, &used) != 2 || text[used + 1])
            return false;
        if (*text == '-')
            hours = -hours, minutes = -minutes;
    }
    tm.tm_year -= 1900;
    tm.tm_mon -= 1;
    *(int64_t *)json_at_mut(m, m->descriptor->fields[0].offset) =
        (int64_t)timegm(&tm) - hours * 3600 - minutes * 60;
    *(int32_t *)json_at_mut(m, m->descriptor->fields[1].offset) = (int32_t)nanos;
    return true;
}

/* "-1.5s" */
static bool read_duration(ProtobufCMessage *m, const char *text)
{
    bool negative = *text == '-';
    int64_t seconds, nanos = 0, unit = 100000000;
    char *end;

    if (!isdigit((unsigned char)text[negative]))
        return false;
    errno = 0;
    seconds = strtoll(text + negative, &end, 10);
    if (errno)
        return false;
    if (*end == '.')
        for (end++; isdigit((unsigned char)*end); end++, unit /= 10)
            nanos += (*end - '0') * unit;
    if (strcmp(end, "s") != 0)
        return false;
    *(int64_t *)json_at_mut(m, m->descriptor->fields[0].offset) = negative ? -seconds : seconds;
    *(int32_t *)json_at_mut(m, m->descriptor->fields[1].offset) =
        (int32_t)(negative ? -nanos : nanos);
    return true;
}

static bool fill_message(ProtobufCMessage *m, json_object *value, const char *name,
                         struct status *st)
{
    bool is_time = json_is_timestamp(m->descriptor);
    uint64_t seen = 0; /* fields: a name has two spellings */

    assert(m->descriptor->n_fields <= 64);
    if (is_time || json_is_duration(m->descriptor)) {
        const char *text = json_object_get_string(value);

        if (!json_object_is_type(value, json_type_string) ||
            !(is_time ? read_timestamp(m, text) : read_duration(m, text)))
            return misfit(st, name, is_time ? "a timestamp" : "a duration");
        return true;
    }
    if (!json_object_is_type(value, json_type_object))
        return misfit(st, name, "an object");
    json_object_object_foreach(value, key, member)
    {
        const ProtobufCFieldDescriptor *f = find_field(m->descriptor, key);
        uint64_t bit;

        if (!f || !member) /* null is the default */
            continue;
        bit = UINT64_C(1) << (f - m->descriptor->fields);
        if (seen & bit)
            return status_set(st, CODE_INVALID_ARGUMENT, 0, "invalid JSON: %s is given twice",
                              f->name);
        seen |= bit;
        if (!read_field(m, f, member, st))
            return false;
    }
    return true;
}

static ProtobufCMessage *read_message(const ProtobufCMessageDescriptor *type, json_object *value,
                                      const char *name, struct status *st)
{
    ProtobufCMessage *m = new_message(type);

    if (fill_message(m, value, name, st))
        return m;
    protobuf_c_message_free_unpacked(m, NULL);
    return NULL;
}

static void put_json(json_object **value)
{
    json_object_put(*value);
}

ProtobufCMessage *json_decode(const ProtobufCMessageDescriptor *type, const char *text, size_t len,
                              struct status *st)
{
    json_tokener *tokener = json_tokener_new_ex(JSON_DEPTH_MAX);
    AUTO(put_json) json_object *value = NULL;
    enum json_tokener_error error = json_tokener_error_size;

    if (tokener && len <= INT_MAX) {
        json_tokener_set_flags(tokener, JSON_TOKENER_STRICT | JSON_TOKENER_ALLOW_TRAILING_CHARS);
        value = json_tokener_parse_ex(tokener, text, (int)len);
        error = json_tokener_get_error(tokener);
        for (size_t i = json_tokener_get_parse_end(tokener); i < len && !error; i++)
            if (!strchr(" \t\r\n", text[i]))
                error = json_tokener_error_parse_unexpected;
    }
    json_tokener_free(tokener);
    if (error != json_tokener_success) {
        status_set(st, CODE_INVALID_ARGUMENT, 0, "invalid JSON: %s",
                   error == json_tokener_continue ? "it is not complete"
                                                  : json_tokener_error_desc(error));
        return NULL;
    }
    return read_message(type, value, "the message", st);
}
