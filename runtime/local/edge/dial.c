/*
 * See dial.h. The agent lives on the sandbox's side of the fence: what it sends is checked to be
 * one TCP socket, and it has a few seconds to send it.
 */
#include "runtime/local/edge/dial.h"

#include "common/base/cleanup.h"
#include "common/base/list.h"
#include "common/base/mem.h"
#include "common/http/net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { ANSWER_MS = 5000 };

struct dial {
    struct loop *loop; /* borrowed */
    struct loop_fd io;
    struct loop_timer timer;
    dial_done *done;
    void *ctx; /* borrowed */
};

void dial_cancel(struct dial *d)
{
    if (d == NULL)
        return;
    loop_remove(d->loop, &d->io);
    loop_timer_cancel(d->loop, &d->timer);
    close(d->io.fd);
    free(d);
}

static void finish(struct dial *d, int fd, int error)
{
    dial_done *done = d->done;
    void *ctx = d->ctx;

    dial_cancel(d);
    done(ctx, fd, error);
}

static bool is_tcp(int fd)
{
    int domain = 0, type = 0, protocol = 0;
    socklen_t len = sizeof(int);

    if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) < 0 ||
        getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) < 0 ||
        getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &len) < 0)
        return false;
    return (domain == AF_INET || domain == AF_INET6) && type == SOCK_STREAM &&
           protocol == IPPROTO_TCP;
}

/* Receives the answer: 0 and a descriptor, or an errno. -1: not there yet. */
static int receive(int socket_fd, int *ret_fd)
{
    uint8_t result = 0;
    struct iovec v = {&result, 1};
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(int))];
    } control;
    /* CMSG_LEN, not SPACE: room for one descriptor; the kernel drops any further ones. */
    struct msghdr msg = {.msg_iov = &v,
                         .msg_iovlen = 1,
                         .msg_control = &control,
                         .msg_controllen = CMSG_LEN(sizeof(int))};
    ssize_t n = recvmsg(socket_fd, &msg, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    struct cmsghdr *c = n >= 0 ? CMSG_FIRSTHDR(&msg) : NULL;
    AUTO_CLOSE int fd = -1;

    if (n < 0)
        return errno == EAGAIN || errno == EINTR ? -1 : errno;
    if (c != NULL && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS &&
        c->cmsg_len == CMSG_LEN(sizeof(int)))
        memcpy(&fd, CMSG_DATA(c), sizeof(int));
    if (n != 1)
        return ECONNRESET;
    if (result != 0)
        return result;
    if (fd < 0 || !is_tcp(fd) || fcntl(fd, F_SETFL, O_NONBLOCK) < 0)
        return EPROTO;
    *ret_fd = take_fd(&fd);
    return 0;
}

static void on_answer(struct loop_fd *io, uint32_t events)
{
    struct dial *d = container_of(io, struct dial, io);
    int fd = -1, on = 1, error = receive(io->fd, &fd);

    if (error < 0)
        return;
    if (fd >= 0)
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    finish(d, fd, error);
}

static void on_timeout(struct loop_timer *timer)
{
    finish(container_of(timer, struct dial, timer), -1, ETIMEDOUT);
}

struct dial *dial_start(struct loop *l, const char *path, uint16_t port, dial_done *done, void *ctx)
{
    uint16_t wire = htons(port);
    AUTO_CLOSE int fd = -1;
    struct dial *d;

    if (!net_connect_unix(path, SOCK_SEQPACKET, &fd, NULL) ||
        send(fd, &wire, sizeof(wire), MSG_NOSIGNAL) != sizeof(wire))
        return NULL;
    d = xcalloc(1, sizeof(*d));
    *d = (struct dial){
        .loop = l,
        .io = {.fd = fd, .ready = on_answer},
        .timer.fire = on_timeout,
        .done = done,
        .ctx = ctx,
    };
    if (!loop_add(l, &d->io, EPOLLIN, NULL)) {
        free(d);
        return NULL;
    }
    take_fd(&fd);
    loop_timer_after(l, &d->timer, ANSWER_MS);
    return d;
}
