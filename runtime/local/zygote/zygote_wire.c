/*
 * See zygote_wire.h.
 *
 * Descriptors are sent as a mask of those that are there, one byte in front of the packet, and
 * then these: a descriptor that is not there cannot be sent.
 */
#include "runtime/local/zygote/zygote_wire.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

union control {
    struct cmsghdr header;
    char room[CMSG_SPACE(ZYGOTE_FDS_MAX * sizeof(int))];
};

bool zygote_send(int to, const void *data, size_t len, const int *fds, size_t n, int flags)
{
    uint8_t mask = 0;
    int there[ZYGOTE_FDS_MAX];
    size_t n_there = 0;
    struct iovec parts[] = {{&mask, 1}, {(void *)data, len}};
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
    union control control = {.room = {0}};
    ssize_t sent;

    assert(n <= ZYGOTE_FDS_MAX);
    for (size_t i = 0; i < n; i++) {
        if (fds[i] < 0)
            continue;
        mask |= (uint8_t)(1U << i);
        there[n_there++] = fds[i];
    }
    if (n_there > 0) {
        control.header = (struct cmsghdr){.cmsg_len = CMSG_LEN(n_there * sizeof(int)),
                                          .cmsg_level = SOL_SOCKET,
                                          .cmsg_type = SCM_RIGHTS};
        memcpy(CMSG_DATA(&control.header), there, n_there * sizeof(int));
        message.msg_control = &control;
        message.msg_controllen = CMSG_SPACE(n_there * sizeof(int));
    }
    do
        sent = sendmsg(to, &message, MSG_NOSIGNAL | flags);
    while (sent < 0 && errno == EINTR);
    return sent == (ssize_t)(len + 1);
}

/* Gives each descriptor its place; what has none is closed. */
static void sort_out(const struct msghdr *message, uint8_t mask, int *fds, size_t n)
{
    struct cmsghdr *header = CMSG_FIRSTHDR(message);
    int there[ZYGOTE_FDS_MAX];
    size_t n_there = 0, used = 0;

    if (header && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS) {
        n_there = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        memcpy(there, CMSG_DATA(header), n_there * sizeof(int));
    }
    for (size_t i = 0; i < n; i++)
        fds[i] = mask & (1U << i) && used < n_there ? there[used++] : -1;
    while (used < n_there)
        close(there[used++]);
}

ssize_t zygote_receive(int from, void *data, size_t size, int *fds, size_t n, int flags)
{
    uint8_t mask = 0;
    struct iovec parts[] = {{&mask, 1}, {data, size}};
    union control control;
    struct msghdr message = {.msg_iov = parts,
                             .msg_iovlen = 2,
                             .msg_control = &control,
                             .msg_controllen = sizeof control};
    ssize_t received;

    assert(n <= ZYGOTE_FDS_MAX);
    for (size_t i = 0; i < n; i++)
        fds[i] = -1;
    do
        received = recvmsg(from, &message, MSG_CMSG_CLOEXEC | flags);
    while (received < 0 && errno == EINTR);
    if (received <= 0)
        return received;
    sort_out(&message, mask, fds, n);
    return received - 1;
}
