/*
 * See wire_check.h. Pure; recursion is bounded, and so is the number of fields: an empty message or
 * an unknown field takes two bytes on the wire, and fifty times that once it is unpacked.
 */
#include "service/rpc/wire_check.h"

#include "common/base/utf8.h"
#include "sandbox/v1/errors.pb-c.h"

#include <string.h>

enum {
    INVALID_FIELD = SANDBOX__V1__ERROR_REASON__ERROR_REASON_INVALID_FIELD,
    DEPTH_MAX = 32,
    FIELDS_MAX = 128 * 1024, /* of one request, however nested */
    WIRE_VARINT = 0,
    WIRE_FIXED64 = 1,
    WIRE_BYTES = 2,
    WIRE_FIXED32 = 5,
};

struct reader {
    const uint8_t *at, *end;
};

static bool read_varint(struct reader *r, uint64_t *ret)
{
    uint64_t value = 0;

    for (int shift = 0; shift < 64 && r->at < r->end; shift += 7) {
        uint8_t byte = *r->at++;

        value |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80) {
            *ret = value;
            return true;
        }
    }
    return false;
}

static bool skip(struct reader *r, uint64_t n)
{
    if (n > (uint64_t)(r->end - r->at))
        return false;
    r->at += n;
    return true;
}

static bool malformed(const ProtobufCMessageDescriptor *type, struct status *st)
{
    return status_set(st, CODE_INVALID_ARGUMENT, INVALID_FIELD,
                      "the request is no %s message: its bytes do not parse", type->name);
}

static bool too_many(struct status *st)
{
    return status_set(st, CODE_INVALID_ARGUMENT, INVALID_FIELD,
                      "the request has more than %d fields; split it", FIELDS_MAX);
}

static bool check_text(const ProtobufCFieldDescriptor *field, const uint8_t *data, size_t len,
                       struct status *st)
{
    if (memchr(data, '\0', len) != NULL)
        return status_bad_field(st, INVALID_FIELD, field->name, "%s has a NUL byte in it",
                                field->name);
    if (!utf8_is_valid(data, len))
        return status_bad_field(st, INVALID_FIELD, field->name, "%s is not UTF-8", field->name);
    return true;
}

/* Where a check has got to. */
struct position {
    int depth;
    unsigned fields; /* seen so far */
};

static bool check_message(const ProtobufCMessageDescriptor *type, const uint8_t *data, size_t len,
                          struct position *pos, struct status *st);

static bool check_bytes(const ProtobufCMessageDescriptor *type, unsigned number,
                        const uint8_t *data, size_t len, struct position *pos, struct status *st)
{
    const ProtobufCFieldDescriptor *field = protobuf_c_message_descriptor_get_field(type, number);

    if (field != NULL && field->type == PROTOBUF_C_TYPE_STRING)
        return check_text(field, data, len, st);
    if (field != NULL && field->type == PROTOBUF_C_TYPE_MESSAGE)
        return check_message(field->descriptor, data, len, pos, st);
    return true;
}

static bool check_message(const ProtobufCMessageDescriptor *type, const uint8_t *data, size_t len,
                          struct position *pos, struct status *st)
{
    struct reader r = {data, data + len};
    uint64_t tag, value;

    if (++pos->depth > DEPTH_MAX)
        return malformed(type, st);
    while (r.at < r.end) {
        if (++pos->fields > FIELDS_MAX)
            return too_many(st);
        bool ok = read_varint(&r, &tag) && tag >> 3 != 0 && tag >> 32 == 0;

        switch (ok ? (int)(tag & 7) : -1) {
        case WIRE_VARINT:
            ok = read_varint(&r, &value);
            break;
        case WIRE_FIXED64:
            ok = skip(&r, 8);
            break;
        case WIRE_FIXED32:
            ok = skip(&r, 4);
            break;
        case WIRE_BYTES:
            ok = read_varint(&r, &value) && value <= (uint64_t)(r.end - r.at);
            if (ok && !check_bytes(type, (unsigned)(tag >> 3), r.at, value, pos, st))
                return false;
            ok = ok && skip(&r, value);
            break;
        default:
            ok = false;
        }
        if (!ok)
            return malformed(type, st);
    }
    pos->depth--;
    return true;
}

bool wire_check(const ProtobufCMessageDescriptor *type, const uint8_t *data, size_t len,
                struct status *st)
{
    struct position pos = {0};

    return check_message(type, data, len, &pos, st);
}
