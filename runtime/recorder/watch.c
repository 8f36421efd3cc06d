/*
 * See watch.h. Of every command that is open the next event is read ahead; the one recorded first
 * goes out, with what follows it of the same command and is older than all others'. When nothing is
 * left to read, the writers are asked to tell when there is more, and new commands are looked for.
 */
#include "runtime/recorder/watch.h"

#include "common/base/cleanup.h"
#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/journal/pb.h"
#include "common/journal/verbs.h"
#include "runtime/recorder/control.h"
#include "runtime/recorder/fault.h"
#include "runtime/recorder/lost.h"
#include "runtime/recorder/output.h"
#include "runtime/recorder/spec.h"
#include "runtime/recorder/watched.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>

enum {
    GROUP_BYTES = 48 * 1024, /* of events in one message, or one event */
    GROUP_MAX = GROUP_BYTES + VIEW_ROOM + 256,
    MESSAGE_MAX = GROUP_MAX + CURSOR_MAX + 256,
    SMALL_CURSOR = 4 * 1024, /* in every message; a larger one only now and then */
    CURSOR_EVERY_MS = 250,
    LOOK_EVERY_MS = 100, /* for new commands, and for writers that are gone */
    REPORT_MS = 100,
};

struct watcher {
    const struct watch_options *o;
    struct view_options view; /* without the limit */
    struct watched_set set;
    struct output out;
    struct buf group, cursor, message;
    uint64_t left;       /* of the limit; UINT64_MAX: none */
    int64_t cursor_ns;   /* when one was written; monotonic */
    int64_t reported_ns; /* when the writers were told how far we are; monotonic */
    bool cursor_due;     /* something was written since */
    bool done;
};

/* --- the writers of commands --- */

static void tell(struct watched *c, uint32_t kind, uint32_t flags)
{
    struct control_message m = {.kind = kind, .flags = flags, .seq = c->reader.next_seq};

    if (c->control >= 0)
        control_send(c->control, &m, NULL, MSG_DONTWAIT);
}

/* The reader goes on: so it is with all commands, which wait for it if they have to. */
static void on_moved(void *arg)
{
    struct watcher *w = arg;
    int64_t now = clock_monotonic_ns();

    if (now - w->reported_ns < REPORT_MS * NS_PER_MS)
        return;
    w->reported_ns = now;
    LIST_FOR_EACH (node, &w->set.all) {
        tell(container_of(node, struct watched, link), CONTROL_POSITION, 0);
    }
}

static void disconnect(struct watched *c)
{
    cleanup_close(&c->control);
    c->control = -1;
    c->waiting = false;
    c->ready = true;
}

/* --- writing --- */

static void write_out(struct watcher *w, const struct buf *b)
{
    if (!output_write(&w->out, buf_data(b), buf_len(b), on_moved, w))
        w->done = true;
}

static bool wants_cursor(const struct watcher *w, bool at_rest)
{
    return at_rest || buf_len(&w->cursor) <= SMALL_CURSOR ||
           clock_monotonic_ns() - w->cursor_ns >= CURSOR_EVERY_MS * NS_PER_MS;
}

/* One message: the events in group, whose command is c (NULL: none), and where to go on. */
static void write_message(struct watcher *w, const struct watched *c, bool at_rest)
{
    uint8_t header[1 + PB_VARINT_MAX] = {JOURNAL_TAG};
    AUTO(buf_deinit) struct buf frame = BUF_INIT(MESSAGE_MAX + sizeof(header));

    buf_clear(&w->cursor);
    watched_add_cursor(&w->set, &w->cursor);
    buf_clear(&w->message);
    buf_append(&w->message, buf_data(&w->group), buf_len(&w->group));
    buf_clear(&w->group);
    if (c != NULL) {
        pb_add_uint(&w->message, 2, c->last_seq);
        pb_add_bytes(&w->message, 3, c->id, strlen(c->id));
    }
    w->cursor_due = !wants_cursor(w, at_rest);
    if (!w->cursor_due) {
        pb_add_bytes(&w->message, 4, buf_data(&w->cursor), buf_len(&w->cursor));
        w->cursor_ns = clock_monotonic_ns();
    }
    buf_append(&frame, header, (size_t)(pb_put_varint(header + 1, buf_len(&w->message)) - header));
    buf_append(&frame, buf_data(&w->message), buf_len(&w->message));
    write_out(w, &frame);
}

static bool corrupt(const struct watched *c, struct status *st)
{
    return fault(st, RECORDER_DATA_LOSS, "the journal of command %s does not hold together", c->id);
}

/* --- reading --- */

/* No writer, or none any more: sees to the journal's end, and reads once more. */
static bool settle(struct watched *c, struct status *st)
{
    switch (lost_settle(c->dir, st)) {
    case SETTLE_FAILED:
        return false;
    case SETTLE_ENDED:
        c->settled = c->ready = true;
        break;
    case SETTLE_ALIVE:
        c->control = control_connect(c->dir);
        c->ready = c->control >= 0;
        tell(c, CONTROL_ATTACH, CONTROL_PROGRESS);
        break;
    }
    return true;
}

/* There is nothing more of it for now. */
static bool at_end(struct watcher *w, struct watched *c, struct status *st)
{
    c->ready = false;
    if (c->final) {
        watched_finish(&w->set, c, true);
        return true;
    }
    if (c->settled) {
        c->final = c->ready = true;
        return true;
    }
    if (c->control < 0)
        return settle(c, st);
    c->waiting = w->o->follow;
    if (w->o->follow)
        tell(c, CONTROL_WAIT, 0);
    return true;
}

/* Reads ahead. */
static bool read_next(struct watcher *w, struct watched *c, struct status *st)
{
    if (c->view.closed || c->view.over || (!w->o->follow && reader_is_past_start(&c->reader))) {
        watched_finish(&w->set, c, c->view.closed);
        return true;
    }
    switch (reader_next(&c->reader, true, &c->next)) {
    case READER_EVENT:
        c->has_next = true;
        return true;
    case READER_NOTHING:
        return at_end(w, c, st);
    case READER_CORRUPT:
        break;
    }
    return corrupt(c, st);
}

/* What is to be read is read ahead: of commands that are open, or began at this time or before. */
static bool read_ahead(struct watcher *w, int64_t until_ns, struct status *st)
{
    LIST_FOR_EACH_SAFE (node, &w->set.all) {
        struct watched *c = container_of(node, struct watched, link);

        if (c->done || c->start_ns == 0 || (c->dir < 0 && c->start_ns > until_ns))
            continue;
        while (!c->done && !c->has_next && c->ready && watched_open(&w->set, c))
            if (!read_next(w, c, st))
                return false;
    }
    return true;
}

static struct watched *earliest(const struct watcher *w, const struct watched *but)
{
    struct watched *first = NULL;

    LIST_FOR_EACH (node, &w->set.all) {
        struct watched *c = container_of(node, struct watched, link);

        if (c != but && c->has_next && (first == NULL || c->next.time_ns < first->next.time_ns))
            first = c;
    }
    return first;
}

/* When the next command that is not open yet began. */
static int64_t next_start_ns(const struct watcher *w)
{
    int64_t ns = INT64_MAX;

    LIST_FOR_EACH (node, &w->set.all) {
        const struct watched *c = container_of(node, struct watched, link);

        if (!c->done && c->ready && c->dir < 0 && c->start_ns != 0 && c->start_ns < ns)
            ns = c->start_ns;
    }
    return ns;
}

/* Takes what was read ahead of a command into the group. */
static bool take_next(struct watcher *w, struct watched *c, struct status *st)
{
    uint64_t before = c->view.output;

    c->has_next = false;
    if (!view_take(&c->view, &c->next, c->reader.frame, c->reader.frame_len, &w->group))
        return corrupt(c, st);
    c->last_seq = c->view.seen;
    if (w->left != UINT64_MAX) {
        uint64_t n = c->view.output - before;

        w->left = n < w->left ? w->left - n : 0;
        w->done |= w->left == 0;
    }
    return true;
}

/* The earliest event, and those of its command that are earlier than all others'. */
static bool write_group(struct watcher *w, struct watched *c, struct status *st)
{
    const struct watched *other = earliest(w, c);
    int64_t until_ns = next_start_ns(w);

    if (other != NULL && other->next.time_ns < until_ns)
        until_ns = other->next.time_ns;
    do {
        if (!take_next(w, c, st))
            return false;
        while (!c->done && !c->has_next && c->ready && buf_len(&w->group) < GROUP_BYTES)
            if (!read_next(w, c, st))
                return false;
    } while (!w->done && c->has_next && c->next.time_ns <= until_ns &&
             buf_len(&w->group) < GROUP_BYTES);
    if (buf_len(&w->group) > 0)
        write_message(w, c, false);
    else
        w->cursor_due = true; /* all of it was left out */
    return true;
}

/* --- waiting --- */

static int patience_ms(const struct watcher *w)
{
    int64_t left_ms = (w->view.before_ns - clock_wall_ns()) / NS_PER_MS + 1;

    return w->view.before_ns != 0 && left_ms < LOOK_EVERY_MS ? (left_ms > 0 ? (int)left_ms : 0)
                                                             : LOOK_EVERY_MS;
}

static void take_wake(struct watched *c)
{
    static struct control_packet packet;

    if (control_receive(c->control, &packet, MSG_DONTWAIT) == 0)
        disconnect(c);
    c->waiting = false;
    c->ready = true;
}

/* Until a writer has more, is gone, or it is time to look for new commands. */
static void wait_for_more(struct watcher *w)
{
    size_t n = 1;
    AUTO_FREE struct pollfd *polls = NULL;
    AUTO_FREE struct watched **of = NULL;

    LIST_FOR_EACH (node, &w->set.all) {
        n += container_of(node, struct watched, link)->control >= 0;
    }
    polls = xcalloc(n, sizeof(*polls));
    of = xcalloc(n, sizeof(struct watched *));
    polls[0].fd = w->out.fd;
    n = 1;
    LIST_FOR_EACH (node, &w->set.all) {
        struct watched *c = container_of(node, struct watched, link);

        if (c->control < 0)
            continue;
        of[n] = c;
        polls[n++] = (struct pollfd){.fd = c->control, .events = POLLIN};
    }
    if (poll(polls, n, patience_ms(w)) > 0 &&
        (polls[0].revents & (POLLERR | POLLHUP | POLLNVAL)) != 0)
        w->done = w->out.gone = true;
    for (size_t i = 1; i < n; i++)
        if (polls[i].revents != 0)
            take_wake(of[i]);
    LIST_FOR_EACH (node, &w->set.all) {
        struct watched *c = container_of(node, struct watched, link);

        c->ready |= !c->done && c->control < 0; /* a writer that is starting, or was */
    }
}

/* --- the whole --- */

static bool is_past_end(const struct watcher *w)
{
    return w->view.before_ns != 0 && clock_wall_ns() >= w->view.before_ns;
}

/* Nothing is left to read. */
static void rest(struct watcher *w)
{
    if (watched_retry(&w->set))
        return;
    if (w->cursor_due)
        write_message(w, NULL, true);
    if (!w->o->follow || is_past_end(w)) {
        w->done = true;
        return;
    }
    wait_for_more(w);
    watched_refresh(&w->set);
}

static bool step(struct watcher *w, struct status *st)
{
    int64_t start_ns = INT64_MIN; /* only what is open */
    struct watched *first;

    if (w->set.newer)
        return fault(st, RECORDER_NEWER, "a command was recorded by a newer recorder");
    /* A command may be left unopened only while everything to be written is older than it. */
    do {
        if (!read_ahead(w, start_ns, st))
            return false;
        first = earliest(w, NULL);
        start_ns = next_start_ns(w);
    } while (start_ns != INT64_MAX && (first == NULL || first->next.time_ns >= start_ns));
    if (first != NULL)
        return write_group(w, first, st);
    rest(w);
    return true;
}

static void raise_descriptors(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

static void write_end(struct watcher *w)
{
    static const uint8_t end[] = {FOLLOW_MARK_END, 1};

    buf_clear(&w->group);
    buf_append(&w->group, end, sizeof(end));
    write_out(w, &w->group);
}

bool watch(const struct state *s, const struct watch_options *o, const struct buf *cursor,
           struct status *st)
{
    struct watcher w = {
        .o = o,
        .view = o->view,
        .group = BUF_INIT(GROUP_MAX),
        .cursor = BUF_INIT(CURSOR_MAX),
        .message = BUF_INIT(MESSAGE_MAX),
        .left = o->view.limit_bytes != 0 ? o->view.limit_bytes : UINT64_MAX,
    };
    bool ok;

    signal(SIGPIPE, SIG_IGN);
    raise_descriptors();
    w.view.limit_bytes = 0;
    watched_init(&w.set, s, &w.view);
    output_init(&w.out, STDOUT_FILENO);
    ok = watched_set_cursor(&w.set, cursor) ||
         fault(st, RECORDER_BAD_SPEC, "the cursor is none that a watcher made");
    if (ok)
        watched_refresh(&w.set);
    while (ok && !w.done)
        ok = step(&w, st);
    if (ok && w.cursor_due && !w.out.gone)
        write_message(&w, NULL, true);
    if (ok && !w.out.gone)
        write_end(&w);
    watched_deinit(&w.set);
    buf_deinit(&w.group);
    buf_deinit(&w.cursor);
    buf_deinit(&w.message);
    output_deinit(&w.out);
    return ok;
}
