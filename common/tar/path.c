/* What paths and links may stand in an archive: see tar.h. */
#include "common/tar/tar.h"

#include <string.h>

bool tar_path_clean(const char *raw, size_t len, char ret[TAR_PATH_MAX + 1])
{
    const char *at = raw, *end = raw + len;
    size_t n = 0;

    if (len > 0 && (raw[0] == '/' || memchr(raw, '\0', len) != NULL))
        return false;
    while (at < end) {
        const char *slash = memchr(at, '/', (size_t)(end - at));
        size_t part = (size_t)((slash != NULL ? slash : end) - at);

        if (part > TAR_NAME_MAX || (part == 2 && memcmp(at, "..", 2) == 0))
            return false;
        if (part > 0 && !(part == 1 && at[0] == '.')) {
            if (n + (n > 0) + part > TAR_PATH_MAX)
                return false;
            if (n > 0)
                ret[n++] = '/';
            memcpy(ret + n, at, part);
            n += part;
        }
        at += part + (slash != NULL);
    }
    ret[n] = '\0';
    return true;
}

/* How many directories stand above the last part. */
static size_t depth_of(const char *path)
{
    size_t n = 0;

    for (; *path != '\0'; path++)
        n += *path == '/';
    return n;
}

bool tar_link_is_inside(const char *path, const char *target)
{
    size_t up = 0;
    bool down = false;

    if (target[0] == '/' || target[0] == '\0' || strlen(target) > TAR_PATH_MAX)
        return false;
    while (*target != '\0') {
        size_t part = strcspn(target, "/");

        if (part == 2 && memcmp(target, "..", 2) == 0) {
            if (down || ++up > depth_of(path))
                return false;
        } else if (part > 0 && !(part == 1 && target[0] == '.')) {
            down = true;
        }
        target += part + (target[part] == '/');
    }
    return true;
}

/* As if '/' stood before all other bytes. */
static int rank(char c)
{
    return c == '\0' ? 0 : c == '/' ? 1 : 1 + (unsigned char)c;
}

int tar_path_order(const char *a, const char *b)
{
    while (*a != '\0' && *a == *b) {
        a++;
        b++;
    }
    return rank(*a) - rank(*b);
}

bool tar_path_is_below(const char *path, const char *dir)
{
    size_t len = strlen(dir);

    return len == 0 || (strncmp(path, dir, len) == 0 && path[len] == '/');
}
