/*
 * See journal_file.h. Used by the writer, and by whoever ends the journal of a lost one; the lock
 * on the command says that it is one of them alone. A frame is in the journal when its write was
 * whole: what a failed write left is cut off before anything else happens, so readers, who never
 * look beyond a torn frame, see each event once and unchanged.
 */
#include "runtime/recorder/journal_file.h"

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "runtime/recorder/gone.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

enum { SEGMENT_MIN = 256 * 1024, SEGMENTS_PER_JOURNAL = 16 };

void journal_file_init(struct journal_file *j, int dir, const struct meta *m)
{
    uint64_t part = m->max_bytes / SEGMENTS_PER_JOURNAL;

    *j = (struct journal_file){.dir = dir,
                               .fd = -1,
                               .overflow = m->overflow,
                               .max_bytes = m->max_bytes,
                               .segment_max = part > SEGMENT_MIN ? part : SEGMENT_MIN,
                               .next_seq = 1,
                               .last_ns = m->start_ns};
}

void journal_file_deinit(struct journal_file *j)
{
    if (j->fd >= 0)
        close(j->fd);
    j->fd = -1;
    segments_deinit(&j->segments);
}

static struct segment *newest(struct journal_file *j)
{
    return &j->segments.list[j->segments.n - 1];
}

static size_t stream_of(enum journal_kind kind)
{
    return (size_t)(kind - JOURNAL_STDOUT);
}

/* Never backwards, even when the clock is set. */
static int64_t now_ns(struct journal_file *j)
{
    int64_t now = clock_wall_ns();

    if (now > j->last_ns)
        j->last_ns = now;
    return j->last_ns;
}

/* Starts a segment with the next event. */
static bool rotate(struct journal_file *j)
{
    struct segment s = {.first_seq = j->next_seq, .bytes_before = j->bytes};
    int fd = segment_open(j->dir, &s, O_WRONLY | O_CREAT | O_EXCL);

    if (fd < 0)
        return false;
    if (j->fd >= 0)
        close(j->fd);
    j->fd = fd;
    j->segments.list = xrealloc(j->segments.list, (j->segments.n + 1) * sizeof(s));
    j->segments.list[j->segments.n++] = s;
    return true;
}

static size_t total_len(const struct iovec *parts, int n)
{
    size_t len = 0;

    for (int i = 0; i < n; i++)
        len += parts[i].iov_len;
    return len;
}

/* Appends whole frames, or nothing. */
static bool append(struct journal_file *j, struct iovec *parts, int n)
{
    size_t len = total_len(parts, n);
    struct segment *s;
    ssize_t written;

    if ((j->fd < 0 || newest(j)->size + len > j->segment_max) &&
        (j->fd < 0 || newest(j)->size > 0) && !rotate(j))
        return false;
    s = newest(j);
    do {
        written = pwritev(j->fd, parts, n, (off_t)s->size);
    } while (written < 0 && errno == EINTR);
    if (written == (ssize_t)len) {
        s->size += len;
        j->total += len;
        return true;
    }

    int error = written < 0 ? errno : ENOSPC;

    /* Should this fail: the next append overwrites what is torn, which is its place too. */
    if (ftruncate(j->fd, (off_t)s->size) == 0)
        errno = error;
    return false;
}

static bool append_frame(struct journal_file *j, uint8_t *frame, size_t len)
{
    struct iovec part = {.iov_base = frame, .iov_len = len};

    return append(j, &part, 1);
}

/* --- the limit --- */

/* Whether the policy lets the oldest segment go, given where the next one starts. */
static bool may_drop(const struct journal_file *j, const struct journal_readers *r, uint64_t next)
{
    switch (j->overflow) {
    case OVERFLOW_BLOCK:
        return r->acked_seq >= next - 1;
    case OVERFLOW_DROP_OLDEST:
        return true;
    default:
        return r->slowest >= next;
    }
}

static void drop_oldest(struct journal_file *j)
{
    struct segment *oldest = &j->segments.list[0];

    gone_add(j->dir, oldest, j->max_bytes);
    segment_remove(j->dir, oldest);
    j->total -= oldest->size;
    j->segments.n--;
    memmove(oldest, oldest + 1, j->segments.n * sizeof(*oldest));
}

bool journal_file_make_room(struct journal_file *j, const struct journal_readers *readers)
{
    uint64_t need = BATCH_BYTES + BATCH_PAYLOADS * JOURNAL_HEADER_MAX;

    while (j->total + need > j->max_bytes) {
        uint64_t next;

        if (j->segments.n <= 1)
            return true;
        next = j->segments.list[1].first_seq;
        if (!may_drop(j, readers, next))
            return false;
        drop_oldest(j);
    }
    return true;
}

/* --- events --- */

bool journal_file_flush(struct journal_file *j)
{
    uint8_t frame[256];
    uint64_t bytes = j->lost_bytes;
    size_t len;

    if (bytes == 0)
        return true;
    len = journal_encode_dropped(frame, now_ns(j), j->next_seq, j->next_seq, bytes);
    j->lost_bytes = 0;
    if (!append_frame(j, frame, len))
        return j->lost_bytes = bytes, false;
    j->next_seq++;
    j->bytes += bytes;
    return true;
}

bool journal_file_output(struct journal_file *j, enum journal_kind kind, const uint8_t *data,
                         size_t len)
{
    uint8_t headers[BATCH_PAYLOADS][JOURNAL_HEADER_MAX];
    struct iovec parts[2 * BATCH_PAYLOADS];
    uint64_t *offset = &j->offsets[stream_of(kind)], done = 0;
    int64_t time_ns;
    int n = 0;

    if (!journal_file_flush(j))
        return false;
    time_ns = now_ns(j);
    do { /* an empty output is one empty event */
        size_t step = len - done < JOURNAL_PAYLOAD_MAX ? len - done : JOURNAL_PAYLOAD_MAX;
        uint8_t *header = headers[n / 2];
        uint64_t seq = j->next_seq + (uint64_t)n / 2;

        parts[n].iov_base = header;
        parts[n].iov_len =
            journal_encode_output_header(header, seq, time_ns, *offset + done, kind, step);
        parts[n + 1] = (struct iovec){.iov_base = (uint8_t *)data + done, .iov_len = step};
        n += 2;
        done += step;
    } while (done < len);
    if (!append(j, parts, n))
        return false;
    j->next_seq += (uint64_t)n / 2;
    j->bytes += len;
    *offset += len;
    return true;
}

void journal_file_lose(struct journal_file *j, enum journal_kind kind, size_t len)
{
    j->lost_bytes += len;
    j->offsets[stream_of(kind)] += len;
}

bool journal_file_started(struct journal_file *j, uint32_t pid)
{
    uint8_t frame[256];

    if (!append_frame(j, frame, journal_encode_started(frame, j->next_seq, now_ns(j), pid)))
        return false;
    j->next_seq++;
    return true;
}

bool journal_file_exited(struct journal_file *j, const struct journal_exit *exit,
                         struct end_record *end)
{
    *end = (struct end_record){0};
    if (!journal_file_flush(j))
        return false;
    end->exited_len = journal_encode_exited(end->exited, j->next_seq, now_ns(j), exit);
    end->exited_seq = j->next_seq;
    end->bytes_before = j->bytes;
    if (!append_frame(j, end->exited, end->exited_len))
        return false;
    j->next_seq++;
    return true;
}

bool journal_file_closed(struct journal_file *j, struct end_record *end)
{
    uint8_t frame[256];

    if (!journal_file_flush(j))
        return false;
    if (!append_frame(j, frame, journal_encode_closed(frame, j->next_seq, now_ns(j))))
        return false;
    end->last_seq = j->next_seq++;
    end->closed_ns = j->last_ns;
    end->bytes_total = j->bytes;
    return true;
}

/* --- going on --- */

/* Nothing but zeros from here on: what a file system leaves of an append when power is lost. */
static bool only_zeros(const uint8_t *data, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (data[i] != 0)
            return false;
    return len > 0;
}

static void take_event(struct journal_file *j, const struct journal_event *e)
{
    j->next_seq = e->seq + 1;
    j->bytes += event_bytes(e);
    if (e->time_ns > j->last_ns)
        j->last_ns = e->time_ns;
    if (event_is_output(e))
        j->offsets[stream_of(e->kind)] = e->offset + e->data_len;
}

bool journal_file_resume(struct journal_file *j)
{
    struct segment_walk walk;
    struct journal_event e;
    enum journal_result result;
    struct segment *s;

    segments_list(j->dir, &j->segments);
    for (size_t i = 0; i < j->segments.n; i++)
        j->total += j->segments.list[i].size;
    if (j->segments.n == 0)
        return true;
    s = newest(j);
    j->next_seq = s->first_seq;
    j->bytes = s->bytes_before;
    j->fd = segment_open(j->dir, s, O_RDWR);
    if (j->fd < 0)
        return false;
    segment_walk_init(&walk, j->fd, 0);
    while ((result = segment_walk_next(&walk, &e)) == JOURNAL_FRAME)
        take_event(j, &e);
    if (result == JOURNAL_CORRUPT && only_zeros(walk.data + walk.start, walk.end - walk.start))
        result = JOURNAL_PARTIAL;
    j->total -= s->size - walk.at;
    s->size = walk.at;
    segment_walk_deinit(&walk);
    if (result == JOURNAL_CORRUPT)
        return errno = EBADMSG, false;
    return ftruncate(j->fd, (off_t)s->size) == 0;
}
