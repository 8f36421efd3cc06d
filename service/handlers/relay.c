/* See relay.h. Runs on the call's worker, once per block of the stream. */
#include "service/handlers/relay.h"

#include "common/base/mem.h"
#include "common/base/utf8.h"
#include "common/journal/pb.h"
#include "common/journal/verbs.h"

#include <stdlib.h>
#include <string.h>

/* Fields 2 (a varint) and 3 (bytes) of RunCommandResponse. */
enum { LAST_SEQ_TAG = 0x10, COMMAND_ID_TAG = 0x1a };

void relay_init(struct relay *r, uint64_t from_seq)
{
    *r = (struct relay){.check.last_seq = from_seq > 0 ? from_seq - 1 : 0};
}

void relay_deinit(struct relay *r)
{
    relay_cut(r);
}

void relay_cut(struct relay *r)
{
    free(r->rest);
    r->rest = NULL;
    r->rest_len = 0;
}

size_t relay_headroom(const struct relay *r)
{
    return RELAY_PREFIX_MAX + r->rest_len;
}

/* Writes last_seq so that it ends at end; returns where it starts. */
static uint8_t *put_last_seq(uint8_t *end, uint64_t seq)
{
    uint8_t bytes[RELAY_PREFIX_MAX];
    size_t n = 0;

    bytes[n++] = LAST_SEQ_TAG;
    while (seq >= 0x80) {
        bytes[n++] = (uint8_t)(seq | 0x80);
        seq >>= 7;
    }
    bytes[n++] = (uint8_t)seq;
    return memcpy(end - n, bytes, n);
}

/* The same for the id; NULL writes nothing. */
static uint8_t *put_command_id(uint8_t *end, const char *id)
{
    size_t len = id != NULL ? strnlen(id, RELAY_ID_MAX) : 0;

    if (id == NULL)
        return end;
    memcpy(end - len, id, len);
    end[-(ptrdiff_t)len - 1] = (uint8_t)len;
    end[-(ptrdiff_t)len - 2] = COMMAND_ID_TAG;
    return end - len - 2;
}

static void count_output(struct relay *r, const struct journal_event *e)
{
    if (e->kind >= JOURNAL_STDOUT && e->kind <= JOURNAL_TEXT)
        r->output += e->data_len;
}

/* What a follower says between frames. */
static bool take_mark(struct relay *r, uint8_t tag, uint64_t value)
{
    if (tag == FOLLOW_MARK_END)
        return r->complete = value == 1;
    if (value < r->check.last_seq || (value > r->check.last_seq && !r->check.sparse))
        return false;
    r->check.last_seq = value;
    return true;
}

/* Reads a mark at the start of data. Its length; 0 when it is cut, -1 when it is none. */
static int read_mark(struct relay *r, const uint8_t *data, size_t len)
{
    uint64_t value;
    int n;

    if (data[0] != FOLLOW_MARK_SEEN && data[0] != FOLLOW_MARK_END)
        return -1;
    n = pb_varint(data + 1, len - 1, &value);
    if (n <= 0)
        return n;
    return take_mark(r, data[0], value) ? n + 1 : -1;
}

/* What clients will read as a FileChange: its strings must be ones. */
static bool is_change(const struct journal_event *e)
{
    struct pb_reader r = pb_reader(e->data, e->data_len);
    struct pb_field f;

    while (pb_next(&r, &f)) {
        bool text = f.number == 2 || f.number == 3 || f.number == 5;

        if (f.wire != (text ? PB_BYTES : PB_VARINT) && f.number <= 5)
            return false;
        if (text && !utf8_is_valid(f.data, f.len))
            return false;
    }
    return !r.malformed;
}

/* Reads a frame at the start of data, with the same results. */
static int read_frame(struct relay *r, const uint8_t *data, size_t len)
{
    struct journal_event event;
    size_t n;

    switch (journal_parse(data, len, &event, &n)) {
    case JOURNAL_FRAME:
        count_output(r, &event);
        r->gaps += event.kind == JOURNAL_DROPPED;
        if (r->changes && event.kind == JOURNAL_STDOUT && !is_change(&event))
            return -1;
        return !r->complete && journal_check_next(&r->check, &event) ? (int)n : -1;
    case JOURNAL_PARTIAL:
        return 0;
    case JOURNAL_CORRUPT:
        break;
    }
    return -1;
}

/*
 * Walks whole frames in data. Marks are few and taken out by moving what is in front of them up.
 * The frames are *ret_whole bytes from *data on then, and what is left stands behind them. False:
 * the bytes are no journal.
 */
static bool walk(struct relay *r, uint8_t **data, size_t *len, size_t *ret_whole)
{
    size_t at = 0;

    while (at < *len) {
        int n = read_frame(r, *data + at, *len - at);

        if (n < 0) {
            n = read_mark(r, *data + at, *len - at);
            if (n < 0)
                return false;
            memmove(*data + n, *data, at);
            *data += n;
            *len -= (size_t)n;
        } else {
            at += (size_t)n;
        }
        if (n == 0)
            break;
    }
    *ret_whole = at;
    return true;
}

enum relay_result relay_feed(struct relay *r, uint8_t *block, size_t len, const char *command_id,
                             uint8_t **ret_start, size_t *ret_len)
{
    uint8_t *frames = block + RELAY_PREFIX_MAX;
    size_t total = r->rest_len + len, whole;

    if (r->rest_len > 0)
        memcpy(frames, r->rest, r->rest_len);
    relay_cut(r);
    if (!walk(r, &frames, &total, &whole))
        return RELAY_CORRUPT;
    if (whole < total) {
        r->rest_len = total - whole;
        r->rest = xmemdup(frames + whole, r->rest_len);
    }
    if (whole == 0)
        return RELAY_NOTHING;
    *ret_start = put_command_id(put_last_seq(frames, r->check.last_seq), command_id);
    *ret_len = (size_t)(frames + whole - *ret_start);
    return RELAY_MESSAGE;
}
