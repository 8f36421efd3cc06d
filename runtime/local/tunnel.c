/* See tunnel.h. Each side is read only while the other has room. */
#include "runtime/local/tunnel.h"

#include "common/base/mem.h"
#include "runtime/local/stream.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>

struct tunnel {
    struct proxied proxied;
    struct daemon *daemon; /* borrowed */
    struct stream side[2];
    bool ended[2]; /* this side has sent all it will */
};

static void tunnel_free(struct tunnel *t)
{
    list_unlink(&t->proxied.in_sandbox);
    stream_close(&t->side[0]);
    stream_close(&t->side[1]);
    free(t);
}

static void on_cut(struct proxied *p)
{
    tunnel_free(container_of(p, struct tunnel, proxied));
}

/* When both have said all and both have got all. */
static bool is_done(const struct tunnel *t)
{
    return t->ended[0] && t->ended[1] && buf_len(&t->side[0].out) == 0 &&
           buf_len(&t->side[1].out) == 0;
}

/* Moves one read from side i to the other. */
static void move(struct tunnel *t, int i)
{
    struct stream *from = &t->side[i], *to = &t->side[1 - i];
    ssize_t n = recv(from->io.fd, t->daemon->scratch, STREAM_CHUNK, MSG_DONTWAIT);

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n > 0 && !stream_send_bytes(to, t->daemon->scratch, (size_t)n))
        stream_read(from, false);
    if (n == 0) {
        t->ended[i] = true;
        stream_read(from, false);
        stream_finish(to);
    }
    if (n < 0 || to->broken || is_done(t))
        tunnel_free(t);
}

static void on_readable_0(struct stream *s)
{
    move(container_of(s, struct tunnel, side[0]), 0);
}

static void on_readable_1(struct stream *s)
{
    move(container_of(s, struct tunnel, side[1]), 1);
}

static void resume(struct tunnel *t, int i)
{
    if (!t->ended[i])
        stream_read(&t->side[i], true);
}

static void on_drained_0(struct stream *s)
{
    resume(container_of(s, struct tunnel, side[0]), 1);
}

static void on_drained_1(struct stream *s)
{
    resume(container_of(s, struct tunnel, side[1]), 0);
}

static void on_sent_0(struct stream *s)
{
    struct tunnel *t = container_of(s, struct tunnel, side[0]);

    if (is_done(t))
        tunnel_free(t);
}

static void on_sent_1(struct stream *s)
{
    struct tunnel *t = container_of(s, struct tunnel, side[1]);

    if (is_done(t))
        tunnel_free(t);
}

/* A side that is read no more, because it has said all, is of no use when it cannot be sent to. */
static void hung_up(struct tunnel *t, int i)
{
    if (t->ended[i])
        tunnel_free(t);
}

static void on_hung_up_0(struct stream *s)
{
    hung_up(container_of(s, struct tunnel, side[0]), 0);
}

static void on_hung_up_1(struct stream *s)
{
    hung_up(container_of(s, struct tunnel, side[1]), 1);
}

void tunnel_start(struct daemon *d, struct sandbox *s, int client_fd, struct buf *to_server,
                  struct buf *to_client, int server_fd)
{
    struct tunnel *t = xcalloc(1, sizeof(*t));
    bool room[2];

    t->daemon = d;
    t->proxied.cut = on_cut;
    t->side[0] = (struct stream){.readable = on_readable_0,
                                 .drained = on_drained_0,
                                 .sent = on_sent_0,
                                 .hung_up = on_hung_up_0};
    t->side[1] = (struct stream){.readable = on_readable_1,
                                 .drained = on_drained_1,
                                 .sent = on_sent_1,
                                 .hung_up = on_hung_up_1};
    list_append(&s->streams, &t->proxied.in_sandbox);
    stream_open(&t->side[0], &d->loop, client_fd);
    stream_open(&t->side[1], &d->loop, server_fd);
    room[0] = stream_send_bytes(&t->side[0], buf_data(to_client), buf_len(to_client));
    room[1] = stream_send_bytes(&t->side[1], buf_data(to_server), buf_len(to_server));
    buf_deinit(to_client);
    buf_deinit(to_server);
    stream_read(&t->side[0], room[1]);
    stream_read(&t->side[1], room[0]);
}
