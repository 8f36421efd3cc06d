/*
 * See notice.h. Run as a watch's command: its writer journals what it writes. inotify tells of one
 * directory at a time, so below a recursive watch every directory has its own; one that comes into
 * being is watched first and then looked through, and what is found there is told as created. The
 * kernel may tell of the same once more: what was found is remembered until its queue is empty.
 */
#include "runtime/recorder/notice.h"

#include "common/base/buf.h"
#include "common/base/cleanup.h"
#include "common/base/mem.h"
#include "common/base/utf8.h"
#include "common/journal/pb.h"
#include "runtime/recorder/fault.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    MASK = IN_CREATE | IN_MODIFY | IN_ATTRIB | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO |
           IN_DELETE_SELF | IN_ONLYDIR | IN_EXCL_UNLINK,
    RECORD_MAX = PIPE_BUF, /* so much is one packet */
    PAIR_MS = 20,          /* the two halves of a rename stand together in the queue */
};

/* sandbox.v1.FileChange.Type */
enum change_type {
    CHANGE_CREATED = 1,
    CHANGE_WRITTEN = 2,
    CHANGE_REMOVED = 3,
    CHANGE_RENAMED = 4,
    CHANGE_MODE = 5,
    CHANGE_READY = 6,
    CHANGE_MISSED = 7,
};

/* Fields of sandbox.v1.FileChange. */
enum {
    FIELD_TYPE = 1,
    FIELD_PATH = 2,
    FIELD_NEW_PATH = 3,
    FIELD_IS_DIRECTORY = 4,
    FIELD_REASON = 5
};

struct watched_dir {
    int wd;
    char *path; /* owned; below the root, which is "" */
};

struct noticer {
    const char *root; /* borrowed; absolute */
    bool recursive;
    int fd; /* owned; inotify */
    struct watched_dir *dirs;
    size_t n_dirs; /* in the order of wd, which only grows */
    void *found;   /* tsearch: paths that were told before the kernel tells of them */
    char *moved;   /* owned; what left its place, to where is not known yet; NULL: nothing */
    uint32_t cookie;
    bool moved_is_dir;
    bool gone; /* the root is, or nobody listens */
};

/* --- telling --- */

static void put(struct noticer *n, enum change_type type, const char *path, const char *new_path,
                bool is_dir, const char *reason)
{
    AUTO(buf_deinit) struct buf b = BUF_INIT(4 * PATH_MAX);
    AUTO_FREE char *from = xstrdup(path), *to = xstrdup(new_path);

    utf8_sanitize(from);
    utf8_sanitize(to);
    pb_add_uint(&b, FIELD_TYPE, type);
    if (from[0] != '\0')
        pb_add_bytes(&b, FIELD_PATH, from, strlen(from));
    if (to[0] != '\0')
        pb_add_bytes(&b, FIELD_NEW_PATH, to, strlen(to));
    pb_add_uint(&b, FIELD_IS_DIRECTORY, is_dir);
    if (reason[0] != '\0')
        pb_add_bytes(&b, FIELD_REASON, reason, strlen(reason));
    if (buf_len(&b) > RECORD_MAX)
        put(n, CHANGE_MISSED, "", "", false, "a path is too long to be told");
    else if (write(STDOUT_FILENO, buf_data(&b), buf_len(&b)) < 0)
        n->gone = true;
}

static void tell(struct noticer *n, enum change_type type, const char *path, bool is_dir)
{
    put(n, type, path, "", is_dir, "");
}

static void tell_missed(struct noticer *n, const char *path, const char *reason)
{
    put(n, CHANGE_MISSED, path, "", false, reason);
}

/* --- what was found, and will be told of again --- */

static int by_text(const void *a, const void *b)
{
    return strcmp(a, b);
}

static void remember(struct noticer *n, const char *path)
{
    char *copy = xstrdup(path);

    if (*(char **)tsearch(copy, &n->found, by_text) != copy)
        free(copy);
}

/* Whether it was there. */
static bool forget(struct noticer *n, const char *path)
{
    char **node = tfind(path, &n->found, by_text), *copy;

    if (node == NULL)
        return false;
    copy = *node;
    tdelete(path, &n->found, by_text);
    free(copy);
    return true;
}

static void forget_all(struct noticer *n)
{
    while (n->found != NULL) {
        char *first = *(char **)n->found;

        forget(n, first);
    }
}

/* --- directories --- */

static char *join(const char *dir, const char *name)
{
    return dir[0] == '\0' ? xstrdup(name) : xasprintf("%s/%s", dir, name);
}

static char *absolute(const struct noticer *n, const char *path)
{
    if (path[0] == '\0')
        return xstrdup(n->root);
    return xasprintf("%s/%s", strcmp(n->root, "/") == 0 ? "" : n->root, path);
}

static struct watched_dir *find_dir(const struct noticer *n, int wd)
{
    size_t low = 0, high = n->n_dirs;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (n->dirs[middle].wd < wd)
            low = middle + 1;
        else
            high = middle;
    }
    return low < n->n_dirs && n->dirs[low].wd == wd ? &n->dirs[low] : NULL;
}

static void add_dir(struct noticer *n, int wd, const char *path)
{
    struct watched_dir *known = find_dir(n, wd);

    if (known != NULL) {
        free(known->path);
        known->path = xstrdup(path);
        return;
    }
    if ((n->n_dirs & (n->n_dirs + 1)) == 0)
        n->dirs = xrealloc(n->dirs, 2 * (n->n_dirs + 1) * sizeof(*n->dirs));
    n->dirs[n->n_dirs++] = (struct watched_dir){.wd = wd, .path = xstrdup(path)};
}

static void remove_dir(struct noticer *n, struct watched_dir *d)
{
    size_t at = (size_t)(d - n->dirs);

    free(d->path);
    memmove(d, d + 1, (n->n_dirs - at - 1) * sizeof(*d));
    n->n_dirs--;
}

/* The rest of path behind dir, "" or from its slash on; NULL when it is not below it. */
static const char *below(const char *path, const char *dir)
{
    size_t len = strlen(dir);

    return strncmp(path, dir, len) == 0 && (path[len] == '\0' || path[len] == '/') ? path + len
                                                                                   : NULL;
}

/* Directories have another name now; NULL: they are none of ours any more. */
static void move_dirs(struct noticer *n, const char *from, const char *to)
{
    for (size_t i = 0; i < n->n_dirs; i++) {
        const char *rest = below(n->dirs[i].path, from);
        char *path;

        if (rest == NULL)
            continue;
        if (to == NULL) {
            inotify_rm_watch(n->fd, n->dirs[i].wd); /* IN_IGNORED follows */
            continue;
        }
        path = xasprintf("%s%s", to, rest);
        free(n->dirs[i].path);
        n->dirs[i].path = path;
    }
}

static void add_tree(struct noticer *n, const char *path, bool new);

/* One entry of a directory that was not watched while it was made. */
static void look_at(struct noticer *n, int dir, const char *path, const char *name, bool new)
{
    struct stat info;

    if (fstatat(dir, name, &info, AT_SYMLINK_NOFOLLOW) != 0)
        return;
    if (new) {
        remember(n, path);
        tell(n, CHANGE_CREATED, path, S_ISDIR(info.st_mode));
        if (S_ISREG(info.st_mode) && info.st_size > 0)
            tell(n, CHANGE_WRITTEN, path, false);
    }
    if (S_ISDIR(info.st_mode) && n->recursive)
        add_tree(n, path, new);
}

static void look_through(struct noticer *n, const char *path, bool new)
{
    AUTO_FREE char *whole = absolute(n, path);
    DIR *dir = opendir(whole);
    struct dirent *e;

    while (dir != NULL && (e = readdir(dir)) != NULL) {
        AUTO_FREE char *child = join(path, e->d_name);

        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
            look_at(n, dirfd(dir), child, e->d_name, new);
    }
    if (dir != NULL)
        closedir(dir);
}

/* Watches a directory, and what is below. new: it was made while somebody watched. */
static void add_tree(struct noticer *n, const char *path, bool new)
{
    AUTO_FREE char *whole = absolute(n, path);
    int wd =
        inotify_add_watch(n->fd, whole, path[0] == '\0' ? MASK : (uint32_t)MASK | IN_DONT_FOLLOW);

    if (wd < 0) {
        /* What is gone again has had its events, or will. */
        if (errno != ENOENT && errno != ENOTDIR && errno != ELOOP)
            tell_missed(n, path,
                        errno == ENOSPC ? "the sandbox watches as many directories as it may"
                                        : strerror(errno));
        return;
    }
    add_dir(n, wd, path);
    if (n->recursive)
        look_through(n, path, new);
}

/* --- events --- */

/* What left its place did not come to another one of ours. */
static void settle_moved(struct noticer *n)
{
    AUTO_FREE char *from = TAKE(n->moved);

    if (from == NULL)
        return;
    put(n, CHANGE_RENAMED, from, "", n->moved_is_dir, "");
    if (n->moved_is_dir)
        move_dirs(n, from, NULL);
}

static void came(struct noticer *n, const char *path, bool is_dir)
{
    if (forget(n, path))
        return;
    tell(n, CHANGE_CREATED, path, is_dir);
    if (is_dir && n->recursive)
        add_tree(n, path, true);
}

static void moved_to(struct noticer *n, const char *path, bool is_dir, uint32_t cookie)
{
    AUTO_FREE char *from = NULL;

    if (n->moved == NULL || n->cookie != cookie) {
        settle_moved(n);
        came(n, path, is_dir);
        return;
    }
    from = TAKE(n->moved);
    put(n, CHANGE_RENAMED, from, path, is_dir, "");
    if (is_dir)
        move_dirs(n, from, path);
}

/* Something happened to an entry of a directory. */
static void take_entry(struct noticer *n, const struct inotify_event *e, const char *path)
{
    bool is_dir = (e->mask & IN_ISDIR) != 0;

    if ((e->mask & IN_MOVED_TO) != 0) {
        moved_to(n, path, is_dir, e->cookie);
        return;
    }
    settle_moved(n);
    if ((e->mask & IN_CREATE) != 0)
        came(n, path, is_dir);
    if ((e->mask & IN_MODIFY) != 0)
        tell(n, CHANGE_WRITTEN, path, is_dir);
    if ((e->mask & IN_ATTRIB) != 0)
        tell(n, CHANGE_MODE, path, is_dir);
    if ((e->mask & IN_DELETE) != 0) {
        forget(n, path);
        tell(n, CHANGE_REMOVED, path, is_dir);
    }
    if ((e->mask & IN_MOVED_FROM) != 0) {
        forget(n, path);
        n->moved = xstrdup(path);
        n->moved_is_dir = is_dir;
        n->cookie = e->cookie;
    }
}

static void take_event(struct noticer *n, const struct inotify_event *e)
{
    struct watched_dir *d = find_dir(n, e->wd);

    if ((e->mask & IN_Q_OVERFLOW) != 0) {
        settle_moved(n);
        tell_missed(n, "", "more changed at once than the sandbox's system keeps");
        add_tree(n, "", false); /* directories may have been made meanwhile */
    } else if (d == NULL) {
        return;
    } else if ((e->mask & (IN_DELETE_SELF | IN_UNMOUNT)) != 0 && d->path[0] == '\0') {
        settle_moved(n);
        tell(n, CHANGE_REMOVED, "", true);
        n->gone = true;
    } else if ((e->mask & IN_IGNORED) != 0) {
        remove_dir(n, d);
    } else if (e->len > 0) {
        AUTO_FREE char *path = join(d->path, e->name);

        take_entry(n, e, path);
    }
}

/* Takes what is there. False: nothing is. */
static bool take_events(struct noticer *n)
{
    static char data[64 * 1024] __attribute__((aligned(__alignof__(struct inotify_event))));
    ssize_t len = read(n->fd, data, sizeof(data));

    for (ssize_t at = 0; at < len && !n->gone;) {
        const struct inotify_event *e = (const void *)(data + at);

        take_event(n, e);
        at += (ssize_t)sizeof(*e) + e->len;
    }
    return len > 0;
}

static void run(struct noticer *n)
{
    struct pollfd p = {.fd = n->fd, .events = POLLIN};

    while (!n->gone) {
        if (take_events(n))
            continue;
        forget_all(n); /* the kernel has told all that we were ahead of */
        if (poll(&p, 1, n->moved != NULL ? PAIR_MS : -1) == 0)
            settle_moved(n);
    }
}

bool notice(const char *path, bool recursive, struct status *st)
{
    struct noticer n = {.root = path, .recursive = recursive};

    n.fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (n.fd < 0) {
        int error = errno;

        tell_missed(&n, "", "the sandbox has as many watchers as it may");
        errno = error;
        return fault_errno(st, "changes cannot be watched");
    }
    add_tree(&n, "", false);
    if (n.n_dirs > 0) {
        tell(&n, CHANGE_READY, "", true);
        run(&n);
    }
    forget_all(&n);
    free(n.moved);
    while (n.n_dirs > 0)
        remove_dir(&n, &n.dirs[n.n_dirs - 1]);
    free(n.dirs);
    close(n.fd);
    return true;
}
