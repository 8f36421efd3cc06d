/*
 * See follower.h. It reads the segments themselves; the writer is only asked to tell when there is
 * more. Frames go out as they are, in runs as long as what one read brought, or one by one through
 * view.c where the reader wants less, or something else, than what is recorded.
 */
#include "runtime/recorder/follower.h"

#include "common/base/buf.h"
#include "common/base/cleanup.h"
#include "common/base/clock.h"
#include "common/journal/verbs.h"
#include "runtime/recorder/control.h"
#include "runtime/recorder/fault.h"
#include "runtime/recorder/lost.h"
#include "runtime/recorder/meta.h"
#include "runtime/recorder/output.h"
#include "runtime/recorder/reader.h"
#include "runtime/recorder/retention.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { REPORT_MS = 100, RETRY_US = 2000, MADE_MAX = 8 * JOURNAL_FRAME_MAX };

struct follower {
    int dir; /* borrowed */
    const struct follow_options *o;
    struct output out;
    int control; /* owned; -1: no writer to talk to */
    struct reader reader;
    struct view view;
    uint64_t reported_segment; /* the one that the writer knows is read */

    const uint8_t *run; /* frames that are to be written, in the reader's buffer */
    size_t run_len;
    struct buf made; /* the same, made by the view */

    bool settled; /* no writer, and the journal has its end */
    bool final;   /* and it was looked at once more since */
    bool woken;   /* the writer said there was more; it was not found yet */
    bool done;
    int64_t reported_ns;
};

/* --- telling the writer --- */

static void report(struct follower *f, uint32_t kind, uint32_t flags)
{
    struct control_message m = {.kind = kind, .flags = flags, .seq = f->reader.next_seq};

    f->reported_ns = clock_monotonic_ns();
    if (f->control >= 0)
        control_send(f->control, &m, NULL, MSG_DONTWAIT);
}

static void on_moved(void *arg)
{
    struct follower *f = arg;

    if (clock_monotonic_ns() - f->reported_ns >= REPORT_MS * NS_PER_MS)
        report(f, CONTROL_POSITION, 0);
}

static void disconnect(struct follower *f)
{
    cleanup_close(&f->control);
    f->control = -1;
}

static void attach(struct follower *f)
{
    f->control = control_connect(f->dir);
    report(f, CONTROL_ATTACH, f->o->progress ? CONTROL_PROGRESS : 0);
}

/* --- writing --- */

static void write_out(struct follower *f, const void *data, size_t len)
{
    if (!f->out.gone && len > 0 && !output_write(&f->out, data, len, on_moved, f))
        f->done = true;
}

/* Before the reader's buffer changes, and before waiting. */
static void flush(struct follower *f)
{
    write_out(f, f->run, f->run_len);
    f->run_len = 0;
    write_out(f, buf_data(&f->made), buf_len(&f->made));
    buf_clear(&f->made);
}

static bool corrupt(struct status *st)
{
    return fault(st, RECORDER_DATA_LOSS, "the journal does not hold together");
}

/* Queues the frame of an event that goes out as it is. */
static void pass(struct follower *f, const struct journal_event *e)
{
    const struct reader *r = &f->reader;

    if (buf_len(&f->made) > 0 || (f->run_len > 0 && f->run + f->run_len != r->frame))
        flush(f);
    if (f->run_len == 0)
        f->run = r->frame;
    f->run_len += r->frame_len;
    view_pass(&f->view, e);
}

static bool take(struct follower *f, const struct journal_event *e, struct status *st)
{
    f->woken = f->final = false;
    if (view_is_plain(&f->view) && e->seq >= f->view.from) {
        pass(f, e);
    } else {
        if (f->run_len > 0 || buf_room(&f->made) < VIEW_ROOM)
            flush(f);
        if (!view_take(&f->view, e, f->reader.frame, f->reader.frame_len, &f->made))
            return corrupt(st);
    }
    f->done |= f->view.over || f->view.closed || (f->view.exited && f->o->until == FOLLOW_EXITED);
    return true;
}

/* --- waiting --- */

/* Without a writer to wait for: sees to the journal's end, once. */
static bool wait_without_writer(struct follower *f, struct status *st)
{
    switch (lost_settle(f->dir, st)) {
    case SETTLE_FAILED:
        return false;
    case SETTLE_ENDED:
        f->settled = true; /* read once more what is there now */
        return true;
    case SETTLE_ALIVE:
        break;
    }
    attach(f);
    if (f->control < 0)
        usleep(RETRY_US);
    return true;
}

/* Until when to wait: what comes after the view's last moment is not wanted. -1: no end. */
static int patience_ms(const struct follower *f)
{
    int64_t left_ns = f->o->view.before_ns - clock_wall_ns();

    if (f->o->view.before_ns == 0)
        return -1;
    if (left_ns <= 0)
        return 0;
    return left_ns > 3600 * NS_PER_S ? 3600 * 1000 : (int)(left_ns / NS_PER_MS) + 1;
}

static bool wait_for_more(struct follower *f, struct status *st)
{
    static struct control_packet packet;
    struct pollfd polls[2] = {{.fd = f->control, .events = POLLIN}, {.fd = f->out.fd}};
    int n;

    view_mark(&f->view, &f->made);
    flush(f);
    if (f->done)
        return true;
    if (f->control < 0)
        return wait_without_writer(f, st);
    report(f, CONTROL_WAIT, 0);
    while ((n = poll(polls, 2, patience_ms(f))) < 0 && errno == EINTR) {
    }
    if (n == 0 && patience_ms(f) == 0) {
        f->done = true;
    } else if ((polls[1].revents & (POLLERR | POLLHUP | POLLNVAL)) != 0) {
        f->done = f->out.gone = true;
    } else if (n > 0 && control_receive(f->control, &packet, MSG_DONTWAIT) == 0) {
        disconnect(f);
    } else {
        f->woken = true;
    }
    return true;
}

/* --- reading --- */

static bool at_end(struct follower *f, struct status *st)
{
    if (f->o->until == FOLLOW_NOW || f->final)
        f->done = true;
    else if (f->settled)
        f->final = true;
    else
        return wait_for_more(f, st);
    return true;
}

static bool read_on(struct follower *f, struct status *st)
{
    bool suspect = f->woken || f->settled || f->control < 0 || f->o->until == FOLLOW_NOW;
    struct journal_event e;
    enum reader_step step;

    if (f->o->until == FOLLOW_NOW && reader_is_past_start(&f->reader)) {
        f->done = true;
        return true;
    }
    step = reader_buffered(&f->reader, &e);
    if (step == READER_NOTHING) {
        flush(f);
        if (f->done)
            return true;
        step = reader_next(&f->reader, suspect, &e);
        if (f->reader.segment_first != f->reported_segment) {
            f->reported_segment = f->reader.segment_first;
            report(f, CONTROL_POSITION, 0);
        }
    }
    switch (step) {
    case READER_EVENT:
        return take(f, &e, st);
    case READER_NOTHING:
        return at_end(f, st);
    case READER_CORRUPT:
        break;
    }
    return corrupt(st);
}

/* --- the whole --- */

/* Until `exited`, and that was before what is wanted: there is nothing to write. */
static bool is_over(const struct follower *f)
{
    struct end_record end;

    return f->o->until == FOLLOW_EXITED && end_read(f->dir, &end) && end.exited_seq < f->view.from;
}

static void find_start(struct follower *f, const struct meta *m)
{
    const struct follow_options *o = f->o;
    const struct tail_options tail = {
        .unit = o->tail,
        .amount = o->tail_amount,
        .streams = o->view.streams,
        .since_ns = o->view.since_ns,
        .before_ns = o->view.before_ns,
    };
    struct tail_place place = {.first_seq = 1};

    if (o->tail != TAIL_NONE)
        segments_tail(f->dir, &tail, &place);
    view_init(&f->view, &o->view, place.first_seq > o->from ? place.first_seq : o->from, m->format);
    if (o->tail != TAIL_NONE)
        f->view.tail = place;
    f->view.told = o->from - 1;
    reader_init(&f->reader, f->dir, f->view.from, m->start_ns);
    reader_look_back(&f->reader, &f->view);
}

/* Tells the reader that there is no more, and so that nothing was cut off. */
static void write_end(struct follower *f)
{
    static const uint8_t end[] = {FOLLOW_MARK_END, 1};

    view_mark(&f->view, &f->made);
    buf_append(&f->made, end, sizeof(end));
    flush(f);
}

static bool run(struct follower *f, struct status *st)
{
    bool ok = true;

    f->done = is_over(f);
    while (ok && !f->done)
        ok = read_on(f, st);
    flush(f);
    if (ok && !f->out.gone)
        write_end(f);
    return ok;
}

bool follow(int dir, const struct follow_options *o, struct status *st)
{
    AUTO(meta_deinit) struct meta m = {0};
    struct follower f = {.dir = dir, .o = o, .control = -1, .made = BUF_INIT(MADE_MAX)};
    bool ok;

    if (!meta_read(dir, &m, st))
        return false;
    if (m.format > META_FORMAT)
        return fault(st, RECORDER_NEWER, "it was recorded by a newer recorder");
    if (!o->attached && o->from == 1 && retention_is_expired(dir))
        return fault(st, RECORDER_EXPIRED,
                     "its output was removed; how it ended is still to be seen");
    signal(SIGPIPE, SIG_IGN);
    output_init(&f.out, STDOUT_FILENO);
    /* The writer holds back what is to be read before it is looked for; what a tail starts with is
     * not known yet. */
    f.reader.next_seq = o->tail == TAIL_NONE ? o->from : UINT64_MAX;
    if (lost_settle(dir, st) == SETTLE_ALIVE)
        attach(&f);
    find_start(&f, &m);
    ok = run(&f, st);
    disconnect(&f);
    reader_deinit(&f.reader);
    view_deinit(&f.view);
    buf_deinit(&f.made);
    output_deinit(&f.out);
    return ok;
}
