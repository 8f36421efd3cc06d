/*
 * See reader.h. Used by the followers of one command and of all.
 *
 * At the end of what a segment has, the next event is in one of three places: in a segment whose
 * name it gives (rotated), in this segment a moment later (live), or nowhere any more (dropped).
 * The last is certain only when a later segment exists and this one, looked at again after that was
 * seen, still has no more.
 */
#include "runtime/recorder/reader.h"

#include "common/base/cleanup.h"
#include "runtime/recorder/gone.h"
#include "runtime/recorder/meta.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

/* --- what is gone --- */

static uint8_t *add_made(struct reader *r, size_t len)
{
    r->made.len[r->made.n] = len;
    return r->made.frames[r->made.n++];
}

static void make_dropped(struct reader *r, int64_t time_ns, uint64_t first, uint64_t last,
                         uint64_t bytes)
{
    uint8_t frame[256];
    size_t len = journal_encode_dropped(frame, time_ns, first, last, bytes);

    if (first <= last)
        memcpy(add_made(r, len), frame, len);
}

static uint64_t missing(uint64_t from, uint64_t to)
{
    return to > from ? to - from : 0;
}

/*
 * The events up to where s starts are gone. How the command ended is always said: that event was
 * put aside, and what was around it is told in two parts.
 */
static void skip_to(struct reader *r, uint64_t next_seq, uint64_t bytes_before)
{
    uint64_t first = r->next_seq > r->from ? r->next_seq : r->from, bytes = r->bytes;
    struct end_record end;

    r->made = (struct reader_made){.n = 0};
    if (first > r->next_seq || !r->bytes_known)
        gone_bytes_before(r->dir, first, &bytes);
    if (first < next_seq && end_read(r->dir, &end) && end.exited_seq >= first &&
        end.exited_seq < next_seq) {
        make_dropped(r, r->last_ns, first, end.exited_seq - 1, missing(bytes, end.bytes_before));
        memcpy(add_made(r, end.exited_len), end.exited, end.exited_len);
        r->last_ns = end.exited_ns;
        bytes = end.bytes_before;
        first = end.exited_seq + 1;
    }
    make_dropped(r, r->last_ns, first, next_seq - 1, missing(bytes, bytes_before));
    r->next_seq = next_seq;
    r->bytes = bytes_before;
    r->bytes_known = true;
}

static bool next_made(struct reader *r, struct journal_event *ret)
{
    struct reader_made *m = &r->made;

    if (m->next >= m->n)
        return false;
    r->frame = m->frames[m->next];
    if (journal_parse(r->frame, m->len[m->next++], ret, &r->frame_len) != JOURNAL_FRAME)
        return false; /* not of our making: the end record is checked when it is read */
    return true;
}

/* --- finding --- */

/* Goes on in s. False: it is not there. */
static bool enter(struct reader *r, const struct segment *s)
{
    int fd = segment_open(r->dir, s, O_RDONLY);

    if (fd < 0)
        return false;
    cleanup_close(&r->fd);
    segment_walk_deinit(&r->walk);
    r->fd = fd;
    segment_walk_init(&r->walk, fd, 0);
    r->segment_first = s->first_seq;
    r->looked_again = false;
    return true;
}

static bool enter_next(struct reader *r)
{
    struct segment next = {.first_seq = r->next_seq, .bytes_before = r->bytes};

    return r->bytes_known && r->next_seq != r->segment_first && enter(r, &next);
}

/* The oldest segment behind the one that is read. */
static const struct segment *later_segment(const struct reader *r, const struct segments *s)
{
    for (size_t i = 0; i < s->n; i++)
        if (r->fd < 0 || s->list[i].first_seq > r->segment_first)
            return &s->list[i];
    return NULL;
}

/*
 * Nothing is left: the record was removed, while it was read or before. What is known of its end
 * stands for it. A writer never removes its newest segment, so this is no other case.
 */
static bool skip_to_end(struct reader *r)
{
    struct end_record end;

    if (!end_read(r->dir, &end) || end.last_seq < r->next_seq || end.last_seq < r->from)
        return false;
    skip_to(r, end.last_seq, end.bytes_total);
    r->next_seq = end.last_seq + 1;
    r->segment_first = end.last_seq + 1; /* behind everything there was */
    r->last_ns = end.closed_ns > r->last_ns ? end.closed_ns : r->last_ns;
    add_made(r, journal_encode_closed(r->made.frames[r->made.n], end.last_seq, r->last_ns));
    return true;
}

/* Tries a later segment. True: something was done, read on. */
static bool enter_later(struct reader *r)
{
    AUTO(segments_deinit) struct segments s = {0};
    const struct segment *later;

    segments_list(r->dir, &s);
    later = later_segment(r, &s);
    if (later == NULL && s.n > 0)
        return false;
    if (r->fd >= 0 && !r->looked_again && (later == NULL || later->first_seq != r->next_seq))
        return r->looked_again = true;
    if (later == NULL)
        return skip_to_end(r);
    if (later->first_seq > r->next_seq) {
        skip_to(r, later->first_seq, later->bytes_before);
    } else if (r->fd >= 0 && later->first_seq < r->next_seq) {
        r->corrupt = true; /* it would repeat what was read */
    } else {               /* it appeared after the start had looked */
        r->next_seq = later->first_seq;
        r->bytes = later->bytes_before;
        r->bytes_known = true;
    }
    enter(r, later); /* if it went meanwhile, the next round finds the one after it */
    return true;
}

void reader_init(struct reader *r, int dir, uint64_t from, int64_t start_ns)
{
    const struct segment *found;

    *r = (struct reader){.dir = dir, .from = from, .fd = -1, .last_ns = start_ns};
    segments_list(dir, &r->list);
    if (r->list.n > 0)
        r->stop = r->list.list[r->list.n - 1];
    found = segments_find(&r->list, from);
    r->next_seq = from;
    r->bytes_known = from == 1;
    if (found == NULL)
        return; /* nothing yet, or all of it is later: as after any other segment */
    r->start_index = (size_t)(found - r->list.list);
    if (!enter(r, found))
        return; /* it went meanwhile */
    r->next_seq = found->first_seq;
    r->bytes = found->bytes_before;
    r->bytes_known = true;
}

void reader_deinit(struct reader *r)
{
    cleanup_close(&r->fd);
    r->fd = -1;
    segment_walk_deinit(&r->walk);
    segments_deinit(&r->list);
}

void reader_look_back(const struct reader *r, struct view *v)
{
    struct segment_parts p;

    if (r->fd < 0)
        return;
    segment_parts_init(&p, r->dir, &r->list);
    view_look_back(v, &p.parts, r->start_index);
}

/* --- reading --- */

static enum reader_step take(struct reader *r, struct journal_event *e)
{
    struct journal_check check = {.last_seq = r->next_seq - 1};

    if (!journal_check_next(&check, e) || e->seq == UINT64_MAX)
        return READER_CORRUPT;
    r->looked_again = false;
    r->frame = r->walk.frame;
    r->frame_len = r->walk.frame_len;
    r->next_seq = e->seq + 1;
    r->bytes += event_bytes(e);
    r->last_ns = e->time_ns;
    return READER_EVENT;
}

enum reader_step reader_buffered(struct reader *r, struct journal_event *ret)
{
    if (r->fd < 0 || r->made.next < r->made.n)
        return READER_NOTHING;
    switch (segment_walk_buffered(&r->walk, ret)) {
    case JOURNAL_FRAME:
        return take(r, ret);
    case JOURNAL_PARTIAL:
        return READER_NOTHING;
    case JOURNAL_CORRUPT:
        break;
    }
    return READER_CORRUPT;
}

enum reader_step reader_next(struct reader *r, bool suspect, struct journal_event *ret)
{
    for (;;) {
        enum journal_result result = JOURNAL_PARTIAL;

        if (next_made(r, ret))
            return READER_EVENT;
        if (r->fd >= 0)
            result = segment_walk_next(&r->walk, ret);
        if (result == JOURNAL_FRAME)
            return take(r, ret);
        if (result == JOURNAL_CORRUPT || r->corrupt)
            return READER_CORRUPT;
        if (enter_next(r))
            continue;
        if ((r->fd >= 0 && !suspect && !r->looked_again) || !enter_later(r))
            return READER_NOTHING;
    }
}

bool reader_is_past_start(const struct reader *r)
{
    if (r->made.next < r->made.n)
        return false;
    return r->stop.first_seq == 0 || r->segment_first > r->stop.first_seq ||
           (r->segment_first == r->stop.first_seq && r->walk.at >= r->stop.size);
}
