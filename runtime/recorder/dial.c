/*
 * See dial.h. One thread and no more than one piece per direction: what cannot be passed on is not
 * read either, so whoever is slow slows the other side down and nothing piles up here. sandboxd
 * says now and then that it is there; when it no longer does (its pod was lost) the connection
 * ends, because E2B's agent keeps our stdin open whoever wrote to it.
 */
#include "runtime/recorder/dial.h"

#include "common/base/buf.h"
#include "common/base/cleanup.h"
#include "common/base/clock.h"
#include "common/journal/dial.h"
#include "runtime/recorder/fault.h"
#include "runtime/recorder/output.h"

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    PIECE = 64 * 1024,
    CONNECT_MS = 10000,
    STUCK_MS = 600000, /* the server takes nothing, and so we do not hear whether we are needed */
};

struct connection {
    int fd; /* owned */
    struct output out;
    struct dial_parser parser;
    struct buf up, down;   /* on their way: to the server, and from it */
    bool up_end, down_end; /* nothing more comes, behind what is on its way */
    bool up_shut;          /* and the server was told */
    bool done;
    int64_t silence_ms;
    int64_t heard_ns; /* when stdin said something, or the server took something; monotonic */
};

/* --- connecting --- */

static bool set_address(const char *host, uint16_t port, struct addrinfo **ret, struct status *st)
{
    const struct addrinfo hints = {
        .ai_family = AF_UNSPEC,
        .ai_socktype = SOCK_STREAM,
        .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV,
    };
    char service[8];

    snprintf(service, sizeof(service), "%u", port);
    return getaddrinfo(host, service, &hints, ret) == 0 ||
           fault(st, RECORDER_USAGE, "--host=%s is no IP address", host);
}

/* Waits for a connection that was begun. False: errno says why. */
static bool finish_connect(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLOUT};
    int error = 0, n;
    socklen_t len = sizeof(error);

    do
        n = poll(&p, 1, CONNECT_MS);
    while (n < 0 && errno == EINTR);
    if (n == 0)
        error = ETIMEDOUT;
    else if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) != 0)
        return false;
    errno = error;
    return error == 0;
}

static bool try_connect(const char *host, uint16_t port, int *ret, struct status *st)
{
    struct addrinfo *address;
    AUTO_CLOSE int fd = -1;
    bool ok;

    if (!set_address(host, port, &address, st))
        return false;
    fd = socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    ok = fd >= 0 && (connect(fd, address->ai_addr, address->ai_addrlen) == 0 ||
                     (errno == EINPROGRESS && finish_connect(fd)));
    freeaddrinfo(address);
    if (!ok && errno == ECONNREFUSED)
        return fault(st, RECORDER_PORT_CLOSED, "nothing listens on port %u of %s", port, host);
    if (!ok) {
        int error = errno;

        fault(st, RECORDER_UNREACHABLE, "port %u of %s cannot be reached", port, host);
        return fault_add_errno(st, error);
    }
    *ret = take_fd(&fd);
    return true;
}

static bool open_connection(const char *host, uint16_t port, int *ret, struct status *st)
{
    struct status second;
    int one = 1;

    if (!try_connect(host != NULL ? host : "127.0.0.1", port, ret, st)) {
        if (host != NULL || st->reason != RECORDER_PORT_CLOSED)
            return false;
        if (!try_connect("::1", port, ret, &second))
            return fault(st, RECORDER_PORT_CLOSED, "nothing listens on port %u of the sandbox",
                         port);
        *st = STATUS_INIT;
    }
    setsockopt(*ret, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    return true;
}

/* --- on the way down --- */

static void add_frame(struct buf *to, const void *data, size_t len)
{
    uint8_t header[DIAL_HEADER];

    dial_put_header(header, len);
    buf_append(to, header, sizeof(header));
    buf_append(to, data, len);
}

/* The first frame: where the connection leads. */
static void add_address(struct connection *c)
{
    struct sockaddr_storage address;
    socklen_t len = sizeof(address);
    char host[INET6_ADDRSTRLEN] = "?", service[8] = "?", text[sizeof(host) + sizeof(service) + 3];

    if (getpeername(c->fd, (struct sockaddr *)&address, &len) == 0)
        getnameinfo((struct sockaddr *)&address, len, host, sizeof(host), service, sizeof(service),
                    NI_NUMERICHOST | NI_NUMERICSERV);
    snprintf(text, sizeof(text), strchr(host, ':') != NULL ? "[%s]:%s" : "%s:%s", host, service);
    add_frame(&c->down, text, strlen(text));
}

static bool lost(struct status *st)
{
    int error = errno;

    fault(st, RECORDER_CONNECTION_LOST, "the server in the sandbox broke the connection");
    return fault_add_errno(st, error);
}

static bool take_down(struct connection *c, struct status *st)
{
    static uint8_t data[PIECE];
    uint8_t end[DIAL_HEADER];
    ssize_t n = recv(c->fd, data, sizeof(data), 0);

    if (n < 0)
        return errno == EAGAIN || errno == EINTR || lost(st);
    if (n > 0) {
        add_frame(&c->down, data, (size_t)n);
    } else {
        c->down_end = true;
        dial_put_end(end);
        buf_append(&c->down, end, sizeof(end));
    }
    return true;
}

static void pass_down(struct connection *c)
{
    size_t len = buf_len(&c->down);
    /* So much never blocks where there is room at all. */
    ssize_t n =
        write(c->out.fd, buf_data(&c->down), c->out.owned || len < PIPE_BUF ? len : PIPE_BUF);

    if (n > 0)
        buf_consume(&c->down, (size_t)n);
    else if (n < 0 && errno != EAGAIN && errno != EINTR)
        c->done = true; /* nobody reads it */
}

/* --- on the way up --- */

static bool take_up(struct connection *c, struct status *st)
{
    static uint8_t data[PIECE];
    const uint8_t *at = data, *piece;
    ssize_t n = read(STDIN_FILENO, data, sizeof(data));
    size_t left = n > 0 ? (size_t)n : 0, len;
    bool whole;

    if (n < 0)
        return errno == EAGAIN || errno == EINTR || fault_errno(st, "stdin cannot be read");
    c->done = n == 0; /* nobody is there */
    c->heard_ns = clock_monotonic_ns();
    for (;;) {
        switch (dial_next(&c->parser, &at, &left, &piece, &len, &whole)) {
        case DIAL_MORE:
            return true;
        case DIAL_DATA:
            buf_append(&c->up, piece, len);
            break;
        case DIAL_BEAT:
            break;
        case DIAL_END:
            c->up_end = true;
            break;
        case DIAL_NONE:
            return fault(st, RECORDER_BAD_SPEC, "what came on stdin is no frame");
        }
    }
}

static bool pass_up(struct connection *c, struct status *st)
{
    ssize_t n = send(c->fd, buf_data(&c->up), buf_len(&c->up), MSG_NOSIGNAL);

    if (n < 0)
        return errno == EAGAIN || errno == EINTR || lost(st);
    buf_consume(&c->up, (size_t)n);
    c->heard_ns = clock_monotonic_ns();
    return true;
}

/* --- both --- */

static int patience_ms(const struct connection *c)
{
    int64_t limit_ms = buf_len(&c->up) > 0 ? STUCK_MS : c->silence_ms;
    int64_t left_ms = limit_ms - (clock_monotonic_ns() - c->heard_ns) / NS_PER_MS;

    return left_ms > 0 ? (int)left_ms : 0;
}

static bool step(struct connection *c, struct status *st)
{
    bool up = buf_len(&c->up) > 0, down = buf_len(&c->down) > 0;
    /* Errors of descriptors are reported unasked: those not waited for are left out. */
    struct pollfd p[] = {
        {.fd = up ? -1 : STDIN_FILENO, .events = POLLIN},
        {.fd = up || (!down && !c->down_end) ? c->fd : -1,
         .events = (short)((up ? POLLOUT : 0) | (!down && !c->down_end ? POLLIN : 0))},
        {.fd = c->out.fd, .events = down ? POLLOUT : 0},
    };
    int patience = patience_ms(c), n = poll(p, 3, patience);

    if (n < 0)
        return errno == EINTR || fault_errno(st, "poll");
    if (n == 0 && patience_ms(c) == 0)
        return fault(st, RECORDER_CONNECTION_LOST,
                     up ? "the server in the sandbox has taken nothing for 10 minutes"
                        : "nobody has asked for the connection any more");
    if (p[0].revents != 0 && !take_up(c, st))
        return false;
    if ((p[1].revents & ~POLLOUT) != 0 && !down && !c->down_end && !take_down(c, st))
        return false;
    if (up && p[1].revents != 0 && !pass_up(c, st))
        return false;
    if (p[2].revents != 0)
        pass_down(c);
    if (!down && (p[2].revents & (POLLERR | POLLNVAL)) != 0)
        c->done = true;
    if (c->up_end && !c->up_shut && buf_len(&c->up) == 0)
        c->up_shut = shutdown(c->fd, SHUT_WR) == 0 || errno == ENOTCONN;
    return true;
}

bool dial(const char *host, uint16_t port, int64_t silence_ms, struct status *st)
{
    struct connection c = {
        .fd = -1,
        .up = BUF_INIT(PIECE),
        .down = BUF_INIT(PIECE + 2 * DIAL_HEADER),
        .silence_ms = silence_ms > 0 ? silence_ms : DIAL_SILENCE_MS,
    };
    bool ok = open_connection(host, port, &c.fd, st);

    if (!ok)
        return false;
    signal(SIGPIPE, SIG_IGN);
    output_init(&c.out, STDOUT_FILENO);
    c.heard_ns = clock_monotonic_ns();
    add_address(&c);
    while (ok && !c.done && !(c.up_shut && c.down_end && buf_len(&c.down) == 0))
        ok = step(&c, st);
    close(c.fd);
    output_deinit(&c.out);
    buf_deinit(&c.up);
    buf_deinit(&c.down);
    return ok;
}
