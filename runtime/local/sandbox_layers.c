/*
 * See sandbox_layers.h. The zygote makes the clones, which takes powers over the host's mounts; the
 * sandbox's first process attaches them in its own mount namespace. In between they hang nowhere.
 */
#include "runtime/local/sandbox_layers.h"

#include "common/base/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

static int clone_mapped(const char *path, int namespace_fd)
{
    struct mount_attr attr = {
        .attr_set = MOUNT_ATTR_IDMAP | MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV,
        .userns_fd = (uint64_t)namespace_fd,
    };
    AUTO_CLOSE int tree =
        (int)syscall(SYS_open_tree, AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);

    if (tree < 0 || syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH, &attr, sizeof attr) < 0)
        return -1;
    return take_fd(&tree);
}

bool sandbox_layers_can_map(const char *path, int namespace_fd)
{
    AUTO_CLOSE int tree = clone_mapped(path, namespace_fd);

    return tree >= 0;
}

union control {
    struct cmsghdr header;
    char room[CMSG_SPACE(SANDBOX_LAYERS * sizeof(int))];
};

/* The descriptors of those that are mapped, in order; one byte goes along. */
static bool send_word(int sync_fd, const int *fds, size_t n)
{
    struct iovec part = {(char[]){"go"}, 1};
    union control control = {.room = {0}};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};

    if (n > 0) {
        control.header = (struct cmsghdr){.cmsg_len = CMSG_LEN(n * sizeof *fds),
                                          .cmsg_level = SOL_SOCKET,
                                          .cmsg_type = SCM_RIGHTS};
        memcpy(CMSG_DATA(&control.header), fds, n * sizeof *fds);
        message.msg_control = &control;
        message.msg_controllen = CMSG_SPACE(n * sizeof *fds);
    }
    return sendmsg(sync_fd, &message, MSG_NOSIGNAL) == 1;
}

bool sandbox_layers_send(const struct sandbox_host *host, int sync_fd, int namespace_fd)
{
    int fds[SANDBOX_LAYERS], error;
    size_t n = 0;
    bool done = true;

    for (int i = 0; i < host->n_layers && done; i++) {
        if (!host->layer[i].mapped)
            continue;
        fds[n] = clone_mapped(host->layer[i].lower, namespace_fd);
        done = fds[n] >= 0;
        n += done;
    }
    done = done && send_word(sync_fd, fds, n);
    error = errno;
    while (n > 0)
        close(fds[--n]);
    errno = error;
    return done;
}

bool sandbox_layers_receive(const struct sandbox_host *host, int sync_fd, int fd[SANDBOX_LAYERS])
{
    char word;
    struct iovec part = {&word, 1};
    union control control;
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = &control,
                             .msg_controllen = sizeof control};
    int received[SANDBOX_LAYERS];
    size_t n = 0, used = 0;
    const struct cmsghdr *header;

    if (recvmsg(sync_fd, &message, MSG_CMSG_CLOEXEC) != 1)
        return false;
    header = CMSG_FIRSTHDR(&message);
    if (header && header->cmsg_type == SCM_RIGHTS) {
        n = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        memcpy(received, CMSG_DATA(header), n * sizeof(int));
    }
    for (int i = 0; i < SANDBOX_LAYERS; i++)
        fd[i] = i < host->n_layers && host->layer[i].mapped && used < n ? received[used++] : -1;
    return true;
}
