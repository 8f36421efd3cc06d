/*
 * See dial.h. One request at a time on each connection; what a client asks meanwhile waits in the
 * socket. Addresses are tried in the order people expect of "localhost".
 */
#include "runtime/local/agent/dial.h"

#include "common/base/cleanup.h"
#include "common/base/mem.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CONNECT_MS = 5000 };

struct dialer {
    struct loop *loop;     /* borrowed */
    struct loop_fd client; /* fd owned */
    struct loop_fd target; /* fd owned; -1: nothing is being tried */
    struct loop_timer limit;
    uint16_t port; /* network order */
    bool second;   /* 127.0.0.1 was tried */
};

static void drop_target(struct dialer *d)
{
    loop_timer_cancel(d->loop, &d->limit);
    if (d->target.fd < 0)
        return;
    loop_remove(d->loop, &d->target);
    close(d->target.fd);
    d->target.fd = -1;
}

static void dialer_free(struct dialer *d)
{
    drop_target(d);
    loop_remove(d->loop, &d->client);
    close(d->client.fd);
    free(d);
}

/* One byte, and the connected socket when it is 0. */
static bool answer(struct dialer *d, int error)
{
    uint8_t result = (uint8_t)error;
    struct iovec part = {&result, 1};
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(sizeof(int))];
    } control = {.room = {0}};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};

    if (!error) {
        control.header = (struct cmsghdr){
            .cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
        memcpy(CMSG_DATA(&control.header), &d->target.fd, sizeof(int));
        message.msg_control = &control;
        message.msg_controllen = sizeof(control);
    }
    if (sendmsg(d->client.fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT) != 1)
        return false;
    drop_target(d);
    loop_modify(d->loop, &d->client, EPOLLIN);
    return true;
}

/* Begins to connect. Returns errno; 0: under way. */
static int begin(struct dialer *d, void (*ready)(struct loop_fd *, uint32_t))
{
    struct sockaddr_in v4 = {
        .sin_family = AF_INET, .sin_port = d->port, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_in6 v6 = {
        .sin6_family = AF_INET6, .sin6_port = d->port, .sin6_addr = in6addr_loopback};
    const struct sockaddr *address = d->second ? (struct sockaddr *)&v6 : (struct sockaddr *)&v4;
    socklen_t size = d->second ? sizeof(v6) : sizeof(v4);

    drop_target(d);
    d->target.fd = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (d->target.fd < 0)
        return errno;
    if (connect(d->target.fd, address, size) < 0 && errno != EINPROGRESS)
        return errno;
    d->target.ready = ready;
    loop_add(d->loop, &d->target, EPOLLOUT, NULL);
    loop_timer_after(d->loop, &d->limit, CONNECT_MS);
    return 0;
}

static void on_target(struct loop_fd *io, uint32_t events);

/* Goes on after a failed attempt. */
static void next(struct dialer *d, int error)
{
    int first_error = error;

    while (error && !d->second) {
        d->second = true;
        error = begin(d, on_target);
    }
    /* Where there is no IPv6 at all, what IPv4 said is the better answer. */
    if (error == EAFNOSUPPORT || error == EADDRNOTAVAIL)
        error = first_error;
    if (error && !answer(d, error))
        dialer_free(d);
}

static void on_target(struct loop_fd *io, uint32_t events)
{
    struct dialer *d = container_of(io, struct dialer, target);
    int error = 0;
    socklen_t size = sizeof(error);

    getsockopt(io->fd, SOL_SOCKET, SO_ERROR, &error, &size);
    if (error)
        next(d, error);
    else if (!answer(d, 0))
        dialer_free(d);
}

static void on_limit(struct loop_timer *timer)
{
    next(container_of(timer, struct dialer, limit), ETIMEDOUT);
}

static void on_client(struct loop_fd *io, uint32_t events)
{
    struct dialer *d = container_of(io, struct dialer, client);
    uint16_t port;
    ssize_t n = recv(io->fd, &port, sizeof(port), MSG_DONTWAIT | MSG_TRUNC);

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n != (ssize_t)sizeof(port)) {
        dialer_free(d);
        return;
    }
    d->port = port;
    d->second = false;
    loop_modify(d->loop, &d->client, 0);
    int error = begin(d, on_target);

    if (error)
        next(d, error);
}

static void on_connection(struct loop_fd *io, uint32_t events)
{
    struct dial *dial = container_of(io, struct dial, listener);
    int fd = accept4(io->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    struct dialer *d;

    if (fd < 0)
        return;
    d = xcalloc(1, sizeof(*d));
    d->loop = dial->loop;
    d->client.fd = fd;
    d->client.ready = on_client;
    d->target.fd = -1;
    d->limit.fire = on_limit;
    if (!loop_add(d->loop, &d->client, EPOLLIN, NULL))
        dialer_free(d);
}

bool dial_init(struct dial *d, struct loop *l, int fd, struct status *st)
{
    *d = (struct dial){.loop = l, .listener = {.fd = fd, .ready = on_connection}};
    return loop_add(l, &d->listener, EPOLLIN, st);
}
