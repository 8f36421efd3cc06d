/*
 * Objects as files below a directory, which pods may share (NFS and its like). An object is written
 * under a name of its own and then renamed to its right one, so that it is there whole or not at
 * all, also after a crash. Names come from ids and numbers that were checked, and what is found in
 * the directory is not followed: another who can write there can damage objects, not lead us away.
 */
#include "service/archive/store.h"

#include "common/base/cleanup.h"
#include "common/base/fd.h"
#include "common/base/list.h"
#include "common/base/mem.h"
#include "sandbox/v1/errors.pb-c.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>

struct store_dir {
    struct store store;
    int dir; /* owned */
    uint64_t nonce;
    atomic_uint_fast64_t counter;
};

static bool failed(struct status *st, const char *what)
{
    return store_unavailable(st, "the archive's directory: %s: %s", what, strerror(errno));
}

/* Opens the directory that key is in; *ret_name is the rest of key. -1: errno says why. */
static int open_parent(const struct store_dir *d, const char *key, bool make, const char **ret_name)
{
    int dir = fcntl(d->dir, F_DUPFD_CLOEXEC, 0);
    const char *slash;

    while (dir >= 0 && (slash = strchr(key, '/')) != NULL) {
        AUTO_CLOSE int above = dir;
        char name[STORE_NAME_MAX + 1];
        size_t len = (size_t)(slash - key);

        if (len >= sizeof(name)) {
            errno = ENAMETOOLONG;
            return -1;
        }
        memcpy(name, key, len);
        name[len] = '\0';
        if (make && mkdirat(above, name, 0700) == 0)
            fsync(above);
        dir = openat(above, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        key = slash + 1;
    }
    *ret_name = key;
    return dir;
}

static bool put(struct store *s, const char *key, const uint8_t *data, size_t len, int64_t until_ns,
                struct status *st)
{
    struct store_dir *d = container_of(s, struct store_dir, store);
    const char *name;
    AUTO_CLOSE int dir = open_parent(d, key, true, &name);
    AUTO_CLOSE int fd = -1;
    char own[64];

    if (dir < 0)
        return failed(st, "it cannot be entered");
    if (faccessat(dir, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
        return true;
    snprintf(own, sizeof(own), ".new-%016llx-%llu", (unsigned long long)d->nonce,
             (unsigned long long)atomic_fetch_add(&d->counter, 1));
    fd = openat(dir, own, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return failed(st, "a file cannot be made");
    /* Who was faster wrote the same. */
    if (!fd_write_all(fd, data, len) || fsync(fd) != 0 || renameat(dir, own, dir, name) != 0 ||
        fsync(dir) != 0) {
        failed(st, "a file cannot be written");
        unlinkat(dir, own, 0);
        return false;
    }
    return true;
}

static bool get(struct store *s, const char *key, struct buf *to, int64_t until_ns,
                struct status *st)
{
    struct store_dir *d = container_of(s, struct store_dir, store);
    const char *name;
    AUTO_CLOSE int dir = open_parent(d, key, false, &name);
    AUTO_CLOSE int fd =
        dir < 0 ? -1 : openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    struct stat info;

    if (fd < 0 && errno == ENOENT)
        return status_set(st, CODE_NOT_FOUND, 0, "the archive has no %s", key);
    if (fd < 0 || fstat(fd, &info) != 0)
        return failed(st, "a file cannot be opened");
    if (!S_ISREG(info.st_mode) || info.st_size < 0 || (uint64_t)info.st_size > buf_room(to))
        return status_set(st, CODE_DATA_LOSS,
                          SANDBOX__V1__ERROR_REASON__ERROR_REASON_JOURNAL_CORRUPT,
                          "the archive was changed: %s is no object of it", key);
    for (size_t left = (size_t)info.st_size; left > 0;) {
        ssize_t n = read(fd, buf_reserve(to, left), left);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return failed(st, "a file cannot be read");
        if (n == 0)
            break;
        buf_commit(to, (size_t)n);
        left -= (size_t)n;
    }
    return true;
}

static bool list(struct store *s, const char *prefix, struct store_names *ret, int64_t until_ns,
                 struct status *st)
{
    struct store_dir *d = container_of(s, struct store_dir, store);
    AUTO_FREE char *inside = xasprintf("%s/", prefix);
    const char *name;
    int fd = open_parent(d, inside, false, &name);
    struct dirent *entry;
    DIR *dir;

    if (fd < 0)
        return errno == ENOENT || failed(st, "it cannot be entered");
    dir = fdopendir(fd);
    if (dir == NULL) {
        close(fd);
        return failed(st, "it cannot be listed");
    }
    errno = 0;
    while (ret->n < STORE_LIST_MAX && (entry = readdir(dir)) != NULL)
        if (entry->d_name[0] != '.')
            store_names_add(ret, entry->d_name, strlen(entry->d_name));

    int why = errno;

    closedir(dir);
    errno = why;
    if (ret->n == STORE_LIST_MAX || errno != 0)
        return failed(st, "it cannot be listed");
    store_names_sort(ret);
    return true;
}

static void store_dir_free(struct store *s)
{
    struct store_dir *d = container_of(s, struct store_dir, store);

    close(d->dir);
    free(d);
}

bool store_dir_new(const char *path, struct store **ret, struct status *st)
{
    AUTO_CLOSE int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct store_dir *d;

    if (dir < 0)
        return status_set(st, CODE_FAILED_PRECONDITION, 0,
                          "the archive's directory %s cannot be opened: %s", path, strerror(errno));
    if (faccessat(dir, ".", W_OK | X_OK, AT_EACCESS) != 0)
        return status_set(st, CODE_FAILED_PRECONDITION, 0,
                          "the archive's directory %s cannot be written to: %s", path,
                          strerror(errno));
    d = xcalloc(1, sizeof(*d));
    d->store = (struct store){.put = put, .get = get, .list = list, .free = store_dir_free};
    d->dir = take_fd(&dir);
    if (getrandom(&d->nonce, sizeof(d->nonce), 0) != sizeof(d->nonce))
        d->nonce = (uint64_t)getpid();
    *ret = &d->store;
    return true;
}
