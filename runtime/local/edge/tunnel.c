/* See tunnel.h. */
#include "runtime/local/edge/tunnel.h"

#include "common/base/mem.h"
#include "runtime/local/edge/duplex.h"

#include <stdlib.h>

struct tunnel {
    struct proxied proxied;
    struct duplex duplex; /* side 0 is the client's */
};

static void tunnel_free(struct tunnel *t)
{
    list_unlink(&t->proxied.in_sandbox);
    duplex_close(&t->duplex);
    free(t);
}

static void on_cut(struct proxied *p)
{
    tunnel_free(container_of(p, struct tunnel, proxied));
}

static void on_done(struct duplex *d, bool complete)
{
    tunnel_free(container_of(d, struct tunnel, duplex));
}

void tunnel_start(struct daemon *d, struct sandbox *s, int client_fd, struct buf *to_server,
                  struct buf *to_client, int server_fd)
{
    struct tunnel *t = xcalloc(1, sizeof(*t));

    t->proxied.cut = on_cut;
    t->duplex = (struct duplex){.scratch = d->scratch, .chunk = STREAM_CHUNK, .done = on_done};
    duplex_init(&t->duplex);
    list_append(&s->streams, &t->proxied.in_sandbox);
    stream_open(&t->duplex.side[0], &d->loop, client_fd);
    stream_open(&t->duplex.side[1], &d->loop, server_fd);
    stream_send_bytes(&t->duplex.side[0], buf_data(to_client), buf_len(to_client));
    stream_send_bytes(&t->duplex.side[1], buf_data(to_server), buf_len(to_server));
    buf_deinit(to_client);
    buf_deinit(to_server);
    duplex_start(&t->duplex);
}
