/* See json.h: from messages to text, straight into the buffer. Pure. */
#include "common/base/base64.h"
#include "common/base/utf8.h"
#include "common/connect/json.h"
#include "common/connect/json_fields.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static int64_t get_seconds(const ProtobufCMessage *m)
{
    return *(const int64_t *)json_at(m, m->descriptor->fields[0].offset);
}

static int32_t get_nanos(const ProtobufCMessage *m)
{
    return *(const int32_t *)json_at(m, m->descriptor->fields[1].offset);
}

bool json_append_string(struct buf *out, const char *s, size_t len)
{
    size_t plain = 0;

    if (!utf8_is_valid((const uint8_t *)s, len) || !buf_append_byte(out, '"'))
        return false;
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)s[i];

        if (c >= 0x20 && c != '"' && c != '\\')
            continue;
        if (!buf_append(out, s + plain, i - plain))
            return false;
        plain = i + 1;
        if (c == '"' || c == '\\') {
            if (!buf_printf(out, "\\%c", c))
                return false;
        } else if (!buf_printf(out, "\\u%04x", c)) {
            return false;
        }
    }
    return buf_append(out, s + plain, len - plain) && buf_append_byte(out, '"');
}

static bool append_bytes(struct buf *out, const ProtobufCBinaryData *bytes)
{
    size_t len = base64_encoded_len(bytes->len);
    uint8_t *to;

    if (!buf_append_byte(out, '"') || !(to = buf_reserve(out, len)))
        return false;
    buf_commit(out, base64_encode((char *)to, bytes->data, bytes->len));
    return buf_append_byte(out, '"');
}

static bool append_fraction(struct buf *out, int32_t nanos)
{
    if (nanos == 0)
        return true;
    if (nanos % 1000000 == 0)
        return buf_printf(out, ".%03d", nanos / 1000000);
    if (nanos % 1000 == 0)
        return buf_printf(out, ".%06d", nanos / 1000);
    return buf_printf(out, ".%09d", nanos);
}

static bool append_timestamp(struct buf *out, const ProtobufCMessage *m)
{
    time_t seconds = (time_t)get_seconds(m);
    struct tm tm;
    char text[32];

    if (!gmtime_r(&seconds, &tm) || tm.tm_year < -1899 || tm.tm_year > 8099)
        return buf_append_str(out, "null"); /* outside of years 1 to 9999 there is no text */
    snprintf(text, sizeof(text), "\"%04d-%02d-%02dT%02d:%02d:%02d", tm.tm_year + 1900,
             tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec);
    return buf_append_str(out, text) && append_fraction(out, get_nanos(m)) &&
           buf_append_str(out, "Z\"");
}

static bool append_duration(struct buf *out, const ProtobufCMessage *m)
{
    int64_t seconds = get_seconds(m);
    int32_t nanos = get_nanos(m);
    bool negative = seconds < 0 || nanos < 0;

    return buf_printf(out, "\"%s%" PRId64, negative ? "-" : "", negative ? -seconds : seconds) &&
           append_fraction(out, negative ? -nanos : nanos) && buf_append_str(out, "s\"");
}

static bool append_enum(struct buf *out, const ProtobufCEnumDescriptor *type, int value)
{
    const ProtobufCEnumValue *known = protobuf_c_enum_descriptor_get_value(type, value);

    return known ? buf_printf(out, "\"%s\"", known->name) : buf_printf(out, "%d", value);
}

static bool append_float(struct buf *out, double value)
{
    if (isnan(value))
        return buf_append_str(out, "\"NaN\"");
    if (isinf(value))
        return buf_append_str(out, value < 0 ? "\"-Infinity\"" : "\"Infinity\"");
    return buf_printf(out, "%.17g", value);
}

static bool append_message(struct buf *out, const ProtobufCMessage *m);

static bool append_value(struct buf *out, const ProtobufCFieldDescriptor *f, const void *value)
{
    const char *text;

    switch (f->type) {
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_SFIXED32:
        return buf_printf(out, "%" PRId32, *(const int32_t *)value);
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32:
        return buf_printf(out, "%" PRIu32, *(const uint32_t *)value);
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
        return buf_printf(out, "\"%" PRId64 "\"", *(const int64_t *)value);
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
        return buf_printf(out, "\"%" PRIu64 "\"", *(const uint64_t *)value);
    case PROTOBUF_C_TYPE_FLOAT:
        return append_float(out, (double)*(const float *)value);
    case PROTOBUF_C_TYPE_DOUBLE:
        return append_float(out, *(const double *)value);
    case PROTOBUF_C_TYPE_BOOL:
        return buf_append_str(out, *(const protobuf_c_boolean *)value ? "true" : "false");
    case PROTOBUF_C_TYPE_ENUM:
        return append_enum(out, f->descriptor, *(const int *)value);
    case PROTOBUF_C_TYPE_STRING:
        text = *(char *const *)value;
        return json_append_string(out, text ? text : "", text ? strlen(text) : 0);
    case PROTOBUF_C_TYPE_BYTES:
        return append_bytes(out, value);
    case PROTOBUF_C_TYPE_MESSAGE:
        return append_message(out, *(ProtobufCMessage *const *)value);
    }
    return false;
}

/* Whether a field has its default value, or is a member that was not chosen, and is left out. */
static bool is_absent(const ProtobufCMessage *m, const ProtobufCFieldDescriptor *f)
{
    const void *value = json_at(m, f->offset);

    if (json_is_oneof(f))
        return *(const uint32_t *)json_at(m, f->quantifier_offset) != f->id;
    if (f->label == PROTOBUF_C_LABEL_REPEATED)
        return *(const size_t *)json_at(m, f->quantifier_offset) == 0;
    if (f->type == PROTOBUF_C_TYPE_STRING)
        return !*(char *const *)value || **(char *const *)value == '\0';
    if (f->type == PROTOBUF_C_TYPE_MESSAGE)
        return !*(ProtobufCMessage *const *)value;
    if (f->type == PROTOBUF_C_TYPE_BYTES)
        return ((const ProtobufCBinaryData *)value)->len == 0;
    static const uint8_t zero[8];

    return memcmp(value, zero, json_size_of(f->type)) == 0;
}

static bool append_map(struct buf *out, ProtobufCMessage *const *entries, size_t n)
{
    if (!buf_append_byte(out, '{'))
        return false;
    for (size_t i = 0; i < n; i++) {
        const ProtobufCFieldDescriptor *fields = entries[i]->descriptor->fields;
        bool quoted = fields[0].type == PROTOBUF_C_TYPE_STRING || json_size_of(fields[0].type) == 8;

        /* Keys are strings whatever their type. */
        if ((i > 0 && !buf_append_byte(out, ',')) || (!quoted && !buf_append_byte(out, '"')) ||
            !append_value(out, &fields[0], json_at(entries[i], fields[0].offset)) ||
            (!quoted && !buf_append_byte(out, '"')) || !buf_append_byte(out, ':') ||
            !append_value(out, &fields[1], json_at(entries[i], fields[1].offset)))
            return false;
    }
    return buf_append_byte(out, '}');
}

static bool append_field(struct buf *out, const ProtobufCMessage *m,
                         const ProtobufCFieldDescriptor *f)
{
    const void *value = json_at(m, f->offset);
    const char *elements;
    size_t n;

    if (f->label != PROTOBUF_C_LABEL_REPEATED)
        return append_value(out, f, value);
    n = *(const size_t *)json_at(m, f->quantifier_offset);
    elements = *(char *const *)value;
    if (json_is_map(f))
        return append_map(out, (ProtobufCMessage *const *)(const void *)elements, n);
    if (!buf_append_byte(out, '['))
        return false;
    for (size_t i = 0; i < n; i++)
        if ((i > 0 && !buf_append_byte(out, ',')) ||
            !append_value(out, f, elements + i * json_size_of(f->type)))
            return false;
    return buf_append_byte(out, ']');
}

static bool append_message(struct buf *out, const ProtobufCMessage *m)
{
    const ProtobufCMessageDescriptor *d = m->descriptor;
    bool first = true;
    char name[128];

    if (json_is_timestamp(d))
        return append_timestamp(out, m);
    if (json_is_duration(d))
        return append_duration(out, m);
    if (!buf_append_byte(out, '{'))
        return false;
    for (unsigned i = 0; i < d->n_fields; i++) {
        if (is_absent(m, &d->fields[i]))
            continue;
        json_camel_case(d->fields[i].name, name, sizeof(name));
        if ((!first && !buf_append_byte(out, ',')) || !buf_printf(out, "\"%s\":", name) ||
            !append_field(out, m, &d->fields[i]))
            return false;
        first = false;
    }
    return buf_append_byte(out, '}');
}

bool json_encode(struct buf *out, const ProtobufCMessage *m)
{
    return append_message(out, m);
}
