/* See files.h. */
#include "runtime/recorder/files.h"

#include "common/base/cleanup.h"
#include "common/base/fd.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

bool file_read(int dir, const char *name, struct buf *to)
{
    AUTO_CLOSE int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    struct stat info;

    if (fd < 0 || fstat(fd, &info) != 0)
        return false;
    if (!S_ISREG(info.st_mode))
        return errno = EINVAL, false;
    for (;;) {
        enum { STEP = 16 * 1024 };
        size_t room = buf_room(to) < STEP ? buf_room(to) : STEP;
        uint8_t *at = buf_reserve(to, room);
        ssize_t n = read(fd, at, room);

        if (n < 0)
            return false;
        if (n == 0 && room == 0 && lseek(fd, 0, SEEK_CUR) < info.st_size)
            return errno = EFBIG, false;
        if (n == 0)
            return true;
        buf_commit(to, (size_t)n);
    }
}

bool file_create(int dir, const char *name, const void *data, size_t len)
{
    AUTO_CLOSE int fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

    if (fd < 0)
        return false;
    if (fd_write_all(fd, data, len))
        return true;

    int error = errno;

    unlinkat(dir, name, 0);
    errno = error;
    return false;
}

bool file_write(int dir, const char *name, const void *data, size_t len)
{
    char temp[80];

    snprintf(temp, sizeof(temp), ".%s.%d", name, (int)getpid());
    unlinkat(dir, temp, 0);
    if (!file_create(dir, temp, data, len))
        return false;
    if (renameat(dir, temp, dir, name) == 0)
        return true;

    int error = errno;

    unlinkat(dir, temp, 0);
    errno = error;
    return false;
}

void for_each_name(int dir, bool (*visit)(void *arg, const char *name), void *arg)
{
    int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    struct dirent *entry;

    if (d == NULL) {
        if (fd >= 0)
            close(fd);
        return;
    }
    while ((entry = readdir(d)) != NULL) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        if (!visit(arg, entry->d_name))
            break;
    }
    closedir(d);
}

static bool unlink_one(void *arg, const char *name)
{
    unlinkat(*(int *)arg, name, 0);
    return true;
}

void remove_flat_dir(int parent, const char *name)
{
    AUTO_CLOSE int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);

    if (fd >= 0)
        for_each_name(fd, unlink_one, &fd);
    unlinkat(parent, name, AT_REMOVEDIR);
}

bool parse_u64(const char *text, const char **ret_end, uint64_t *ret)
{
    uint64_t n = 0;
    const char *at = text;

    for (; *at >= '0' && *at <= '9'; at++)
        if (__builtin_mul_overflow(n, UINT64_C(10), &n) ||
            __builtin_add_overflow(n, (uint64_t)(*at - '0'), &n))
            return false;
    *ret = n;
    *ret_end = at;
    return at != text;
}
