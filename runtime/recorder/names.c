/* See names.h. */
#include "runtime/recorder/names.h"

#include "common/base/mem.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void names_deinit(struct names *names)
{
    for (size_t i = 0; i < names->n; i++)
        free(names->at[i]);
    free(names->at);
}

static int by_bytes(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

bool names_read(int dir, struct names *ret)
{
    int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    struct dirent *e;

    *ret = (struct names){0};
    if (d == NULL) {
        if (fd >= 0)
            close(fd);
        return false;
    }
    while ((e = readdir(d)) != NULL && ret->n < NAMES_MAX) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        if ((ret->n & (ret->n - 1)) == 0) /* grown at powers of two */
            ret->at = xrealloc(ret->at, (2 * ret->n + 1) * sizeof(*ret->at));
        ret->at[ret->n++] = xstrdup(e->d_name);
    }
    closedir(d);
    if (ret->n > 0)
        qsort(ret->at, ret->n, sizeof(*ret->at), by_bytes);
    return ret->n < NAMES_MAX;
}
