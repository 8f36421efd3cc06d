/* See receipt.h. */
#include "runtime/recorder/receipt.h"

#include "common/base/cleanup.h"
#include "runtime/recorder/files.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>

enum { KEPT_S = 86400, NAME_SIZE = 2 * SHA256_LEN + 1 };

static void name_of(const uint8_t key[SHA256_LEN], char to[NAME_SIZE])
{
    for (int i = 0; i < SHA256_LEN; i++)
        snprintf(to + 2 * i, 3, "%02x", key[i]);
}

static int open_dir(const struct state *s)
{
    mkdirat(s->dir, "receipts", 0700);
    return openat(s->dir, "receipts", O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
}

static bool drop_if_old(void *arg, const char *name)
{
    int dir = *(int *)arg;
    struct stat info;

    if (fstatat(dir, name, &info, AT_SYMLINK_NOFOLLOW) == 0 &&
        info.st_mtim.tv_sec + KEPT_S < time(NULL))
        unlinkat(dir, name, 0);
    return true;
}

bool receipt_find(const struct state *s, const uint8_t key[SHA256_LEN], struct buf *out)
{
    AUTO_CLOSE int dir = open_dir(s);
    char name[NAME_SIZE];

    name_of(key, name);
    return dir >= 0 && file_read(dir, name, out);
}

void receipt_keep(const struct state *s, const uint8_t key[SHA256_LEN], const struct buf *answer)
{
    AUTO_CLOSE int dir = open_dir(s);
    char name[NAME_SIZE];

    if (dir < 0)
        return;
    for_each_name(dir, drop_if_old, &dir);
    name_of(key, name);
    file_write(dir, name, buf_data(answer), buf_len(answer));
}
