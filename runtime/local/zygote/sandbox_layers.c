/*
 * See sandbox_layers.h. The zygote makes the clones, which takes powers over the host's mounts; the
 * sandbox's first process attaches them in its own mount namespace. In between they hang nowhere.
 */
#include "runtime/local/zygote/sandbox_layers.h"

#include "common/base/cleanup.h"
#include "common/base/mem.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/mount.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* --- what there is --- */

struct sandbox_layer *sandbox_layers_add(struct sandbox_layers *layers, const char *name,
                                         const char *lower)
{
    struct sandbox_layer *layer = &layers->layer[layers->n];
    char link[PATH_MAX];
    struct stat info;
    ssize_t n;

    if (lstat(lower, &info) < 0 || !(S_ISDIR(info.st_mode) || S_ISLNK(info.st_mode)))
        return NULL;
    n = S_ISLNK(info.st_mode) ? readlink(lower, link, sizeof link - 1) : 0;
    if (n < 0)
        return NULL;
    link[n] = '\0';
    *layer = (struct sandbox_layer){.name = xstrdup(name),
                                    .lower = xstrdup(lower),
                                    .link = n > 0 ? xstrdup(link) : NULL,
                                    .mode = info.st_mode & 07777,
                                    .uid = info.st_uid,
                                    .gid = info.st_gid};
    layers->n++;
    return layer;
}

/* Every sandbox has these of its own. */
static bool is_own(const char *name)
{
    static const char *const own[] = {".", "..", "dev", "proc", "sys", "run", "tmp", "lost+found"};

    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        if (strcmp(name, own[i]) == 0)
            return true;
    return false;
}

/* Files at the top of it are left out: what is there are directories, and links to them. */
bool sandbox_layers_read(struct sandbox_layers *ret, const char *rootfs, bool cloned,
                         struct status *st)
{
    DIR *dir = opendir(rootfs);
    struct dirent *entry;
    bool fits = true;

    ret->foreign = true;
    if (!dir)
        return status_set(st, CODE_FAILED_PRECONDITION, 0,
                          "the template's root file system %s cannot be read: %s", rootfs,
                          strerror(errno));
    while (fits && (entry = readdir(dir)) != NULL) {
        AUTO_FREE char *lower = xasprintf("%s/%s", rootfs, entry->d_name);
        struct sandbox_layer *layer;

        if (is_own(entry->d_name))
            continue;
        /* A mount's options are text, which these would end. */
        fits = ret->n < SANDBOX_LAYERS && !strpbrk(entry->d_name, ",:\\");
        layer = fits ? sandbox_layers_add(ret, entry->d_name, lower) : NULL;
        if (layer)
            layer->cloned = cloned && !layer->link;
    }
    closedir(dir);
    return fits ||
           status_set(st, CODE_FAILED_PRECONDITION, 0,
                      "the template's root file system %s has more than %d directories at its "
                      "top, or one with a comma, a colon or a backslash in its name",
                      rootfs, SANDBOX_LAYERS);
}

void sandbox_layers_deinit(struct sandbox_layers *layers)
{
    while (layers->n > 0) {
        struct sandbox_layer *layer = &layers->layer[--layers->n];

        free(layer->name);
        free(layer->lower);
        free(layer->link);
    }
}

const struct sandbox_layer *sandbox_layers_find(const struct sandbox_layers *layers,
                                                const char *path)
{
    size_t len = strcspn(path, "/");

    for (int i = 0; i < layers->n; i++)
        if (strlen(layers->layer[i].name) == len && memcmp(layers->layer[i].name, path, len) == 0)
            return &layers->layer[i];
    return NULL;
}

/* --- its clones --- */

/* namespace_fd: whose ids it is mapped to; -1: it is not. */
static int clone_mapped(const char *path, int namespace_fd)
{
    struct mount_attr attr = {
        .attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV |
                    (namespace_fd >= 0 ? MOUNT_ATTR_IDMAP : 0),
        .userns_fd = namespace_fd >= 0 ? (uint64_t)namespace_fd : 0,
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

/* A template's may be on a file system that cannot be mapped: then its files are nobody's inside.
 */
static int clone_layer(const struct sandbox_layers *layers, int i, int namespace_fd)
{
    int fd = clone_mapped(layers->layer[i].lower, namespace_fd);

    if (fd < 0 && errno == EINVAL && layers->foreign)
        fd = clone_mapped(layers->layer[i].lower, -1);
    return fd;
}

bool sandbox_layers_send(const struct sandbox_layers *layers, int sync_fd, int namespace_fd)
{
    int fds[SANDBOX_LAYERS], error;
    size_t n = 0;
    bool done = true;

    for (int i = 0; i < layers->n && done; i++) {
        if (!layers->layer[i].cloned)
            continue;
        fds[n] = clone_layer(layers, i, namespace_fd);
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

bool sandbox_layers_receive(const struct sandbox_layers *layers, int sync_fd,
                            int fd[SANDBOX_LAYERS])
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
        fd[i] = i < layers->n && layers->layer[i].cloned && used < n ? received[used++] : -1;
    return true;
}
