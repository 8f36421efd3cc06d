/*
 * See change.h. What is said not to be there is checked in the same step that makes it: by mkdir,
 * by renameat2 with RENAME_NOREPLACE, by link.
 */
#include "runtime/recorder/change.h"

#include "common/base/cleanup.h"
#include "common/base/fd.h"
#include "common/base/mem.h"
#include "runtime/recorder/fault.h"
#include "runtime/recorder/files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef RENAME_NOREPLACE
#define RENAME_NOREPLACE 1
#endif

/* --- making --- */

bool change_make(const struct place *p, const char *path, mode_t mode, bool parents, bool existing,
                 bool *ret_created, struct status *st)
{
    struct stat info;

    *ret_created = false;
    if (parents && !place_make_parents(p, path, st))
        return false;
    if (place_make_dir(p, path, mode)) {
        *ret_created = true;
        return true;
    }
    if (errno == EEXIST && existing && stat(path, &info) == 0 && S_ISDIR(info.st_mode))
        return true;
    return place_fault(st, path);
}

/* --- moving --- */

/* Some filesystems have no RENAME_NOREPLACE; a file can be linked there instead. */
bool change_rename_new(const char *from, const char *to)
{
    if (syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE) == 0)
        return true;
    if (errno != EINVAL && errno != ENOSYS)
        return false;
    return link(from, to) == 0 && unlink(from) == 0;
}

static bool copy_content(int from, int to)
{
    enum { STEP = 256 * 1024 };
    AUTO_FREE uint8_t *block = xmalloc(STEP);
    ssize_t n;

    while ((n = read(from, block, STEP)) != 0) {
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 || !fd_write_all(to, block, (size_t)n))
            return false;
    }
    return true;
}

static bool copy_file(const char *from, const char *to)
{
    AUTO_CLOSE int in = open(from, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    AUTO_CLOSE int out = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    struct stat info;

    if (in < 0 || out < 0 || fstat(in, &info) != 0 || !copy_content(in, out))
        return false;
    if (geteuid() == 0 && fchown(out, info.st_uid, info.st_gid) != 0)
        return false;
    return fchmod(out, info.st_mode & 07777) == 0 &&
           futimens(out, (struct timespec[]){info.st_atim, info.st_mtim}) == 0;
}

/* Onto another filesystem: a copy beside the destination, which then takes its name. */
static bool move_far(const char *from, const char *to, bool overwrite)
{
    size_t dir_len = (size_t)(place_name(to) - to);
    AUTO_FREE char *beside = xasprintf("%.*s.sandboxd-move-%d", (int)dir_len, to, (int)getpid());
    bool ok = copy_file(from, beside) &&
              (overwrite ? rename(beside, to) == 0 : change_rename_new(beside, to));
    int error = errno;

    if (!ok)
        unlink(beside);
    errno = error;
    return ok && unlink(from) == 0;
}

bool change_move(const struct place *p, const char *from, const char *to, bool overwrite,
                 bool parents, struct status *st)
{
    struct stat info;

    if (lstat(from, &info) != 0)
        return place_fault(st, from);
    if (parents && !place_make_parents(p, to, st))
        return false;
    if (overwrite ? rename(from, to) == 0 : change_rename_new(from, to))
        return true;
    if (errno == EINVAL)
        return fault(st, RECORDER_BAD_PATH, "a directory cannot be moved into itself");
    if (errno != EXDEV)
        return place_fault(st, to);
    if (!S_ISREG(info.st_mode))
        return fault(st, RECORDER_OTHER_DEVICE,
                     "only files can be moved to another filesystem: copy it with a command");
    return move_far(from, to, overwrite) || place_fault(st, to);
}

/* --- removing --- */

/* Everything below dir, with a descriptor per level: no path is long, and no link is followed. */
static bool empty_dir(int dir, uint64_t *n)
{
    int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    struct dirent *e;
    bool ok = true;

    if (d == NULL) {
        cleanup_close(&fd);
        return false;
    }
    while (ok && (e = readdir(d)) != NULL) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        if (unlinkat(dir, e->d_name, 0) != 0 && errno != ENOENT) {
            AUTO_CLOSE int below = -1;
            int error = errno;

            below = openat(dir, e->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
            if (below < 0 && errno == ENOTDIR)
                errno = error; /* a file that cannot be removed */
            ok = below >= 0 && empty_dir(below, n) &&
                 (unlinkat(dir, e->d_name, AT_REMOVEDIR) == 0 || errno == ENOENT);
        }
        *n += ok;
    }
    if (ok) {
        closedir(d);
        return true;
    }

    int error = errno;

    closedir(d);
    errno = error;
    return false;
}

static bool remove_dir(const char *path, bool recursive, uint64_t *ret)
{
    if (recursive) {
        AUTO_CLOSE int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);

        if (dir < 0 || !empty_dir(dir, ret))
            return false;
    }
    return rmdir(path) == 0;
}

bool change_remove(const char *path, bool recursive, bool missing, uint64_t *ret, struct status *st)
{
    const char *name = place_name(path);
    struct stat info;

    *ret = 0;
    if (strcmp(name, "/") == 0 || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
        return fault(st, RECORDER_BAD_PATH, "%.200s cannot be removed: name it by its own path",
                     path);
    if (lstat(path, &info) != 0)
        return (missing && (errno == ENOENT || errno == ENOTDIR)) || place_fault(st, path);
    if (S_ISDIR(info.st_mode) ? remove_dir(path, recursive, ret) : unlink(path) == 0) {
        *ret += 1;
        return true;
    }
    if (errno == ENOTEMPTY || errno == EEXIST) {
        errno = ENOTEMPTY;
        return place_fault(st, path);
    }
    return (missing && errno == ENOENT) || place_fault(st, path);
}
