/*
 * See gone.h. Two files, `gone` and the one before it, `gone.old`: records of
 *
 *   first seq, bytes before it, length of what follows, then per event: (bytes << 1), or for one
 * that stands for several (a Dropped): (bytes << 1 | 1), and how many
 *
 * all varints. Written by the writer alone.
 */
#include "runtime/recorder/gone.h"

#include "common/base/buf.h"
#include "common/base/cleanup.h"
#include "common/base/fd.h"
#include "common/journal/pb.h"
#include "runtime/recorder/files.h"
#include "runtime/recorder/segments.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

enum { ACCOUNT_MIN = 1 << 20, ACCOUNT_MAX = 16 << 20, RECORD_MAX = 64 << 20 };

static bool add_varint(struct buf *b, uint64_t n)
{
    uint8_t bytes[PB_VARINT_MAX];

    return buf_append(b, bytes, (size_t)(pb_put_varint(bytes, n) - bytes));
}

/*
 * Through a mapping, so that of large events only the headers are touched: this happens while the
 * command writes. The segment is complete and nobody else changes it.
 */
static void count_events(int fd, size_t size, struct buf *to)
{
    uint8_t *data = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
    struct journal_event e;
    size_t at = 0, len;

    if (data == MAP_FAILED)
        return;
    while (journal_parse(data + at, size - at, &e, &len) == JOURNAL_FRAME) {
        uint64_t bytes = event_bytes(&e);
        bool several = e.kind == JOURNAL_DROPPED && e.dropped_last > e.dropped_first;

        add_varint(to, bytes << 1 | several);
        if (several)
            add_varint(to, e.dropped_last - e.dropped_first + 1);
        at += len;
    }
    munmap(data, size);
}

void gone_add(int dir, const struct segment *s, uint64_t max_journal_bytes)
{
    AUTO_CLOSE int from = segment_open(dir, s, O_RDONLY);
    AUTO_CLOSE int fd = openat(dir, "gone", O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    AUTO(buf_deinit) struct buf events = BUF_INIT(RECORD_MAX), record = BUF_INIT(RECORD_MAX);
    uint64_t most = max_journal_bytes / 16;
    struct stat info;

    if (from < 0 || fd < 0 || fstat(fd, &info) != 0)
        return;
    count_events(from, (size_t)s->size, &events);
    add_varint(&record, s->first_seq);
    add_varint(&record, s->bytes_before);
    add_varint(&record, buf_len(&events));
    if (!buf_append(&record, buf_data(&events), buf_len(&events)))
        return;
    if (!fd_write_all(fd, buf_data(&record), buf_len(&record)) && ftruncate(fd, info.st_size) != 0)
        unlinkat(dir, "gone", 0);
    most = most < ACCOUNT_MIN ? ACCOUNT_MIN : most > ACCOUNT_MAX ? ACCOUNT_MAX : most;
    if ((uint64_t)info.st_size + buf_len(&record) > most)
        renameat(dir, "gone", dir, "gone.old");
}

struct cursor {
    const uint8_t *at, *end;
};

static bool next(struct cursor *c, uint64_t *ret)
{
    int n = pb_varint(c->at, (size_t)(c->end - c->at), ret);

    if (n <= 0)
        return false;
    c->at += n;
    return true;
}

/* The bytes before seq, counted from the start of a record. False when seq is behind its end. */
static bool count_to(struct cursor events, uint64_t at, uint64_t seq, uint64_t *bytes)
{
    while (at < seq) {
        uint64_t n, several = 1;

        if (!next(&events, &n) || ((n & 1) != 0 && !next(&events, &several)))
            return false;
        at += several;
        *bytes += n >> 1;
    }
    return at == seq;
}

bool gone_bytes_before(int dir, uint64_t seq, uint64_t *ret)
{
    AUTO(buf_deinit) struct buf b = BUF_INIT(4 * (ACCOUNT_MAX + RECORD_MAX));
    bool oldest_known = false;

    *ret = 0;
    file_read(dir, "gone.old", &b);
    file_read(dir, "gone", &b);

    struct cursor c = {.at = buf_data(&b), .end = buf_data(&b) + buf_len(&b)};
    uint64_t first, before, len;

    while (next(&c, &first) && next(&c, &before) && next(&c, &len)) {
        struct cursor events = c;

        if (len > (uint64_t)(c.end - c.at))
            break;
        events.end = c.at + len;
        if (!oldest_known || first <= seq)
            *ret = before;
        oldest_known = true;
        if (first <= seq && count_to(events, first, seq, ret))
            return true;
        c.at += len;
    }
    return false;
}
