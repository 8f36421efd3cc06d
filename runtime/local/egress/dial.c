/* See egress_dial.h. */
#include "runtime/local/egress/dial.h"

#include "common/base/mem.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { ONE_MS = 15000, SEVERAL_MS = 5000 }; /* for an address; shorter while there are more */

struct egress_dial {
    struct egress_server *server; /* borrowed */
    uint32_t address[EGRESS_DNS_ADDRESSES_MAX];
    size_t n;
    size_t next;
    uint16_t port;
    int error;         /* of the last attempt */
    struct loop_fd io; /* fd -1: none */
    struct loop_timer timer;
    egress_dialled *done;
    void *ctx; /* borrowed */
};

static void drop(struct egress_dial *d)
{
    loop_timer_cancel(d->server->loop, &d->timer);
    if (d->io.fd >= 0) {
        loop_remove(d->server->loop, &d->io);
        close(d->io.fd);
        d->io.fd = -1;
    }
}

void egress_dial_cancel(struct egress_dial *d)
{
    if (d == NULL)
        return;
    drop(d);
    free(d);
}

static void finish(struct egress_dial *d, int fd, uint32_t address, int error)
{
    egress_dialled *done = d->done;
    void *ctx = d->ctx;

    egress_dial_cancel(d);
    done(ctx, fd, address, error);
}

/* False: errno. */
static bool dial_one(struct egress_dial *d, uint32_t address)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(d->port)};
    int on = 1;

    to.sin_addr.s_addr = htonl(address);
    if (!egress_may_reach(d->server, address, d->port)) {
        errno = EACCES;
        return false;
    }
    d->io.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (d->io.fd < 0)
        return false;
    setsockopt(d->io.fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    setsockopt(d->io.fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
    if (connect(d->io.fd, (struct sockaddr *)&to, sizeof(to)) < 0 && errno != EINPROGRESS)
        return false;
    loop_timer_after(d->server->loop, &d->timer, d->next < d->n ? SEVERAL_MS : ONE_MS);
    return loop_add(d->server->loop, &d->io, EPOLLOUT, NULL);
}

/* Begins with the next address; false when there is none left. */
static bool dial_next(struct egress_dial *d)
{
    while (d->next < d->n) {
        drop(d);
        if (dial_one(d, d->address[d->next++]))
            return true;
        d->error = errno;
    }
    return false;
}

static void on_failed(struct egress_dial *d, int error)
{
    d->error = error;
    if (!dial_next(d))
        finish(d, -1, 0, d->error);
}

static void on_timer(struct loop_timer *timer)
{
    struct egress_dial *d = container_of(timer, struct egress_dial, timer);

    on_failed(d, d->io.fd >= 0 ? ETIMEDOUT : d->error);
}

static void on_ready(struct loop_fd *io, uint32_t events)
{
    struct egress_dial *d = container_of(io, struct egress_dial, io);
    socklen_t size = sizeof(int);
    int error = 0, fd = io->fd;

    getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
    if (error != 0) {
        on_failed(d, error);
        return;
    }
    loop_remove(d->server->loop, io);
    io->fd = -1;
    finish(d, fd, d->address[d->next - 1], 0);
}

struct egress_dial *egress_dial_start(struct egress_server *s, const uint32_t *addresses, size_t n,
                                      uint16_t port, egress_dialled *done, void *ctx)
{
    struct egress_dial *d = xcalloc(1, sizeof(*d));

    *d = (struct egress_dial){
        .server = s,
        .n = n,
        .port = port,
        .error = EHOSTUNREACH,
        .io = {.fd = -1, .ready = on_ready},
        .timer.fire = on_timer,
        .done = done,
        .ctx = ctx,
    };
    memcpy(d->address, addresses, n * sizeof(*addresses));
    if (!dial_next(d)) {
        drop(d);
        loop_timer_after(s->loop, &d->timer, 0); /* to be told from the loop */
    }
    return d;
}
