/*
 * See follower.h. It reads the segments themselves; the writer is only asked to tell when there is
 * more. Frames go out as they are, in runs as long as what one read brought (BYTES), or one by one
 * through text.c.
 *
 * At the end of what a segment has, the next event is in one of three places: in a segment whose
 * name it gives (rotated), in this segment a moment later (live), or nowhere any more (dropped).
 * The last is certain only when a later segment exists and this one, looked at again after that was
 * seen, still has no more.
 */
#include "runtime/recorder/follower.h"

#include "common/base/buf.h"
#include "common/base/cleanup.h"
#include "common/base/clock.h"
#include "runtime/recorder/control.h"
#include "runtime/recorder/fault.h"
#include "runtime/recorder/gone.h"
#include "runtime/recorder/lost.h"
#include "runtime/recorder/meta.h"
#include "runtime/recorder/output.h"
#include "runtime/recorder/segments.h"
#include "runtime/recorder/text.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { REPORT_MS = 100, RETRY_US = 2000, TEXT_RUN_MAX = 8 * JOURNAL_FRAME_MAX };

struct follower {
    int dir; /* borrowed */
    const struct follow_options *o;
    struct output out;
    int control; /* owned; -1: no writer to talk to */

    int fd;                   /* owned; the segment that is read; -1: none yet */
    struct segment_walk walk; /* of fd */
    uint64_t segment_first;
    uint64_t next_seq; /* the next event of the journal */
    uint64_t bytes;    /* of output before it */
    bool bytes_known;
    int64_t last_ns; /* of the event before it */
    struct journal_check check;

    const uint8_t *run; /* frames that are to be written, in the walk's buffer */
    size_t run_len;
    struct buf text_run;
    struct text text;

    struct segment stop; /* FOLLOW_NOW: what was recorded at the start */
    bool settled;        /* no writer, and the journal has its end */
    bool woken;          /* the writer said there was more; it was not found yet */
    bool looked_again;   /* a later segment is there, and this one was read to its end since */
    bool done;
    int64_t reported_ns;
};

/* --- telling the writer --- */

static void report(struct follower *f, uint32_t kind, uint32_t flags)
{
    struct control_message m = {.kind = kind, .flags = flags, .seq = f->next_seq};

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

/* Before the walk's buffer changes, and before waiting. */
static void flush(struct follower *f)
{
    write_out(f, f->run, f->run_len);
    f->run_len = 0;
    write_out(f, buf_data(&f->text_run), buf_len(&f->text_run));
    buf_clear(&f->text_run);
}

static void write_frame(struct follower *f, const uint8_t *frame, size_t len)
{
    flush(f);
    write_out(f, frame, len);
}

static bool corrupt(struct status *st)
{
    return fault(st, RECORDER_DATA_LOSS, "the journal does not hold together");
}

/* Queues the frame that the walk has just passed. */
static bool emit(struct follower *f, const struct journal_event *e, struct status *st)
{
    if (!journal_check_next(&f->check, e))
        return corrupt(st);
    if (f->o->text && event_is_output(e)) {
        uint8_t *to = buf_reserve(&f->text_run, JOURNAL_FRAME_MAX);
        size_t len = text_encode(&f->text, e, to);

        if (len == 0)
            return corrupt(st);
        buf_commit(&f->text_run, len);
        if (buf_room(&f->text_run) < JOURNAL_FRAME_MAX)
            flush(f);
        return true;
    }
    if (f->o->text) {
        write_frame(f, f->walk.frame, f->walk.frame_len);
        return true;
    }
    if (f->run_len == 0)
        f->run = f->walk.frame;
    f->run_len += f->walk.frame_len;
    return true;
}

static void write_dropped(struct follower *f, uint64_t first, uint64_t last, uint64_t bytes)
{
    uint8_t frame[256];

    if (first > last)
        return;
    f->check.last_seq = last;
    write_frame(f, frame, journal_encode_dropped(frame, f->last_ns, first, last, bytes));
}

static uint64_t missing(uint64_t from, uint64_t to)
{
    return to > from ? to - from : 0;
}

/*
 * The events up to where s starts are gone. How the command ended is always said: that event was
 * put aside, and what was around it is told in two parts.
 */
static void skip_to(struct follower *f, const struct segment *s)
{
    uint64_t first = f->next_seq > f->o->from ? f->next_seq : f->o->from, bytes = f->bytes;
    struct end_record end;

    if (first > f->next_seq || !f->bytes_known)
        gone_bytes_before(f->dir, first, &bytes);
    if (first < s->first_seq && end_read(f->dir, &end) && end.exited_seq >= first &&
        end.exited_seq < s->first_seq) {
        write_dropped(f, first, end.exited_seq - 1, missing(bytes, end.bytes_before));
        write_frame(f, end.exited, end.exited_len);
        f->last_ns = end.exited_ns;
        f->check.last_seq = end.exited_seq;
        f->check.exited = true;
        f->done |= f->o->until == FOLLOW_EXITED;
        bytes = end.bytes_before;
        first = end.exited_seq + 1;
    }
    if (!f->done && first < s->first_seq)
        write_dropped(f, first, s->first_seq - 1, missing(bytes, s->bytes_before));
    f->next_seq = s->first_seq;
    f->bytes = s->bytes_before;
    f->bytes_known = true;
}

/* --- finding --- */

/* Goes on in s. False: it is not there. */
static bool enter(struct follower *f, const struct segment *s)
{
    int fd = segment_open(f->dir, s, O_RDONLY);

    if (fd < 0)
        return false;
    flush(f);
    cleanup_close(&f->fd);
    segment_walk_deinit(&f->walk);
    f->fd = fd;
    segment_walk_init(&f->walk, fd, 0);
    f->segment_first = s->first_seq;
    f->looked_again = false;
    f->woken = false;
    report(f, CONTROL_POSITION, 0);
    return true;
}

static bool enter_next(struct follower *f)
{
    struct segment next = {.first_seq = f->next_seq, .bytes_before = f->bytes};

    return f->bytes_known && f->next_seq != f->segment_first && enter(f, &next);
}

/* The oldest segment behind the one that is read. */
static const struct segment *later_segment(const struct follower *f, const struct segments *s)
{
    for (size_t i = 0; i < s->n; i++)
        if (f->fd < 0 || s->list[i].first_seq > f->segment_first)
            return &s->list[i];
    return NULL;
}

/* Tries a later segment. True: something was done, read on. */
static bool enter_later(struct follower *f)
{
    AUTO(segments_deinit) struct segments s = {0};
    const struct segment *later;

    segments_list(f->dir, &s);
    later = later_segment(f, &s);
    if (later == NULL)
        return false;
    if (f->fd >= 0 && !f->looked_again && later->first_seq != f->next_seq)
        return f->looked_again = true;
    if (later->first_seq > f->next_seq) {
        skip_to(f, later);
    } else { /* it appeared after start() had looked */
        f->next_seq = later->first_seq;
        f->bytes = later->bytes_before;
        f->bytes_known = true;
    }
    if (!f->done)
        enter(f, later); /* if it went meanwhile, the next round finds the one after it */
    return true;
}

/* The first segment: the one that holds `from`, or that comes next. */
static void start(struct follower *f)
{
    AUTO(segments_deinit) struct segments s = {0};
    const struct segment *found;

    segments_list(f->dir, &s);
    if (s.n > 0)
        f->stop = s.list[s.n - 1];
    found = segments_find(&s, f->o->from);
    if (found == NULL)
        return; /* nothing yet, or all of it is later: as after any other segment */
    f->next_seq = found->first_seq;
    f->bytes = found->bytes_before;
    f->bytes_known = true;
    if (f->o->text)
        text_look_back(&f->text, f->dir, &s, (size_t)(found - s.list));
    if (enter(f, found))
        return;
    f->next_seq = f->o->from; /* it went meanwhile */
    f->bytes_known = f->o->from == 1;
    f->bytes = 0;
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

static bool wait_for_more(struct follower *f, struct status *st)
{
    static struct control_packet packet;
    struct pollfd polls[2] = {{.fd = f->control, .events = POLLIN}, {.fd = f->out.fd}};

    flush(f);
    if (f->done)
        return true;
    if (f->control < 0)
        return wait_without_writer(f, st);
    report(f, CONTROL_WAIT, 0);
    while (poll(polls, 2, -1) < 0 && errno == EINTR) {
    }
    if ((polls[1].revents & (POLLERR | POLLHUP | POLLNVAL)) != 0) {
        f->done = true; /* the reader is gone */
        return true;
    }
    if (control_receive(f->control, &packet, MSG_DONTWAIT) == 0)
        disconnect(f);
    else
        f->woken = true;
    return true;
}

/* --- reading --- */

/* One event of the journal: wanted, or passed over on the way to `from`. */
static bool take(struct follower *f, const struct journal_event *e, struct status *st)
{
    uint64_t first = e->kind == JOURNAL_DROPPED ? e->dropped_first : e->seq;

    if (first != f->next_seq || e->seq == UINT64_MAX)
        return corrupt(st);
    f->looked_again = false;
    f->woken = false;
    if (e->seq >= f->o->from) {
        if (!emit(f, e, st))
            return false;
    } else {
        f->check.exited |= e->kind == JOURNAL_EXITED;
        f->check.closed |= e->kind == JOURNAL_CLOSED;
        if (event_is_output(e))
            text_skip(&f->text, e);
    }
    f->next_seq = e->seq + 1;
    f->bytes += event_bytes(e);
    f->last_ns = e->time_ns;
    f->done |= f->check.closed || (f->check.exited && f->o->until == FOLLOW_EXITED);
    return true;
}

/* All that was recorded when it began is written. */
static bool is_past_stop(const struct follower *f)
{
    if (f->o->until != FOLLOW_NOW)
        return false;
    return f->stop.first_seq == 0 || f->segment_first > f->stop.first_seq ||
           (f->segment_first == f->stop.first_seq && f->walk.at >= f->stop.size);
}

static bool at_end_of_segment(struct follower *f, struct status *st)
{
    flush(f);
    if (f->done || enter_next(f))
        return true;
    if ((f->fd < 0 || f->woken || f->looked_again || f->control < 0 || f->o->until == FOLLOW_NOW) &&
        enter_later(f))
        return true;
    if (f->o->until == FOLLOW_NOW || (f->settled && f->looked_again))
        f->done = true;
    else if (f->settled)
        f->looked_again = true;
    else
        return wait_for_more(f, st);
    return true;
}

static bool read_on(struct follower *f, struct status *st)
{
    struct journal_event e;
    enum journal_result result = JOURNAL_PARTIAL;

    if (is_past_stop(f)) {
        f->done = true;
        return true;
    }
    if (f->fd >= 0) {
        result = segment_walk_buffered(&f->walk, &e);
        if (result == JOURNAL_PARTIAL) {
            flush(f);
            result = segment_walk_next(&f->walk, &e);
        }
    }
    switch (result) {
    case JOURNAL_FRAME:
        return take(f, &e, st);
    case JOURNAL_PARTIAL:
        return at_end_of_segment(f, st);
    case JOURNAL_CORRUPT:
        break;
    }
    return corrupt(st);
}

/* Until `exited`, and that was before what is wanted: there is nothing to write. */
static bool is_over(const struct follower *f)
{
    struct end_record end;

    return f->o->until == FOLLOW_EXITED && end_read(f->dir, &end) && end.exited_seq < f->o->from;
}

bool follow(int dir, const struct follow_options *o, struct status *st)
{
    AUTO(meta_deinit) struct meta m = {0};
    struct follower f = {.dir = dir,
                         .o = o,
                         .fd = -1,
                         .control = -1,
                         .next_seq = o->from,
                         .bytes_known = o->from == 1,
                         .check = {.last_seq = o->from - 1},
                         .text_run = BUF_INIT(TEXT_RUN_MAX)};
    bool ok = true;

    if (!meta_read(dir, &m, st))
        return false;
    if (m.format > META_FORMAT)
        return fault(st, RECORDER_INTERNAL, "the command was recorded by a newer recorder");
    signal(SIGPIPE, SIG_IGN);
    f.last_ns = m.start_ns;
    output_init(&f.out, STDOUT_FILENO);
    if (lost_settle(dir, st) == SETTLE_ALIVE)
        attach(&f);
    start(&f);
    f.done = is_over(&f);
    while (ok && !f.done)
        ok = read_on(&f, st);
    flush(&f);
    disconnect(&f);
    cleanup_close(&f.fd);
    segment_walk_deinit(&f.walk);
    buf_deinit(&f.text_run);
    output_deinit(&f.out);
    return ok;
}
