/* See control.h. */
#include "runtime/recorder/control.h"

#include "common/base/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

static const struct sockaddr_un CONTROL = {.sun_family = AF_UNIX, .sun_path = "control"};

/*
 * Addresses have room for 107 bytes, and the directory's path may be longer: the call is made from
 * within it. The program has one thread, so nobody sees it there.
 */
static bool within(int dir, int fd, int (*call)(int, const struct sockaddr *, socklen_t))
{
    AUTO_CLOSE int back = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    int result, error;

    if (fchdir(dir) != 0)
        return false;
    result = call(fd, (const struct sockaddr *)&CONTROL, sizeof(CONTROL));
    error = errno;
    if (back < 0 || fchdir(back) != 0)
        result |= chdir("/");
    errno = error;
    return result == 0;
}

int control_listen(int dir)
{
    AUTO_CLOSE int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    mode_t mask = umask(0177);
    bool ok = fd >= 0 && within(dir, fd, bind) && listen(fd, SOMAXCONN) == 0;

    umask(mask);
    return ok ? take_fd(&fd) : -1;
}

int control_connect(int dir)
{
    AUTO_CLOSE int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

    if (fd < 0 || !within(dir, fd, connect))
        return -1;
    return take_fd(&fd);
}

bool control_send(int fd, const struct control_message *m, const void *data, int flags)
{
    struct control_message header = *m;
    struct iovec parts[2] = {
        {.iov_base = &header, .iov_len = sizeof(header)},
        {.iov_base = (void *)data, .iov_len = m->data_len},
    };
    struct msghdr packet = {.msg_iov = parts, .msg_iovlen = m->data_len > 0 ? 2 : 1};
    ssize_t n;

    do {
        n = sendmsg(fd, &packet, flags | MSG_NOSIGNAL);
    } while (n < 0 && errno == EINTR);
    return n >= 0;
}

int control_receive(int fd, struct control_packet *ret, int flags)
{
    ssize_t n;

    do {
        n = recv(fd, ret, sizeof(*ret), flags);
    } while (n < 0 && errno == EINTR);
    if (n < 0)
        return errno == ECONNRESET ? 0 : -1;
    if (n < (ssize_t)sizeof(ret->m) || ret->m.data_len > (size_t)n - sizeof(ret->m))
        return 0; /* closed, or not one of us */
    return 1;
}

bool control_ask(int fd, const struct control_message *m, const void *data,
                 struct control_packet *ret)
{
    struct timeval patience = {.tv_sec = 20};

    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
    if (!control_send(fd, m, data, 0))
        return false;
    if ((m->flags & CONTROL_MORE) != 0 && (m->kind == CONTROL_INPUT || m->kind == CONTROL_INPUT_AT))
        return true;
    return control_receive(fd, ret, 0) > 0 && ret->m.kind == CONTROL_RESULT;
}
