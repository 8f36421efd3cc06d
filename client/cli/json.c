/* See json.h. Pure: descriptors and a message in, text out. */
#include "client/cli/json.h"

#include "common/base/cleanup.h"
#include "common/base/utf8.h"

#include <ctype.h>
#include <inttypes.h>
#include <math.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

static void append_char(struct buf *to, const uint8_t *s, int len)
{
    static const char plain[] = "\"\\\b\f\n\r\t";
    static const char letter[] = "\"\\bfnrt";
    const char *at = len == 1 && *s != '\0' ? strchr(plain, *s) : NULL;

    if (len <= 0)
        buf_append_str(to, "\xef\xbf\xbd");
    else if (at != NULL)
        buf_printf(to, "\\%c", letter[at - plain]);
    else if (len == 1 && (*s < 0x20 || *s == 0x7f))
        buf_printf(to, "\\u%04x", *s);
    else
        buf_append(to, s, (size_t)len);
}

void json_string(struct buf *to, const char *text)
{
    const uint8_t *s = (const uint8_t *)text;
    size_t left = strlen(text);

    buf_append_byte(to, '"');
    while (left > 0) {
        int n = utf8_sequence(s, left);
        size_t used = n > 0 ? (size_t)n : n < 0 ? (size_t)-n : left;

        append_char(to, s, n);
        s += used;
        left -= used;
    }
    buf_append_byte(to, '"');
}

static void append_base64(struct buf *to, const uint8_t *data, size_t len)
{
    static const char digit[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

    buf_append_byte(to, '"');
    for (size_t i = 0; i < len; i += 3) {
        size_t n = len - i < 3 ? len - i : 3;
        uint32_t bits = (uint32_t)data[i] << 16 | (n > 1 ? (uint32_t)data[i + 1] << 8 : 0) |
                        (n > 2 ? data[i + 2] : 0);
        char four[] = {digit[bits >> 18], digit[bits >> 12 & 63],
                       n > 1 ? digit[bits >> 6 & 63] : '=', n > 2 ? digit[bits & 63] : '='};

        buf_append(to, four, sizeof(four));
    }
    buf_append_byte(to, '"');
}

static void append_name(struct buf *to, const char *name)
{
    buf_append_byte(to, '"');
    for (; *name != '\0'; name++) {
        if (*name == '_' && name[1] != '\0')
            buf_append_byte(to, (uint8_t)toupper((unsigned char)*++name));
        else
            buf_append_byte(to, (uint8_t)*name);
    }
    buf_append_str(to, "\":");
}

/* 0, 3, 6 or 9 digits, as many as it takes. */
static void append_fraction(struct buf *to, int32_t nanos)
{
    if (nanos == 0)
        return;
    if (nanos % 1000000 == 0)
        buf_printf(to, ".%03d", nanos / 1000000);
    else if (nanos % 1000 == 0)
        buf_printf(to, ".%06d", nanos / 1000);
    else
        buf_printf(to, ".%09d", nanos);
}

static int64_t seconds_of(const ProtobufCMessage *m)
{
    return *(const int64_t *)((const char *)m + m->descriptor->fields[0].offset);
}

static int32_t nanos_of(const ProtobufCMessage *m)
{
    return *(const int32_t *)((const char *)m + m->descriptor->fields[1].offset);
}

static void append_timestamp(struct buf *to, const ProtobufCMessage *m)
{
    time_t seconds = seconds_of(m);
    struct tm tm;
    char text[40];

    if (gmtime_r(&seconds, &tm) == NULL || nanos_of(m) < 0 || nanos_of(m) > 999999999) {
        buf_append_str(to, "null"); /* a year that no calendar has */
        return;
    }
    strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm);
    buf_printf(to, "\"%s", text);
    append_fraction(to, nanos_of(m));
    buf_append_str(to, "Z\"");
}

static void append_duration(struct buf *to, const ProtobufCMessage *m)
{
    int64_t seconds = seconds_of(m);
    int32_t nanos = nanos_of(m);
    bool negative = seconds < 0 || nanos < 0;

    buf_printf(to, "\"%s%" PRIu64, negative ? "-" : "",
               seconds < 0 ? -(uint64_t)seconds : (uint64_t)seconds);
    append_fraction(to, nanos < 0 ? (int32_t) - (uint32_t)nanos : nanos);
    buf_append_str(to, "s\"");
}

static void append_double(struct buf *to, double value)
{
    if (isfinite(value))
        buf_printf(to, "%.17g", value);
    else
        buf_append_str(to, isnan(value) ? "\"NaN\"" : value > 0 ? "\"Infinity\"" : "\"-Infinity\"");
}

static void append_enum(struct buf *to, const ProtobufCEnumDescriptor *type, int number)
{
    const ProtobufCEnumValue *value = protobuf_c_enum_descriptor_get_value(type, number);

    if (value != NULL)
        buf_printf(to, "\"%s\"", value->name);
    else
        buf_printf(to, "%d", number);
}

static void append_value(struct buf *to, const ProtobufCFieldDescriptor *f, const void *at)
{
    switch (f->type) {
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_SFIXED32:
        buf_printf(to, "%" PRId32, *(const int32_t *)at);
        break;
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32:
        buf_printf(to, "%" PRIu32, *(const uint32_t *)at);
        break;
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
        buf_printf(to, "\"%" PRId64 "\"", *(const int64_t *)at);
        break;
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
        buf_printf(to, "\"%" PRIu64 "\"", *(const uint64_t *)at);
        break;
    case PROTOBUF_C_TYPE_FLOAT:
        append_double(to, (double)*(const float *)at);
        break;
    case PROTOBUF_C_TYPE_DOUBLE:
        append_double(to, *(const double *)at);
        break;
    case PROTOBUF_C_TYPE_BOOL:
        buf_append_str(to, *(const protobuf_c_boolean *)at ? "true" : "false");
        break;
    case PROTOBUF_C_TYPE_ENUM:
        append_enum(to, f->descriptor, *(const int *)at);
        break;
    case PROTOBUF_C_TYPE_STRING:
        json_string(to, *(const char *const *)at);
        break;
    case PROTOBUF_C_TYPE_BYTES:
        append_base64(to, ((const ProtobufCBinaryData *)at)->data,
                      ((const ProtobufCBinaryData *)at)->len);
        break;
    case PROTOBUF_C_TYPE_MESSAGE:
        json_message(to, *(const ProtobufCMessage *const *)at);
        break;
    }
}

static bool is_default(const ProtobufCFieldDescriptor *f, const void *at)
{
    static const double zero = 0;

    switch (f->type) {
    case PROTOBUF_C_TYPE_STRING:
        return *(const char *const *)at == NULL || **(const char *const *)at == '\0';
    case PROTOBUF_C_TYPE_BYTES:
        return ((const ProtobufCBinaryData *)at)->len == 0;
    case PROTOBUF_C_TYPE_MESSAGE:
        return *(const void *const *)at == NULL;
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_DOUBLE:
        return memcmp(at, &zero, sizeof(uint64_t)) == 0;
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_SFIXED32:
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32:
    case PROTOBUF_C_TYPE_FLOAT:
    case PROTOBUF_C_TYPE_BOOL:
    case PROTOBUF_C_TYPE_ENUM:
        break;
    }
    return memcmp(at, &zero, sizeof(uint32_t)) == 0;
}

static bool is_set(const ProtobufCMessage *m, const ProtobufCFieldDescriptor *f)
{
    const char *base = (const char *)m;
    const void *quantifier = base + f->quantifier_offset;

    if ((f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0)
        return *(const uint32_t *)quantifier == f->id;
    if (f->label == PROTOBUF_C_LABEL_REPEATED)
        return *(const size_t *)quantifier > 0;
    return !is_default(f, base + f->offset);
}

static size_t element_size(const ProtobufCFieldDescriptor *f)
{
    switch (f->type) {
    case PROTOBUF_C_TYPE_BYTES:
        return sizeof(ProtobufCBinaryData);
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_MESSAGE:
        return sizeof(void *);
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_DOUBLE:
        return sizeof(uint64_t);
    case PROTOBUF_C_TYPE_BOOL:
        return sizeof(protobuf_c_boolean);
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_SFIXED32:
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32:
    case PROTOBUF_C_TYPE_FLOAT:
    case PROTOBUF_C_TYPE_ENUM:
        break;
    }
    return sizeof(uint32_t);
}

/* protobuf-c keeps no mark of maps, but the compiler names their entries, and nothing else, so. */
static bool is_map(const ProtobufCFieldDescriptor *f)
{
    const ProtobufCMessageDescriptor *d = f->descriptor;
    size_t len;

    if (f->type != PROTOBUF_C_TYPE_MESSAGE || f->label != PROTOBUF_C_LABEL_REPEATED)
        return false;
    len = strlen(d->name);
    return len > 5 && strcmp(d->name + len - 5, "Entry") == 0 && d->n_fields == 2 &&
           strcmp(d->fields[0].name, "key") == 0 && strcmp(d->fields[1].name, "value") == 0;
}

/* JSON has only strings for keys. */
static void append_key(struct buf *to, const ProtobufCFieldDescriptor *f, const void *at)
{
    AUTO(buf_deinit) struct buf text = BUF_INIT(64);

    if (f->type == PROTOBUF_C_TYPE_STRING) {
        json_string(to, *(const char *const *)at);
        return;
    }
    append_value(&text, f, at);
    if (buf_str(&text)[0] == '"')
        buf_append_str(to, buf_str(&text));
    else
        buf_printf(to, "\"%s\"", buf_str(&text));
}

static void append_entry(struct buf *to, const ProtobufCMessage *entry)
{
    const ProtobufCFieldDescriptor *fields = entry->descriptor->fields;

    append_key(to, &fields[0], (const char *)entry + fields[0].offset);
    buf_append_byte(to, ':');
    append_value(to, &fields[1], (const char *)entry + fields[1].offset);
}

static void append_repeated(struct buf *to, const ProtobufCMessage *m,
                            const ProtobufCFieldDescriptor *f)
{
    size_t n = *(const size_t *)((const char *)m + f->quantifier_offset);
    const char *at = *(const char *const *)((const char *)m + f->offset);
    bool map = is_map(f);

    buf_append_byte(to, map ? '{' : '[');
    for (size_t i = 0; i < n; i++, at += element_size(f)) {
        if (i > 0)
            buf_append_byte(to, ',');
        if (map)
            append_entry(to, *(const ProtobufCMessage *const *)(const void *)at);
        else
            append_value(to, f, at);
    }
    buf_append_byte(to, map ? '}' : ']');
}

static void append_fields(struct buf *to, const ProtobufCMessage *m)
{
    bool first = true;

    buf_append_byte(to, '{');
    for (unsigned i = 0; i < m->descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *f = &m->descriptor->fields[i];

        if (!is_set(m, f))
            continue;
        if (!first)
            buf_append_byte(to, ',');
        first = false;
        append_name(to, f->name);
        if (f->label == PROTOBUF_C_LABEL_REPEATED)
            append_repeated(to, m, f);
        else
            append_value(to, f, (const char *)m + f->offset);
    }
    buf_append_byte(to, '}');
}

void json_message(struct buf *to, const ProtobufCMessage *m)
{
    if (strcmp(m->descriptor->name, "google.protobuf.Timestamp") == 0)
        append_timestamp(to, m);
    else if (strcmp(m->descriptor->name, "google.protobuf.Duration") == 0)
        append_duration(to, m);
    else
        append_fields(to, m);
}
