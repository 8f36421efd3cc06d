/* See stream.h. */
#include "runtime/local/edge/stream.h"

#include "common/base/list.h"

#include <assert.h>
#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

enum { VECTOR_MAX = 4, OUT_MAX = 64 << 20 };

static void update(struct stream *s)
{
    uint32_t events = (s->reading ? EPOLLIN | EPOLLRDHUP : 0) |
                      (buf_len(&s->out) > 0 && !s->broken ? EPOLLOUT : 0);

    if (s->io.added)
        loop_modify(s->loop, &s->io, events);
    else if (events != 0)
        loop_add(s->loop, &s->io, events, NULL);
}

static void after_sending(struct stream *s)
{
    if (buf_len(&s->out) > 0 && !s->broken)
        return;
    buf_deinit(&s->out);
    if (s->ending && !s->broken)
        shutdown(s->io.fd, SHUT_WR);
}

static void flush(struct stream *s)
{
    ssize_t n = send(s->io.fd, buf_data(&s->out), buf_len(&s->out), MSG_NOSIGNAL | MSG_DONTWAIT);

    if (n >= 0)
        buf_consume(&s->out, (size_t)n);
    else if (errno != EAGAIN && errno != EINTR)
        s->broken = true;
    after_sending(s);
    update(s);
}

static void on_writable(struct stream *s)
{
    flush(s);
    if (s->full && buf_len(&s->out) <= s->high / 4) {
        s->full = false;
        if (s->drained != NULL)
            s->drained(s);
    } else if (s->ending && buf_len(&s->out) == 0 && s->sent != NULL) {
        s->sent(s);
    }
}

/* Events that cannot be masked: out of the loop until somebody wants to read again. */
static void on_hang_up(struct stream *s)
{
    s->broken = true;
    loop_remove(s->loop, &s->io);
    if (s->hung_up != NULL)
        s->hung_up(s);
}

/* After each callback the stream may be closed, and what it is part of freed: one per round. */
static void on_ready(struct loop_fd *io, uint32_t events)
{
    struct stream *s = container_of(io, struct stream, io);
    bool sending = (events & EPOLLOUT) && buf_len(&s->out) > 0;
    bool reading = s->reading && (events & ~(uint32_t)EPOLLOUT);

    /* What is not dealt with is reported again; taking turns, neither starves the other. */
    if (sending && !(reading && s->turn)) {
        s->turn = true;
        on_writable(s);
    } else if (reading) {
        s->turn = false;
        s->readable(s);
    } else if (!s->reading && (events & (EPOLLHUP | EPOLLERR))) {
        on_hang_up(s);
    }
}

void stream_open(struct stream *s, struct loop *l, int fd)
{
    s->loop = l;
    if (s->high == 0)
        s->high = STREAM_CHUNK;
    s->io = (struct loop_fd){.fd = fd, .ready = on_ready};
    buf_init(&s->out, OUT_MAX);
    s->turn = s->reading = s->full = s->ending = s->broken = false;
}

int stream_release(struct stream *s)
{
    int fd = s->io.fd;

    loop_remove(s->loop, &s->io);
    buf_deinit(&s->out);
    s->loop = NULL;
    return fd;
}

void stream_close(struct stream *s)
{
    if (s->loop != NULL)
        close(stream_release(s));
}

void stream_read(struct stream *s, bool on)
{
    s->reading = on;
    update(s);
}

bool stream_send(struct stream *s, const struct iovec *v, int n)
{
    struct msghdr msg = {.msg_iov = (struct iovec *)v, .msg_iovlen = (size_t)n};
    ssize_t sent = 0;

    assert(n <= VECTOR_MAX);
    if (s->broken)
        return true;
    if (buf_len(&s->out) == 0)
        sent = sendmsg(s->io.fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && errno != EAGAIN && errno != EINTR) {
        s->broken = true;
        return true;
    }

    size_t skip = sent > 0 ? (size_t)sent : 0;

    for (int i = 0; i < n; i++) {
        size_t done = skip < v[i].iov_len ? skip : v[i].iov_len;

        skip -= done;
        if (!buf_append(&s->out, (const uint8_t *)v[i].iov_base + done, v[i].iov_len - done))
            s->broken = true;
    }
    update(s);
    s->full = buf_len(&s->out) > s->high;
    return !s->full;
}

bool stream_send_bytes(struct stream *s, const void *data, size_t len)
{
    struct iovec v = {(void *)data, len};

    return stream_send(s, &v, 1);
}

void stream_finish(struct stream *s)
{
    s->ending = true;
    after_sending(s);
}
