/* See relay_all.h. Runs on the call's worker, once per message of the stream. */
#include "service/handlers/relay_all.h"

#include "common/base/mem.h"
#include "common/journal/pb.h"
#include "common/journal/verbs.h"
#include "recorder/v1/recorder.pb-c.h"
#include "service/handlers/validate.h"

#include <stdlib.h>
#include <string.h>

/* Fields of LogsResponse. */
enum { EVENTS = 1, LAST_SEQ = 2, COMMAND_ID = 3, CURSOR = 4 };

void relay_all_init(struct relay_all *r, bool sparse)
{
    *r = (struct relay_all){.sparse = sparse, .in = BUF_INIT(2 * RELAY_ALL_MESSAGE_MAX)};
}

void relay_all_deinit(struct relay_all *r)
{
    buf_deinit(&r->in);
    free(r->commands);
    free(r->cursor);
    r->commands = NULL;
    r->cursor = NULL;
}

void relay_all_cut(struct relay_all *r)
{
    buf_clear(&r->in);
}

bool relay_all_feed(struct relay_all *r, const uint8_t *data, size_t len)
{
    return buf_append(&r->in, data, len);
}

/* --- the commands --- */

static struct relay_all_command *add(struct relay_all *r, const char *id)
{
    struct relay_all_command *c;

    if (r->n_commands == RELAY_ALL_COMMANDS_MAX)
        return NULL;
    /* Grown when the count reaches a power of two. */
    if ((r->n_commands & (r->n_commands - 1)) == 0)
        r->commands = xrealloc(r->commands, (2 * r->n_commands + 1) * sizeof(*r->commands));
    c = &r->commands[r->n_commands++];
    *c = (struct relay_all_command){.begun = false};
    strcpy(c->id, id);
    return c;
}

/* NULL: there are too many. */
static struct relay_all_command *find(struct relay_all *r, const char *id)
{
    for (size_t i = r->n_commands; i > 0; i--)
        if (strcmp(r->commands[i - 1].id, id) == 0)
            return &r->commands[i - 1];
    return add(r, id);
}

static bool take_cursor(struct relay_all *r, const Recorder__V1__WatchCursor *c)
{
    for (size_t i = 0; i < c->n_entries; i++) {
        const Recorder__V1__WatchCursor__Entry *e = c->entries[i];
        struct relay_all_command *command;

        if (!validate_id("cursor", e->command_id, NULL) || e->last_seq == UINT64_MAX)
            return false;
        command = find(r, e->command_id);
        if (command == NULL)
            return false;
        command->begun = true;
        command->check.last_seq = e->last_seq;
    }
    return true;
}

static void keep_cursor(struct relay_all *r, const uint8_t *cursor, size_t len)
{
    free(r->cursor);
    r->cursor = xmemdup(cursor, len);
    r->cursor_len = len;
}

bool relay_all_set_cursor(struct relay_all *r, const uint8_t *cursor, size_t len)
{
    Recorder__V1__WatchCursor *c;
    bool ok;

    if (len > RELAY_ALL_CURSOR_MAX)
        return false;
    c = recorder__v1__watch_cursor__unpack(NULL, len, cursor);
    ok = c != NULL && take_cursor(r, c);
    if (c != NULL)
        recorder__v1__watch_cursor__free_unpacked(c, NULL);
    if (ok)
        keep_cursor(r, cursor, len);
    return ok;
}

/* --- messages --- */

struct message {
    const uint8_t *data; /* borrowed; all of it */
    size_t len, events_len;
    char id[RELAY_ID_MAX + 1];
    uint64_t last_seq;
    const uint8_t *cursor; /* NULL: none */
    size_t cursor_len;
};

static bool take_field(const struct pb_field *f, struct message *m)
{
    switch (f->number) {
    case LAST_SEQ:
        m->last_seq = f->value;
        return f->wire == PB_VARINT;
    case COMMAND_ID:
        if (f->wire != PB_BYTES || f->len > RELAY_ID_MAX || memchr(f->data, '\0', f->len) != NULL)
            return false;
        memcpy(m->id, f->data, f->len);
        m->id[f->len] = '\0';
        return validate_id("command_id", m->id, NULL);
    case CURSOR:
        m->cursor = f->data;
        m->cursor_len = f->len;
        return f->wire == PB_BYTES && f->len <= RELAY_ALL_CURSOR_MAX;
    default:
        return false;
    }
}

/* Events first, then the other fields; only fields that are known. */
static bool read_message(const uint8_t *data, size_t len, struct message *ret)
{
    struct pb_reader r = pb_reader(data, len);
    struct pb_field f;

    *ret = (struct message){.data = data, .len = len};
    while (pb_next(&r, &f)) {
        if (f.number != EVENTS) {
            if (!take_field(&f, ret))
                return false;
        } else if (f.wire != PB_BYTES || ret->id[0] != '\0' || ret->last_seq != 0 ||
                   ret->cursor != NULL) {
            return false;
        } else {
            ret->events_len = (size_t)(f.data + f.len - data);
        }
    }
    return !r.malformed && (ret->id[0] != '\0') == (ret->events_len > 0);
}

static bool check_event(struct relay_all *r, struct relay_all_command *c,
                        const struct journal_event *e)
{
    c->check.sparse = r->sparse || !c->begun;
    if (!journal_check_next(&c->check, e))
        return false;
    c->begun = true;
    r->gaps += e->kind == JOURNAL_DROPPED;
    if (e->kind >= JOURNAL_STDOUT && e->kind <= JOURNAL_TEXT)
        r->output += e->data_len;
    return true;
}

/* Checks the events. *ret_from is where those that did not come before start. */
static bool check_events(struct relay_all *r, const struct message *m, size_t *ret_from)
{
    struct relay_all_command *c = m->events_len > 0 ? find(r, m->id) : NULL;
    size_t at = 0, n;

    *ret_from = 0;
    if (m->events_len == 0)
        return true;
    if (c == NULL)
        return false;
    for (; at < m->events_len; at += n) {
        struct journal_event e;

        if (journal_parse(m->data + at, m->events_len - at, &e, &n) != JOURNAL_FRAME)
            return false;
        if (e.seq <= c->check.last_seq)
            *ret_from = at + n;
        else if (!check_event(r, c, &e))
            return false;
    }
    if (m->last_seq < c->check.last_seq)
        return *ret_from == m->events_len; /* all of it is old */
    c->check.last_seq = m->last_seq;
    return true;
}

/* One whole message. NOTHING: there was nothing new in it. */
static enum relay_result take_message(struct relay_all *r, const uint8_t *data, size_t len,
                                      uint8_t **ret_base, size_t *ret_len)
{
    struct message m;
    size_t from;

    if (r->complete || !read_message(data, len, &m) || !check_events(r, &m, &from))
        return RELAY_CORRUPT;
    if (m.cursor != NULL)
        keep_cursor(r, m.cursor, m.cursor_len);
    if (from == m.events_len && m.cursor == NULL)
        return RELAY_NOTHING;
    *ret_base = xmemdup(data + from, len - from);
    *ret_len = len - from;
    return RELAY_MESSAGE;
}

/* Reads the length of what stands at the front. PARTIAL and so on as journal_parse() has it. */
static enum journal_result read_front(struct relay_all *r, size_t *ret_header, size_t *ret_len)
{
    const uint8_t *data = buf_data(&r->in);
    uint64_t value;
    int n;

    if (buf_len(&r->in) == 0)
        return JOURNAL_PARTIAL;
    if (data[0] != JOURNAL_TAG && data[0] != FOLLOW_MARK_END)
        return JOURNAL_CORRUPT;
    n = pb_varint(data + 1, buf_len(&r->in) - 1, &value);
    if (n <= 0)
        return n == 0 ? JOURNAL_PARTIAL : JOURNAL_CORRUPT;
    *ret_header = 1 + (size_t)n;
    *ret_len = data[0] == JOURNAL_TAG ? (size_t)value : 0;
    if (data[0] == FOLLOW_MARK_END)
        r->complete = true;
    if (data[0] == JOURNAL_TAG && value > RELAY_ALL_MESSAGE_MAX)
        return JOURNAL_CORRUPT;
    return buf_len(&r->in) - *ret_header >= *ret_len ? JOURNAL_FRAME : JOURNAL_PARTIAL;
}

enum relay_result relay_all_next(struct relay_all *r, uint8_t **ret_base, size_t *ret_len)
{
    enum relay_result result = RELAY_NOTHING;
    size_t header, len;

    while (result == RELAY_NOTHING && !r->complete) {
        switch (read_front(r, &header, &len)) {
        case JOURNAL_PARTIAL:
            return RELAY_NOTHING;
        case JOURNAL_CORRUPT:
            return RELAY_CORRUPT;
        case JOURNAL_FRAME:
            break;
        }
        if (!r->complete)
            result = take_message(r, buf_data(&r->in) + header, len, ret_base, ret_len);
        buf_consume(&r->in, header + len);
    }
    return result;
}
