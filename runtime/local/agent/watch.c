/*
 * See watch.h. The table of watched directories is searched by descriptor for every event and by
 * path prefix when a directory moves: it is a sorted array, because the kernel gives out
 * descriptors in rising order.
 */
#include "runtime/local/agent/watch.h"

#include "common/base/cleanup.h"
#include "common/base/list.h"
#include "common/base/mem.h"
#include "common/base/utf8.h"
#include "runtime/local/agent/path.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    EVENTS = IN_CREATE | IN_MODIFY | IN_DELETE | IN_DELETE_SELF | IN_MOVED_TO | IN_MOVED_FROM |
             IN_MOVE_SELF | IN_ATTRIB,
    BATCH = 64 << 10,
    BATCHES_PER_ROUND = 4,
    DEPTH_MAX = 256,
    DIRECTORIES_MAX = 200000,
};

/* A directory that is watched. */
struct watched {
    int wd;
    char *path;  /* owned: absolute; NULL: it is watched no more */
    bool moving; /* it, or one above it, was moved away; where to is not known yet */
    bool gone;   /* out of the tree: what is told of it until IN_IGNORED is not ours */
};

/* ---- the table ---- */

/* Where wd is, or belongs. */
static size_t place_of(const struct watch *w, int wd)
{
    size_t low = 0, high = w->n;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (w->all[middle].wd < wd)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static struct watched *find(const struct watch *w, int wd)
{
    size_t i = place_of(w, wd);

    return i < w->n && w->all[i].wd == wd && w->all[i].path ? &w->all[i] : NULL;
}

/* Takes path. A directory that is watched already has a new path now. */
static void put(struct watch *w, int wd, char *path)
{
    size_t i = place_of(w, wd);

    if (i < w->n && w->all[i].wd == wd) {
        w->n_gone -= w->all[i].path == NULL;
        free(w->all[i].path);
        w->all[i].path = path;
        w->all[i].moving = false;
        return;
    }
    if (w->n == w->room) {
        w->room = w->room ? w->room * 2 : 16;
        w->all = xrealloc(w->all, w->room * sizeof(*w->all));
    }
    memmove(&w->all[i + 1], &w->all[i], (w->n - i) * sizeof(*w->all));
    w->all[i] = (struct watched){.wd = wd, .path = path};
    w->n++;
}

/* Keeps the place, so that a whole tree goes without moving the rest for each directory of it. */
static void forget(struct watch *w, struct watched *d)
{
    size_t kept = 0;

    free(d->path);
    d->path = NULL;
    if (++w->n_gone <= w->n / 2)
        return;
    for (size_t i = 0; i < w->n; i++)
        if (w->all[i].path)
            w->all[kept++] = w->all[i];
    w->n = kept;
    w->n_gone = 0;
}

static bool is_at_or_below(const char *path, const char *top)
{
    size_t len = strlen(top);

    return path && strncmp(path, top, len) == 0 && (path[len] == '\0' || path[len] == '/');
}

/* ---- watching ---- */

static char *below(const char *path, const char *name)
{
    return xasprintf("%s%s%s", path, path[1] ? "/" : "", name);
}

static void tell(struct watch *w, Filesystem__EventType type, const char *path)
{
    size_t root = w->root[1] ? strlen(w->root) : 0;
    const char *name = path[root] == '/' && path[root + 1] ? path + root + 1 : ".";

    if (utf8_is_valid((const uint8_t *)path, strlen(path))) /* nothing else can be told */
        w->ops->event(w, type, path, name);
}

/* False: errno is set. */
static bool add(struct watch *w, const char *path)
{
    int wd;

    if (w->n - w->n_gone == DIRECTORIES_MAX) {
        errno = ENOSPC;
        return false;
    }
    wd = inotify_add_watch(w->io.fd, path, EVENTS | IN_ONLYDIR);
    if (wd < 0)
        return false;
    put(w, wd, xstrdup(path));
    return true;
}

static bool is_directory(const char *path, const struct dirent *entry)
{
    struct stat info;

    if (entry->d_type != DT_UNKNOWN)
        return entry->d_type == DT_DIR;
    return lstat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

/* What cannot be watched because it is gone, or hidden from us, is left out. */
static bool is_worth_failing(int error)
{
    return error == ENOSPC || error == ENOMEM;
}

/*
 * Watches the directories below path, links not followed. With tell_all everything there is told as
 * created: it came before we watched, or it would have been an event.
 */
static bool add_below(struct watch *w, const char *path, bool tell_all, int depth)
{
    struct dirent **names;
    bool ok = true;
    int n = scandir(path, &names, NULL, alphasort);

    for (int i = 0; i < n; i++) {
        AUTO_FREE char *child = below(path, names[i]->d_name);

        if (ok && strcmp(names[i]->d_name, ".") != 0 && strcmp(names[i]->d_name, "..") != 0) {
            if (tell_all)
                tell(w, FILESYSTEM__EVENT_TYPE__EVENT_TYPE_CREATE, child);
            if (is_directory(child, names[i]) && depth < DEPTH_MAX)
                ok = add(w, child) ? add_below(w, child, tell_all, depth + 1)
                                   : !is_worth_failing(errno);
        }
        free(names[i]);
    }
    if (n >= 0)
        free(names);
    return ok;
}

static void fail(struct watch *w, const char *why)
{
    status_set(&w->failure, CODE_INTERNAL, 0, "watcher error: %s", why);
}

/* ---- events ---- */

static void mark_moving(struct watch *w, const char *top)
{
    for (size_t i = 0; i < w->n; i++)
        if (is_at_or_below(w->all[i].path, top))
            w->all[i].moving = true;
}

static void rename_moving(struct watch *w, const char *to)
{
    size_t top = SIZE_MAX;

    for (size_t i = 0; i < w->n; i++)
        if (w->all[i].path && w->all[i].moving && strlen(w->all[i].path) < top)
            top = strlen(w->all[i].path);
    for (size_t i = 0; i < w->n; i++) {
        if (!w->all[i].path || !w->all[i].moving)
            continue;
        char *path = xasprintf("%s%s", to, w->all[i].path + top);

        free(w->all[i].path);
        w->all[i].path = path;
        w->all[i].moving = false;
    }
}

/* They have left the tree. */
static void drop_moving(struct watch *w)
{
    for (size_t i = 0; i < w->n; i++) {
        if (!w->all[i].path || !w->all[i].moving)
            continue;
        w->all[i].moving = false;
        w->all[i].gone = true;
        inotify_rm_watch(w->io.fd, w->all[i].wd); /* IN_IGNORED follows */
    }
    w->moving = 0;
}

/* A directory has appeared in a tree: by mkdir, or moved from here or elsewhere. */
static void take_directory(struct watch *w, const struct inotify_event *event, const char *path)
{
    if (event->mask & IN_MOVED_TO && w->moving && event->cookie == w->moving) {
        w->moving = 0;
        rename_moving(w, path);
        return;
    }
    if (!(add(w, path) ? add_below(w, path, true, 0) : !is_worth_failing(errno)))
        fail(w, strerror(errno));
}

static void on_entry(struct watch *w, const struct inotify_event *event, const char *directory)
{
    AUTO_FREE char *path = event->len > 0 ? below(directory, event->name) : xstrdup(directory);
    bool is_tree = w->recursive && event->mask & IN_ISDIR;

    if (event->mask & (IN_CREATE | IN_MOVED_TO))
        tell(w, FILESYSTEM__EVENT_TYPE__EVENT_TYPE_CREATE, path);
    if (event->mask & IN_MOVED_FROM)
        tell(w, FILESYSTEM__EVENT_TYPE__EVENT_TYPE_RENAME, path);
    if (event->mask & IN_ATTRIB)
        tell(w, FILESYSTEM__EVENT_TYPE__EVENT_TYPE_CHMOD, path);
    if (event->mask & IN_MODIFY)
        tell(w, FILESYSTEM__EVENT_TYPE__EVENT_TYPE_WRITE, path);
    if (event->mask & IN_DELETE)
        tell(w, FILESYSTEM__EVENT_TYPE__EVENT_TYPE_REMOVE, path);
    if (is_tree && event->mask & IN_MOVED_FROM) {
        w->moving = event->cookie;
        mark_moving(w, path);
    }
    if (is_tree && event->mask & (IN_CREATE | IN_MOVED_TO))
        take_directory(w, event, path);
}

/* Of a directory below the root the one above it tells. IN_IGNORED follows. */
static void on_self_deleted(struct watch *w, const struct watched *d)
{
    if (strcmp(d->path, w->root) == 0)
        tell(w, FILESYSTEM__EVENT_TYPE__EVENT_TYPE_REMOVE, w->root);
}

/* After a move away, and to where it is now if that is in the tree. */
static void on_self_moved(struct watch *w, const struct watched *d)
{
    if (strcmp(d->path, w->root) != 0) {
        if (d->moving)
            drop_moving(w);
        return;
    }
    tell(w, FILESYSTEM__EVENT_TYPE__EVENT_TYPE_RENAME, w->root);
    mark_moving(w, w->root);
    drop_moving(w);
}

static void on_event(struct watch *w, const struct inotify_event *event)
{
    struct watched *d = find(w, event->wd);

    if (event->mask & IN_Q_OVERFLOW)
        fail(w, "events were lost, because they were not read in time");
    else if (!d)
        return; /* of one that was given up since */
    else if (event->mask & (IN_IGNORED | IN_UNMOUNT))
        forget(w, d);
    else if (d->gone)
        return;
    else if (event->mask & IN_DELETE_SELF)
        on_self_deleted(w, d);
    else if (event->mask & IN_MOVE_SELF)
        on_self_moved(w, d);
    else
        on_entry(w, event, d->path);
}

/*
 * Paused in the middle of a batch, the rest of it is told still: the callee has room for what one
 * read brings.
 */
static void on_readable(struct loop_fd *io, uint32_t events)
{
    static char batch[BATCH] __attribute__((aligned(__alignof__(struct inotify_event))));
    struct watch *w = container_of(io, struct watch, io);

    for (int round = 0; round < BATCHES_PER_ROUND && !w->paused && !w->failure.code; round++) {
        ssize_t n = read(io->fd, batch, sizeof(batch));

        if (n <= 0)
            break;
        for (char *at = batch; at < batch + n && !w->failure.code;) {
            const struct inotify_event *event = (const struct inotify_event *)(void *)at;

            at += sizeof(*event) + event->len;
            on_event(w, event);
        }
    }
    if (w->failure.code) {
        struct status st = w->failure;

        loop_remove(w->loop, &w->io);
        w->ops->failed(w, &st);
    }
}

bool watch_open(struct watch *w, struct loop *l, const char *root, bool recursive,
                const struct watch_ops *ops, struct status *st)
{
    bool added;

    *w = (struct watch){.loop = l, .ops = ops, .recursive = recursive, .root = path_clean(root)};
    w->io.ready = on_readable;
    /* A client that has an answer may ask for the events it brought, or go on in a new directory.
     */
    w->io.first = true;
    w->io.fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (w->io.fd < 0) {
        status_set(st, CODE_INTERNAL, 0, "error creating watcher: %s", strerror(errno));
        watch_close(w);
        return false;
    }
    added = add(w, w->root) && (!recursive || add_below(w, w->root, false, 0));
    if (!added) {
        status_set(st, CODE_INTERNAL, 0, "error adding path %s to watcher: %s", w->root,
                   strerror(errno));
        watch_close(w);
        return false;
    }
    if (loop_add(l, &w->io, EPOLLIN, st))
        return true;
    watch_close(w);
    return false;
}

void watch_close(struct watch *w)
{
    if (w->io.fd >= 0) {
        loop_remove(w->loop, &w->io);
        close(w->io.fd);
        w->io.fd = -1;
    }
    for (size_t i = 0; i < w->n; i++)
        free(w->all[i].path);
    free(w->all);
    free(w->root);
    w->all = NULL;
    w->n = w->n_gone = w->room = 0;
    w->root = NULL;
}

void watch_pause(struct watch *w)
{
    w->paused = true;
    if (!w->failure.code)
        loop_modify(w->loop, &w->io, 0);
}

void watch_resume(struct watch *w)
{
    w->paused = false;
    if (!w->failure.code)
        loop_modify(w->loop, &w->io, EPOLLIN);
}
