/* See duplex.h. */
#include "runtime/local/edge/duplex.h"

#include "common/base/list.h"

#include <errno.h>
#include <sys/socket.h>

static bool is_done(const struct duplex *d)
{
    return d->ended[0] && d->ended[1] && buf_len(&d->side[0].out) == 0 &&
           buf_len(&d->side[1].out) == 0;
}

/* False: the side that gets it cannot get anything any more. */
static bool hand_on(struct duplex *d, int i, size_t len)
{
    struct stream *to = &d->side[1 - i];

    if (i == 0 && d->pass != NULL) {
        if (!d->pass(d, d->scratch, len))
            return false;
    } else {
        stream_send_bytes(to, d->scratch, len);
    }
    if (to->full)
        stream_read(&d->side[i], false);
    return !to->broken;
}

/* Moves one read from side i to the other. */
static void move(struct duplex *d, int i)
{
    ssize_t n = recv(d->side[i].io.fd, d->scratch, d->chunk, MSG_DONTWAIT);

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n == 0) {
        d->ended[i] = true;
        stream_read(&d->side[i], false);
        stream_finish(&d->side[1 - i]);
    }
    if (n < 0 || (n > 0 && !hand_on(d, i, (size_t)n)))
        d->done(d, false);
    else if (is_done(d))
        d->done(d, true);
}

static void on_readable_0(struct stream *s)
{
    move(container_of(s, struct duplex, side[0]), 0);
}

static void on_readable_1(struct stream *s)
{
    move(container_of(s, struct duplex, side[1]), 1);
}

static void resume(struct duplex *d, int i)
{
    if (!d->ended[i])
        stream_read(&d->side[i], true);
}

static void on_drained_0(struct stream *s)
{
    resume(container_of(s, struct duplex, side[0]), 1);
}

static void on_drained_1(struct stream *s)
{
    resume(container_of(s, struct duplex, side[1]), 0);
}

static void sent(struct duplex *d)
{
    if (is_done(d))
        d->done(d, true);
}

static void on_sent_0(struct stream *s)
{
    sent(container_of(s, struct duplex, side[0]));
}

static void on_sent_1(struct stream *s)
{
    sent(container_of(s, struct duplex, side[1]));
}

/* A side that is read no more, because it has said all, is of no use when it cannot be sent to. */
static void hung_up(struct duplex *d, int i)
{
    if (d->ended[i])
        d->done(d, false);
}

static void on_hung_up_0(struct stream *s)
{
    hung_up(container_of(s, struct duplex, side[0]), 0);
}

static void on_hung_up_1(struct stream *s)
{
    hung_up(container_of(s, struct duplex, side[1]), 1);
}

static void set_callbacks(struct stream *s, void (*readable)(struct stream *),
                          void (*drained)(struct stream *), void (*all_sent)(struct stream *),
                          void (*gone)(struct stream *))
{
    s->readable = readable;
    s->drained = drained;
    s->sent = all_sent;
    s->hung_up = gone;
}

void duplex_init(struct duplex *d)
{
    set_callbacks(&d->side[0], on_readable_0, on_drained_0, on_sent_0, on_hung_up_0);
    set_callbacks(&d->side[1], on_readable_1, on_drained_1, on_sent_1, on_hung_up_1);
}

void duplex_start(struct duplex *d)
{
    stream_read(&d->side[0], !d->side[1].full);
    stream_read(&d->side[1], !d->side[0].full);
}

void duplex_close(struct duplex *d)
{
    stream_close(&d->side[0]);
    stream_close(&d->side[1]);
}
