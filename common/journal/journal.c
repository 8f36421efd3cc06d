/*
 * See journal.h. The recorder encodes; the recorder's followers and sandboxd parse, on any thread.
 * The parser holds nothing between calls and never looks beyond the bytes it is given.
 */
#include "common/journal/journal.h"

#include "common/base/clock.h"
#include "common/base/utf8.h"
#include "common/journal/pb.h"

#include <string.h>

enum {
    MESSAGE_MAX = 1024, /* bytes of Exited.message that are kept */
    /* Everything of an output event but its payload: four tags, four varints, a timestamp. */
    OUTPUT_FIXED_MAX = 80,
};

static const int64_t TIME_MAX_S = INT64_MAX / NS_PER_S - 1;

/* --- parsing --- */

/* A varint field of a submessage; a number of another wire type is no journal. */
static bool as_number(const struct pb_field *f, uint64_t *ret)
{
    *ret = f->value;
    return f->wire == PB_VARINT;
}

/* A Timestamp, or a Duration that is not negative. */
static bool parse_time(const struct pb_field *field, int64_t *ret_ns)
{
    struct pb_reader r = pb_reader(field->data, field->len);
    struct pb_field f;
    uint64_t seconds = 0, nanos = 0;

    if (field->wire != PB_BYTES)
        return false;
    while (pb_next(&r, &f)) {
        if (f.number == 1 && !as_number(&f, &seconds))
            return false;
        if (f.number == 2 && !as_number(&f, &nanos))
            return false;
    }
    if (r.malformed || seconds > (uint64_t)TIME_MAX_S || nanos >= (uint64_t)NS_PER_S)
        return false;
    *ret_ns = (int64_t)seconds * NS_PER_S + (int64_t)nanos;
    return true;
}

static bool parse_started(const struct pb_field *field)
{
    struct pb_reader r = pb_reader(field->data, field->len);
    struct pb_field f;

    while (pb_next(&r, &f))
        if (f.number == 1 && f.wire != PB_VARINT)
            return false;
    return !r.malformed;
}

static bool parse_text(const struct pb_field *field, struct journal_event *e)
{
    struct pb_reader r = pb_reader(field->data, field->len);
    struct pb_field f;
    uint64_t stream = 0;

    e->data_len = 0;
    while (pb_next(&r, &f)) {
        if (f.number == 1 && !as_number(&f, &stream))
            return false;
        if (f.number == 2) {
            if (f.wire != PB_BYTES || !utf8_is_valid(f.data, f.len))
                return false;
            e->data = f.data;
            e->data_len = f.len;
        }
    }
    e->text_stream = (uint32_t)stream;
    return !r.malformed;
}

static bool parse_dropped(const struct pb_field *field, struct journal_event *e)
{
    struct pb_reader r = pb_reader(field->data, field->len);
    struct pb_field f;

    while (pb_next(&r, &f)) {
        if (f.number == 1 && !as_number(&f, &e->dropped_first))
            return false;
        if (f.number == 2 && !as_number(&f, &e->dropped_last))
            return false;
        if (f.number == 3 && !as_number(&f, &e->dropped_bytes))
            return false;
    }
    return !r.malformed;
}

static bool parse_exited(const struct pb_field *field, struct journal_event *e)
{
    struct pb_reader r = pb_reader(field->data, field->len);
    struct pb_field f;
    uint64_t number = 0;
    int64_t cpu_ns;

    while (pb_next(&r, &f)) {
        switch (f.number) {
        case 1:
            if (!as_number(&f, &number))
                return false;
            e->exit_reason = (uint32_t)number;
            break;
        case 2:
        case 3:
        case 6:
            if (f.wire != PB_VARINT)
                return false;
            break;
        case 4:
            if (f.wire != PB_BYTES || !utf8_is_valid(f.data, f.len))
                return false;
            break;
        case 5:
            if (!parse_time(&f, &cpu_ns))
                return false;
            break;
        default:
            break;
        }
    }
    return !r.malformed;
}

static bool parse_closed(const struct pb_field *field)
{
    struct pb_reader r = pb_reader(field->data, field->len);
    struct pb_field f;

    while (pb_next(&r, &f)) {
    }
    return !r.malformed;
}

/* What happened: the oneof, of which there may be one at most. */
static bool parse_what(const struct pb_field *f, struct journal_event *e)
{
    if (e->kind != JOURNAL_UNKNOWN || f->wire != PB_BYTES)
        return false;
    e->kind = (enum journal_kind)f->number;
    e->data = f->data;
    e->data_len = f->len;
    switch (e->kind) {
    case JOURNAL_STDOUT:
    case JOURNAL_STDERR:
    case JOURNAL_TERMINAL:
        return true;
    case JOURNAL_STARTED:
        return parse_started(f);
    case JOURNAL_TEXT:
        return parse_text(f, e);
    case JOURNAL_DROPPED:
        return parse_dropped(f, e);
    case JOURNAL_EXITED:
        return parse_exited(f, e);
    case JOURNAL_CLOSED:
        return parse_closed(f);
    case JOURNAL_UNKNOWN:
        break;
    }
    return false;
}

/*
 * A second seq, time or offset is refused as well: decoders would let the last one win, so two
 * readers of one frame could be made to disagree about it.
 */
static bool parse_event(const uint8_t *data, size_t len, struct journal_event *e)
{
    struct pb_reader r = pb_reader(data, len);
    struct pb_field f;
    unsigned seen = 0;

    *e = (struct journal_event){0};
    while (pb_next(&r, &f)) {
        if (f.number <= 3) {
            if ((seen & 1u << f.number) != 0)
                return false;
            seen |= 1u << f.number;
        }
        if (f.number == 1 && !as_number(&f, &e->seq))
            return false;
        if (f.number == 2 && !parse_time(&f, &e->time_ns))
            return false;
        if (f.number == 3 && !as_number(&f, &e->offset))
            return false;
        if (f.number >= JOURNAL_STARTED && f.number <= JOURNAL_CLOSED && !parse_what(&f, e))
            return false;
    }
    return !r.malformed;
}

enum journal_result journal_parse(const uint8_t *data, size_t len, struct journal_event *ret,
                                  size_t *ret_len)
{
    uint64_t body;
    int n;

    if (len == 0)
        return JOURNAL_PARTIAL;
    if (data[0] != JOURNAL_TAG)
        return JOURNAL_CORRUPT;
    n = pb_varint(data + 1, len - 1, &body);
    if (n == 0) /* three bytes of length are as many as a frame can need */
        return len < 4 ? JOURNAL_PARTIAL : JOURNAL_CORRUPT;
    if (n < 0 || (n > 1 && data[n] == 0) || body > (uint64_t)(JOURNAL_FRAME_MAX - 1 - n))
        return JOURNAL_CORRUPT;
    if (len - 1 - (size_t)n < body)
        return JOURNAL_PARTIAL;
    if (!parse_event(data + 1 + n, (size_t)body, ret))
        return JOURNAL_CORRUPT;
    *ret_len = 1 + (size_t)n + (size_t)body;
    return JOURNAL_FRAME;
}

bool journal_check_next(struct journal_check *c, const struct journal_event *e)
{
    uint64_t first = e->kind == JOURNAL_DROPPED ? e->dropped_first : e->seq;

    if (c->closed || c->last_seq == UINT64_MAX || first <= c->last_seq ||
        (first != c->last_seq + 1 && !c->sparse))
        return false;
    if (e->kind == JOURNAL_DROPPED && (e->seq != e->dropped_last || e->seq < first))
        return false;
    if (e->kind == JOURNAL_EXITED && c->exited)
        return false;
    c->last_seq = e->seq;
    c->exited |= e->kind == JOURNAL_EXITED;
    c->closed |= e->kind == JOURNAL_CLOSED;
    return true;
}

/* --- encoding --- */

/* The fields that every event has. */
static uint8_t *put_common(uint8_t *to, uint64_t seq, int64_t time_ns, uint64_t offset)
{
    to = pb_put_uint(to, 1, seq);
    to = pb_put_time(to, 2, time_ns);
    return pb_put_uint(to, 3, offset);
}

/* Writes the frame's own header and head, which is followed by rest bytes. Returns what it wrote.
 */
static size_t put_frame(uint8_t *to, const uint8_t *head, const uint8_t *head_end, size_t rest)
{
    size_t head_len = (size_t)(head_end - head);
    uint8_t *at = to;

    *at++ = JOURNAL_TAG;
    at = pb_put_varint(at, head_len + rest);
    memcpy(at, head, head_len);
    return (size_t)(at - to) + head_len;
}

size_t journal_encode_output_header(uint8_t *to, uint64_t seq, int64_t time_ns, uint64_t offset,
                                    enum journal_kind kind, size_t payload_len)
{
    uint8_t head[OUTPUT_FIXED_MAX], *end;

    end = put_common(head, seq, time_ns, offset);
    end = pb_put_tag(end, kind, PB_BYTES);
    end = pb_put_varint(end, payload_len);
    return put_frame(to, head, end, payload_len);
}

size_t journal_encode_started(uint8_t *to, uint64_t seq, int64_t time_ns, uint32_t pid)
{
    uint8_t head[OUTPUT_FIXED_MAX], body[2 * PB_VARINT_MAX], *end;
    size_t body_len = (size_t)(pb_put_uint(body, 1, pid) - body);

    end = put_common(head, seq, time_ns, 0);
    end = pb_put_bytes(end, JOURNAL_STARTED, body, body_len);
    return put_frame(to, head, end, 0);
}

size_t journal_encode_text(uint8_t *to, uint64_t seq, int64_t time_ns, uint64_t offset,
                           uint32_t stream, const uint8_t *text, size_t len)
{
    uint8_t head[OUTPUT_FIXED_MAX + 3 * PB_VARINT_MAX], body[4 * PB_VARINT_MAX], *end = body;
    size_t body_len, at;

    end = pb_put_uint(end, 1, stream);
    if (len > 0)
        end = pb_put_varint(pb_put_tag(end, 2, PB_BYTES), len);
    body_len = (size_t)(end - body);

    end = put_common(head, seq, time_ns, offset);
    end = pb_put_varint(pb_put_tag(end, JOURNAL_TEXT, PB_BYTES), body_len + len);
    memcpy(end, body, body_len);
    at = put_frame(to, head, end + body_len, len);
    if (len > 0)
        memcpy(to + at, text, len);
    return at + len;
}

size_t journal_encode_dropped(uint8_t *to, int64_t time_ns, uint64_t first_seq, uint64_t last_seq,
                              uint64_t bytes)
{
    uint8_t head[OUTPUT_FIXED_MAX + 3 * PB_VARINT_MAX], body[6 * PB_VARINT_MAX], *end = body;
    size_t body_len;

    end = pb_put_uint(end, 1, first_seq);
    end = pb_put_uint(end, 2, last_seq);
    end = pb_put_uint(end, 3, bytes);
    body_len = (size_t)(end - body);

    end = put_common(head, last_seq, time_ns, 0);
    end = pb_put_bytes(end, JOURNAL_DROPPED, body, body_len);
    return put_frame(to, head, end, 0);
}

/* How much of a message is kept: no half character at the end, and nothing that is not UTF-8. */
static size_t message_len(const char *message)
{
    size_t len = 0, max = strnlen(message, MESSAGE_MAX);
    int n;

    while (len < max && (n = utf8_sequence((const uint8_t *)message + len, max - len)) > 0)
        len += (size_t)n;
    return len;
}

size_t journal_encode_exited(uint8_t *to, uint64_t seq, int64_t time_ns,
                             const struct journal_exit *exit)
{
    uint8_t head[JOURNAL_EXITED_MAX], body[JOURNAL_EXITED_MAX - OUTPUT_FIXED_MAX], *end = body;
    size_t body_len;

    end = pb_put_uint(end, 1, exit->reason);
    end = pb_put_uint(end, 2, (uint64_t)(int64_t)exit->code);
    end = pb_put_uint(end, 3, (uint64_t)(int64_t)exit->signal);
    if (exit->message != NULL && exit->message[0] != '\0')
        end = pb_put_bytes(end, 4, exit->message, message_len(exit->message));
    end = pb_put_time(end, 5, exit->cpu_ns);
    end = pb_put_uint(end, 6, exit->max_rss_bytes);
    body_len = (size_t)(end - body);

    end = put_common(head, seq, time_ns, 0);
    end = pb_put_bytes(end, JOURNAL_EXITED, body, body_len);
    return put_frame(to, head, end, 0);
}

size_t journal_encode_closed(uint8_t *to, uint64_t seq, int64_t time_ns)
{
    uint8_t head[OUTPUT_FIXED_MAX], *end;

    end = put_common(head, seq, time_ns, 0);
    end = pb_put_bytes(end, JOURNAL_CLOSED, NULL, 0);
    return put_frame(to, head, end, 0);
}
