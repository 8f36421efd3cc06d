/* See streams.h. What was read last waits in the writer's batch until the journal has it. */
#include "runtime/recorder/streams.h"

#include "common/base/cleanup.h"
#include "runtime/recorder/writer.h"

#include <errno.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { TERMINAL_HOLDS = 128 * 1024 }; /* more than the kernel keeps for a terminal's reader */

void streams_watch(struct writer *w)
{
    bool wanted = !w->blocked && w->pending_of == NULL;

    for (int i = 0; i < STREAMS; i++)
        source_watch(&w->streams[i].source, w->epoll, wanted && w->streams[i].open ? EPOLLIN : 0);
}

static bool make_room(struct writer *w)
{
    struct journal_readers readers = clients_readers(&w->clients);

    return journal_file_make_room(&w->journal, &readers);
}

void streams_unblock(struct writer *w)
{
    if (!w->blocked || !make_room(w))
        return;
    w->blocked = false;
    streams_watch(w);
}

bool streams_store_pending(struct writer *w)
{
    struct stream *s = w->pending_of;

    if (s == NULL)
        return true;
    if (!journal_file_output(&w->journal, s->kind, w->batch, w->pending_len)) {
        writer_retry_soon(w);
        if (w->journal.overflow == OVERFLOW_BLOCK)
            return false;
        journal_file_lose(&w->journal, s->kind, w->pending_len);
    }
    w->pending_of = NULL;
    return true;
}

static void close_stream(struct writer *w, struct stream *s)
{
    source_watch(&s->source, w->epoll, 0);
    close(s->source.fd);
    s->source.fd = -1;
    s->open = false;
}

/*
 * A stream that ends within a line or a character gets an empty event. That is where readers of
 * whole lines get the rest of the line, and readers of text U+FFFD: nothing that was written goes
 * unseen.
 */
static bool end_line(struct writer *w, struct stream *s)
{
    if (!s->unfinished)
        return true;
    s->unfinished = false;
    w->pending_of = s;
    w->pending_len = 0;
    return streams_store_pending(w);
}

/* At the exit, what background processes left unfinished is shown too, if it is whole characters.
 */
static bool end_lines(struct writer *w)
{
    for (int i = 0; i < STREAMS; i++) {
        struct stream *s = &w->streams[i];

        if (s->open && utf8_tail_cut(&s->tail) == 0 && !end_line(w, s))
            return false;
    }
    return true;
}

/* Reads once, at most max bytes. False: there is nothing (more) for now, or ever. */
static bool read_stream(struct stream *s, size_t max)
{
    struct writer *w = s->writer;
    ssize_t n = read(s->source.fd, w->batch, max < BATCH_BYTES ? max : BATCH_BYTES);

    if (n < 0 && errno == EIO)
        n = 0; /* a terminal that nobody has open any more */
    if (n < 0)
        return errno == EINTR;
    if (n == 0) {
        close_stream(w, s);
        end_line(w, s);
        return false;
    }
    writer_put_off_idle(w);
    s->unfinished = w->batch[n - 1] != '\n' && w->spec->watch_path == NULL;
    utf8_tail_push(&s->tail, w->batch, (size_t)n);
    w->pending_of = s;
    w->pending_len = (size_t)n;
    return streams_store_pending(w);
}

static void on_stream_ready(struct source *source, uint32_t events)
{
    struct stream *s = container_of(source, struct stream, source);
    struct writer *w = s->writer;

    if (!s->open || w->pending_of != NULL || w->blocked)
        return;
    w->blocked = !make_room(w);
    if (!w->blocked)
        read_stream(s, BATCH_BYTES);
    streams_watch(w);
}

void streams_add(struct writer *w, int i, int *fd, enum journal_kind kind)
{
    w->streams[i] = (struct stream){
        .source = {.fd = take_fd(fd), .ready = on_stream_ready},
        .writer = w,
        .kind = kind,
        .open = true,
    };
}

/* At most so much did it write before it ended and is not read yet. */
static int left_in(const struct stream *s)
{
    int left = 0;

    /* A terminal passes data on behind our back: only reading it to its end finds all of it. */
    if (s->kind == JOURNAL_TERMINAL)
        return TERMINAL_HOLDS;
    return s->open && ioctl(s->source.fd, FIONREAD, &left) == 0 ? left : 0;
}

bool streams_drain(struct writer *w)
{
    for (int i = 0; i < STREAMS; i++) {
        struct stream *s = &w->streams[i];
        int left;

        if (!streams_store_pending(w))
            return false;
        left = left_in(s);
        while (s->open && left > 0) {
            uint64_t before = w->journal.offsets[s->kind - JOURNAL_STDOUT];

            make_room(w);
            if (!read_stream(s, (size_t)left))
                break;
            left -= (int)(w->journal.offsets[s->kind - JOURNAL_STDOUT] - before);
        }
        if (s->open && left == 0 && w->pending_of == NULL)
            read_stream(s, BATCH_BYTES); /* its end, most of the time */
    }
    return streams_store_pending(w) && end_lines(w);
}

void streams_close_ended(struct writer *w)
{
    for (int i = 0; i < STREAMS; i++) {
        struct pollfd p = {.fd = w->streams[i].source.fd, .events = POLLIN};

        if (w->streams[i].open && poll(&p, 1, 0) > 0 && (p.revents & (POLLIN | POLLHUP)) == POLLHUP)
            close_stream(w, &w->streams[i]);
    }
}

bool streams_are_done(const struct writer *w)
{
    return !w->streams[0].open && !w->streams[1].open && w->pending_of == NULL;
}
