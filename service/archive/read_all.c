/*
 * See read.h: all commands of a sandbox, merged by time, as the recorder's watcher writes them. Of
 * each command that is open the next event is read ahead; the earliest goes out, with what follows
 * it of the same command and is older than all others'. A command is opened when its time comes,
 * and of those that are open only some keep their piece in memory: the others read it again.
 */
#include "service/archive/read.h"

#include "common/base/cleanup.h"
#include "common/base/mem.h"
#include "common/journal/cursor.h"
#include "common/journal/pb.h"
#include "common/journal/verbs.h"
#include "sandbox/v1/errors.pb-c.h"

#include <stdlib.h>
#include <string.h>

enum {
    LOADED_MAX = 16,         /* pieces in memory */
    GROUP_BYTES = 48 * 1024, /* of events in one message, or one event */
    GROUP_MAX = GROUP_BYTES + VIEW_ROOM,
    CURSOR_MAX = 1024 * 1024,
    MESSAGE_MAX = GROUP_MAX + CURSOR_MAX + 256,
    SMALL_CURSOR = 4 * 1024, /* in every message; a larger one only now and then */
    CURSOR_EVERY = 512 * 1024,
};

struct merged {
    struct record_name name;
    struct cursor_entry at; /* how far it was read */
    bool open, done;
    struct archived a;
    struct view view;
    struct journal_event next;
    bool has_next, stale; /* stale: next's data was given back */
};

struct merge {
    const struct archived_place *p;
    const struct archive_view *o;
    struct view_options view; /* without the limit */
    struct read_sink *to;
    struct merged *list;         /* owned; oldest first */
    size_t n, n_open;            /* the first so many were opened, unless there was no need */
    size_t first;                /* those before it are done */
    struct cursor_entry *others; /* owned; of the cursor, and not archived */
    size_t n_others;
    struct buf group, cursor, message;
    uint64_t left;       /* of the limit; UINT64_MAX: none */
    size_t since_cursor; /* bytes written */
    bool cursor_due;
    bool over;       /* the limit is reached */
    bool left_alone; /* nobody wants any more */
};

/* --- the cursor --- */

static struct merged *find(const struct merge *m, const char *id)
{
    for (size_t i = 0; i < m->n; i++)
        if (strcmp(m->list[i].name.command_id, id) == 0)
            return &m->list[i];
    return NULL;
}

static bool take_entry(void *arg, const struct cursor_entry *e)
{
    struct merge *m = arg;
    struct merged *c = find(m, e->id);

    if (c != NULL) {
        c->at = *e;
        c->done = e->closed;
        return true;
    }
    m->others = xrealloc(m->others, (m->n_others + 1) * sizeof(m->others[0]));
    m->others[m->n_others++] = *e;
    return true;
}

static void make_cursor(struct merge *m)
{
    buf_clear(&m->cursor);
    for (size_t i = 0; i < m->n_others; i++)
        cursor_add(&m->cursor, &m->others[i]);
    for (size_t i = 0; i < m->n; i++)
        if (m->list[i].at.last_seq > 0)
            cursor_add(&m->cursor, &m->list[i].at);
}

/* --- writing --- */

static void write_out(struct merge *m, const struct buf *b)
{
    if (!m->left_alone)
        m->left_alone = !m->to->write(m->to, buf_data(b), buf_len(b));
}

/* One message: the events in group, whose command is c (NULL: none), and where to go on. */
static void write_message(struct merge *m, const struct merged *c, bool at_rest)
{
    uint8_t header[1 + PB_VARINT_MAX] = {JOURNAL_TAG};
    AUTO(buf_deinit) struct buf frame = BUF_INIT(MESSAGE_MAX + sizeof(header));

    make_cursor(m);
    buf_clear(&m->message);
    buf_append(&m->message, buf_data(&m->group), buf_len(&m->group));
    m->since_cursor += buf_len(&m->group);
    buf_clear(&m->group);
    if (c != NULL) {
        pb_add_uint(&m->message, 2, c->at.last_seq);
        pb_add_bytes(&m->message, 3, c->at.id, strlen(c->at.id));
    }
    m->cursor_due =
        !at_rest && buf_len(&m->cursor) > SMALL_CURSOR && m->since_cursor < CURSOR_EVERY;
    if (!m->cursor_due) {
        pb_add_bytes(&m->message, 4, buf_data(&m->cursor), buf_len(&m->cursor));
        m->since_cursor = 0;
    }
    buf_append(&frame, header, (size_t)(pb_put_varint(header + 1, buf_len(&m->message)) - header));
    buf_append(&frame, buf_data(&m->message), buf_len(&m->message));
    write_out(m, &frame);
}

static void write_end(struct merge *m)
{
    static const uint8_t end[] = {FOLLOW_MARK_END, 1};

    buf_clear(&m->group);
    buf_append(&m->group, end, sizeof(end));
    write_out(m, &m->group);
}

/* --- pieces in memory --- */

static bool is_loaded(const struct merged *c)
{
    return c->open && c->a.loaded != SIZE_MAX;
}

/* The one whose turn comes last gives its piece back. */
static void make_room(struct merge *m, const struct merged *but)
{
    struct merged *latest = NULL;
    size_t n = 0;

    for (size_t i = m->first; i < m->n_open; i++) {
        struct merged *c = &m->list[i];

        if (c == but || !is_loaded(c))
            continue;
        n++;
        if (latest == NULL || c->next.time_ns > latest->next.time_ns)
            latest = c;
    }
    if (n < LOADED_MAX)
        return;
    archived_unload(&latest->a);
    latest->stale = latest->has_next;
}

/* --- reading --- */

static void finish(struct merged *c, bool closed)
{
    c->done = true;
    c->at.closed = closed;
    c->has_next = false;
    if (c->open) {
        archived_deinit(&c->a);
        view_deinit(&c->view);
    }
    c->open = false;
}

/* Reads ahead. */
static bool read_next(struct merge *m, struct merged *c, struct status *st)
{
    c->has_next = c->stale = false;
    if (c->view.closed || c->view.over) {
        finish(c, c->view.closed);
        return true;
    }
    if (!is_loaded(c))
        make_room(m, c);
    switch (archived_next(&c->a, &c->next)) {
    case ARCHIVED_EVENT:
        c->has_next = true;
        return true;
    case ARCHIVED_END:
        if (c->a.record->cut_short)
            return record_cut_short(c->name.command_id, c->view.seen, st);
        finish(c, false);
        return true;
    case ARCHIVED_FAILED:
        break;
    }
    *st = c->a.st;
    return false;
}

static bool open_one(struct merge *m, struct merged *c, struct status *st)
{
    size_t start;

    if (c->done)
        return true;
    make_room(m, c);
    c->open = archived_open(&c->a, m->p, &c->name, st);
    if (!c->open) {
        archived_deinit(&c->a);
        return false;
    }
    view_init(&c->view, &m->view, c->at.last_seq + 1, VIEW_FORMAT_NOW);
    start = archived_start(&c->a, c->view.from);
    if (start < c->a.parts.n)
        view_look_back(&c->view, &c->a.parts, start);
    return read_next(m, c, st);
}

static struct merged *earliest(const struct merge *m, const struct merged *but)
{
    struct merged *first = NULL;

    for (size_t i = m->first; i < m->n_open; i++) {
        struct merged *c = &m->list[i];

        if (c != but && c->has_next && (first == NULL || c->next.time_ns < first->next.time_ns))
            first = c;
    }
    return first;
}

/* When the next command that was not opened yet began. */
static int64_t next_start_ns(const struct merge *m)
{
    return m->n_open < m->n ? m->list[m->n_open].name.start_ns : INT64_MAX;
}

/* *ret: the command whose event is the next of all; NULL: there is none. */
static bool find_first(struct merge *m, struct merged **ret, struct status *st)
{
    for (;;) {
        while (m->first < m->n_open && m->list[m->first].done)
            m->first++;
        *ret = earliest(m, NULL);
        if (m->n_open == m->n || (*ret != NULL && (*ret)->next.time_ns < next_start_ns(m)))
            return true;
        m->n_open++;
        if (!open_one(m, &m->list[m->n_open - 1], st))
            return false;
    }
}

/* Takes what was read ahead of a command into the group. */
static bool take_next(struct merge *m, struct merged *c, struct status *st)
{
    uint64_t before = c->view.output, n;

    if (c->stale)
        make_room(m, c);
    if (c->stale && !archived_again(&c->a, &c->next)) {
        *st = c->a.st;
        return st->code != CODE_OK ? false : record_corrupt(c->name.command_id, st);
    }
    c->stale = false;
    if (!view_take(&c->view, &c->next, archived_frame(&c->a), c->a.frame_len, &m->group))
        return record_corrupt(c->name.command_id, st);
    c->at.last_seq = c->view.seen;
    c->at.closed = c->view.closed;
    n = c->view.output - before;
    if (m->left != UINT64_MAX)
        m->left = n < m->left ? m->left - n : 0;
    m->over |= m->left == 0;
    return true;
}

/* The earliest event, and those of its command that are earlier than all others'. */
static bool write_group(struct merge *m, struct merged *c, struct status *st)
{
    const struct merged *other = earliest(m, c);
    int64_t until_ns = next_start_ns(m);

    if (other != NULL && other->next.time_ns < until_ns)
        until_ns = other->next.time_ns;
    do {
        if (!take_next(m, c, st) || !read_next(m, c, st))
            return false;
    } while (!m->over && c->has_next && c->next.time_ns <= until_ns &&
             buf_len(&m->group) < GROUP_BYTES);
    if (buf_len(&m->group) > 0)
        write_message(m, c, false);
    else
        m->cursor_due = true; /* all of it was left out */
    return true;
}

/* --- the whole --- */

static bool start(struct merge *m, struct status *st)
{
    AUTO_FREE struct record_name *names = NULL;

    if (!archived_names(m->p, &names, &m->n, st))
        return false;
    if (m->n == 0)
        return read_nothing(m->p->sandbox_id, st);
    m->list = xcalloc(m->n, sizeof(m->list[0]));
    for (size_t i = 0; i < m->n; i++) {
        m->list[i].name = names[i];
        strcpy(m->list[i].at.id, names[i].command_id);
    }
    return cursor_read(m->o->cursor, m->o->cursor_len, take_entry, m) ||
           status_bad_field(st, SANDBOX__V1__ERROR_REASON__ERROR_REASON_INVALID_FIELD, "cursor",
                            "cursor is not one that this method returned");
}

static bool run(struct merge *m, struct status *st)
{
    struct merged *c;

    if (!start(m, st))
        return false;
    while (!m->over && !m->left_alone) {
        if (!find_first(m, &c, st))
            return false;
        if (c == NULL)
            break;
        if (!write_group(m, c, st))
            return false;
    }
    return true;
}

/* What was read before it failed was written; how far that is, too. */
static bool end(struct merge *m, bool ok, struct status *st)
{
    if (m->cursor_due)
        write_message(m, NULL, true);
    if (!ok)
        return false;
    if (!m->over && m->o->until != ARCHIVE_NOW)
        return status_set(
            st, CODE_NOT_FOUND, SANDBOX__V1__ERROR_REASON__ERROR_REASON_SANDBOX_NOT_FOUND,
            "sandbox %s is gone: this is all that its commands wrote", m->p->sandbox_id);
    write_end(m);
    return true;
}

bool read_all(const struct archived_place *p, const struct archive_view *o, struct read_sink *to,
              struct status *st)
{
    struct merge m = {
        .p = p,
        .o = o,
        .view = o->view,
        .to = to,
        .group = BUF_INIT(GROUP_MAX),
        .cursor = BUF_INIT(CURSOR_MAX),
        .message = BUF_INIT(MESSAGE_MAX),
        .left = o->view.limit_bytes != 0 ? o->view.limit_bytes : UINT64_MAX,
    };
    bool ok;

    m.view.limit_bytes = 0;
    ok = end(&m, run(&m, st), st);
    for (size_t i = 0; i < m.n && m.list != NULL; i++)
        finish(&m.list[i], false);
    free(m.list);
    free(m.others);
    buf_deinit(&m.group);
    buf_deinit(&m.cursor);
    buf_deinit(&m.message);
    return ok;
}
