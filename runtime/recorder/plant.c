/* See plant.h. */
#include "runtime/recorder/plant.h"

#include "common/base/cleanup.h"
#include "common/base/fd.h"
#include "common/base/mem.h"
#include "common/base/utf8.h"
#include "runtime/recorder/fault.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { STEP = 256 * 1024, MODE_MAX = 0777 };

#ifndef RENAME_NOREPLACE
#define RENAME_NOREPLACE 1
#endif

void plant_init(struct plant *p, int root, enum unpack_existing existing,
                const uint8_t key[SHA256_LEN])
{
    *p = (struct plant){.root = root, .existing = existing, .parent = -1, .block = xmalloc(STEP)};
    snprintf(p->temp, sizeof(p->temp), ".sandboxd-tree-%02x%02x%02x%02x%02x%02x", key[0], key[1],
             key[2], key[3], key[4], key[5]);
}

static void leave_parent(struct plant *p)
{
    if (p->parent >= 0)
        close(p->parent);
    p->parent = -1;
    free(p->parent_path);
    p->parent_path = NULL;
}

void plant_deinit(struct plant *p)
{
    leave_parent(p);
    for (size_t i = 0; i < p->n_dirs; i++)
        free(p->dirs[i].path);
    free(p->dirs);
    free(p->block);
}

/* --- the way to an entry --- */

static int open_dir(int at, const char *name, int how)
{
    return openat(at, name, how | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

/* One step down; a directory that is missing is made. -1 with errno set. */
static int step_down(int at, const char *name, bool make)
{
    int fd = open_dir(at, name, O_PATH);

    if (fd >= 0 || errno != ENOENT || !make)
        return fd;
    if (mkdirat(at, name, 0755) != 0 && errno != EEXIST)
        return -1;
    return open_dir(at, name, O_PATH);
}

/* The directory that the entry is in: borrowed, until the next call. -1 with errno set. */
static int parent_of(struct plant *p, const char *path, bool make)
{
    const char *slash = strrchr(path, '/');
    size_t len = slash != NULL ? (size_t)(slash - path) : 0;
    AUTO_FREE char *way = xstrndup(path, len);
    char *save, *part;
    int fd = -1;

    if (len == 0)
        return p->root;
    if (p->parent_path != NULL && strcmp(p->parent_path, way) == 0)
        return p->parent;
    leave_parent(p);
    p->parent_path = xstrdup(way);
    for (part = strtok_r(way, "/", &save); part != NULL; part = strtok_r(NULL, "/", &save)) {
        int next = step_down(fd >= 0 ? fd : p->root, part, make);
        int error = errno;

        if (fd >= 0)
            close(fd);
        fd = next;
        if (fd < 0) {
            leave_parent(p);
            errno = error;
            return -1;
        }
    }
    return p->parent = fd;
}

static const char *name_of(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash != NULL ? slash + 1 : path;
}

static bool entry_fault(struct status *st, const char *path)
{
    return place_fault(st, path);
}

/* In the way of a directory. */
static bool not_a_directory(struct status *st, const char *path)
{
    AUTO_FREE char *text = utf8_repair((const uint8_t *)path, strlen(path));

    return fault(st, RECORDER_NOT_A_DIRECTORY,
                 "%.400s: what is there, or on the way to it, is no directory (links are not "
                 "followed)",
                 text);
}

static bool way_fault(struct status *st, const char *path)
{
    return errno == ENOTDIR || errno == ELOOP ? not_a_directory(st, path) : entry_fault(st, path);
}

/* --- giving it its name --- */

static bool rename_new(int dir, const char *from, const char *to)
{
    if (syscall(SYS_renameat2, dir, from, dir, to, RENAME_NOREPLACE) == 0)
        return true;
    if (errno != EINVAL && errno != ENOSYS)
        return false;
    /* A filesystem that does not know how: a second name is never given over a first one. */
    if (linkat(dir, from, dir, to, 0) != 0)
        return false;
    unlinkat(dir, from, 0);
    return true;
}

/* What is called temp becomes the entry, or is gone. */
static bool take_name(struct plant *p, int dir, const struct tar_entry *e, bool *ret_kept,
                      struct status *st)
{
    const char *name = name_of(e->path);
    bool ok;

    if (p->existing == UNPACK_REPLACE)
        ok = renameat(dir, p->temp, dir, name) == 0;
    else
        ok = rename_new(dir, p->temp, name);
    if (!ok && errno == EISDIR)
        errno = EEXIST;
    if (!ok && errno == EEXIST && p->existing == UNPACK_KEEP)
        *ret_kept = ok = true;
    if (!ok)
        entry_fault(st, e->path);
    unlinkat(dir, p->temp, 0); /* also where both were names of one file: rename() does nothing */
    return ok;
}

/* --- the kinds of entries --- */

static bool copy(struct plant *p, struct tar_reader *r, int fd, const struct tar_entry *e,
                 struct status *st)
{
    ssize_t n;

    while ((n = tar_content(r, p->block, STEP)) > 0) {
        if (!fd_write_all(fd, p->block, (size_t)n))
            return entry_fault(st, e->path);
    }
    return n == 0 || fault(st, RECORDER_BAD_ARCHIVE, "the archive is cut short");
}

static bool set_times(int dir, const char *name, const struct tar_entry *e)
{
    struct timespec times[2] = {{.tv_nsec = UTIME_NOW},
                                {.tv_sec = e->mtime_s, .tv_nsec = (long)e->mtime_ns}};

    return utimensat(dir, name, times, AT_SYMLINK_NOFOLLOW) == 0;
}

static bool make_file(struct plant *p, struct tar_reader *r, int dir, const struct tar_entry *e,
                      struct status *st)
{
    AUTO_CLOSE int fd =
        openat(dir, p->temp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);

    if (fd < 0)
        return entry_fault(st, e->path);
    if (!copy(p, r, fd, e, st))
        return false;
    if (fchmod(fd, e->mode & MODE_MAX) != 0 || !set_times(dir, p->temp, e))
        return entry_fault(st, e->path);
    return true;
}

static bool make_symlink(struct plant *p, int dir, const struct tar_entry *e, struct status *st)
{
    return (symlinkat(e->link, dir, p->temp) == 0 && set_times(dir, p->temp, e)) ||
           entry_fault(st, e->path);
}

/* Only to files: a second name of a link would be a link at another place. */
static bool make_hard_link(struct plant *p, const struct tar_entry *e, struct status *st)
{
    struct stat info;
    int to, target = parent_of(p, e->link, false);
    AUTO_CLOSE int from = target >= 0 ? fcntl(target, F_DUPFD_CLOEXEC, 0) : -1;

    if (from < 0 || fstatat(from, name_of(e->link), &info, AT_SYMLINK_NOFOLLOW) != 0 ||
        !S_ISREG(info.st_mode)) {
        AUTO_FREE char *text = utf8_repair((const uint8_t *)e->path, strlen(e->path));

        return fault(st, RECORDER_BAD_ARCHIVE,
                     "%.400s: a hard link to what is no file in the directory", text);
    }
    to = parent_of(p, e->path, true);
    if (to < 0)
        return way_fault(st, e->path);
    unlinkat(to, p->temp, 0);
    return linkat(from, name_of(e->link), to, p->temp, 0) == 0 || entry_fault(st, e->path);
}

static void remember_dir(struct plant *p, const struct tar_entry *e)
{
    if ((p->n_dirs & (p->n_dirs - 1)) == 0) /* grown at powers of two */
        p->dirs = xrealloc(p->dirs, (2 * p->n_dirs + 1) * sizeof(*p->dirs));
    p->dirs[p->n_dirs++] = (struct plant_dir){
        .path = xstrdup(e->path), .mode = e->mode & MODE_MAX, .mtime_s = e->mtime_s};
}

static bool make_dir(struct plant *p, int dir, const struct tar_entry *e, bool *ret_kept,
                     struct status *st)
{
    const char *name = name_of(e->path);
    AUTO_CLOSE int there = -1;
    struct stat info;

    if (mkdirat(dir, name, (e->mode & MODE_MAX) | 0700) == 0) {
        remember_dir(p, e);
        return true;
    }
    if (errno != EEXIST)
        return entry_fault(st, e->path);
    there = open_dir(dir, name, O_PATH);
    if (there < 0 || fstat(there, &info) != 0)
        return way_fault(st, e->path);
    if (p->existing != UNPACK_REPLACE)
        *ret_kept = p->existing == UNPACK_KEEP;
    else if (info.st_uid == geteuid() || geteuid() == 0) /* another one's stays as it is */
        remember_dir(p, e);
    return true;
}

/* --- what others call --- */

bool plant_is_taken(struct plant *p, const struct tar_entry *e)
{
    int dir = parent_of(p, e->path, false);
    struct stat info;

    return dir >= 0 && e->type != TAR_DIRECTORY &&
           fstatat(dir, name_of(e->path), &info, AT_SYMLINK_NOFOLLOW) == 0;
}

bool plant_entry(struct plant *p, struct tar_reader *r, const struct tar_entry *e, bool *ret_kept,
                 struct status *st)
{
    int dir = parent_of(p, e->path, true);
    bool ok;

    *ret_kept = false;
    if (dir < 0)
        return way_fault(st, e->path);
    if (e->type == TAR_DIRECTORY)
        return make_dir(p, dir, e, ret_kept, st);
    if (p->existing == UNPACK_KEEP && plant_is_taken(p, e))
        return *ret_kept = true;
    if (e->type == TAR_HARD_LINK) {
        if (!make_hard_link(p, e, st))
            return false;
        return take_name(p, parent_of(p, e->path, false), e, ret_kept, st);
    }
    unlinkat(dir, p->temp, 0);
    ok = e->type == TAR_SYMLINK ? make_symlink(p, dir, e, st) : make_file(p, r, dir, e, st);
    if (ok)
        return take_name(p, dir, e, ret_kept, st);
    unlinkat(dir, p->temp, 0);
    return false;
}

/* Those below first: a directory may become one that cannot be entered, and times change with what
 * is made in it. */
bool plant_finish(struct plant *p, struct status *st)
{
    for (size_t i = p->n_dirs; i-- > 0;) {
        const struct plant_dir *d = &p->dirs[i];
        int parent = parent_of(p, d->path, false);
        AUTO_CLOSE int fd = parent >= 0 ? open_dir(parent, name_of(d->path), O_RDONLY) : -1;
        struct timespec times[2] = {{.tv_nsec = UTIME_NOW}, {.tv_sec = d->mtime_s}};

        if (fd < 0 && (errno == ENOENT || errno == ENOTDIR || errno == ELOOP))
            continue; /* moved away meanwhile */
        if (fd < 0 || fchmod(fd, d->mode) != 0 || futimens(fd, times) != 0)
            return entry_fault(st, d->path);
    }
    return true;
}
