/* See path.h. Everything happens inside the sandbox, where the agent may follow any link. */
#include "runtime/local/agent/path.h"

#include "common/base/cleanup.h"
#include "common/base/mem.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Joins as lexically clean: no ".", "..", or empty parts. */
static char *join(const char *base, const char *relative)
{
    char *joined = xmalloc(strlen(base) + strlen(relative) + 3);
    const char *parts[] = {base, relative};
    size_t n = 0;

    for (int i = 0; i < 2; i++) {
        for (const char *at = parts[i]; *at;) {
            size_t len = strcspn(at, "/");

            if (len == 2 && at[0] == '.' && at[1] == '.') {
                while (n > 0 && joined[--n] != '/')
                    ;
            } else if (len > 0 && !(len == 1 && *at == '.')) {
                joined[n++] = '/';
                memcpy(joined + n, at, len);
                n += len;
            }
            at += len;
            at += strspn(at, "/");
        }
    }
    if (n == 0)
        joined[n++] = '/';
    joined[n] = '\0';
    return joined;
}

char *path_clean(const char *path)
{
    return join("", path);
}

char *path_resolve(const char *path, const struct user *user, const char *workdir,
                   struct status *st)
{
    if (strlen(path) >= PATH_MAX - USER_HOME_MAX) {
        status_set(st, CODE_INVALID_ARGUMENT, 0, "the path is longer than %d bytes",
                   PATH_MAX - USER_HOME_MAX);
        return NULL;
    }
    if (!*path)
        path = workdir;
    if (*path == '/')
        return xstrdup(path);
    if (*path != '~')
        return join(user->home, path);
    if (path[1] && path[1] != '/') {
        status_set(st, CODE_INVALID_ARGUMENT, 0, "cannot expand user-specific home dir: %s", path);
        return NULL;
    }
    return join(user->home, path + 1);
}

bool path_own(int fd, const struct user *user)
{
    struct stat info;

    if (fstat(fd, &info) < 0)
        return false;
    return (info.st_uid == user->uid && info.st_gid == user->gid) ||
           fchown(fd, user->uid, user->gid) == 0;
}

static bool make_one(const char *path, const struct user *user)
{
    if (mkdir(path, 0755) < 0)
        return errno == EEXIST;
    return lchown(path, user->uid, user->gid) == 0 || user->uid == geteuid();
}

bool path_make_parents(const char *path, const struct user *user)
{
    AUTO_FREE char *copy = xstrdup(path);

    for (char *slash = copy; (slash = strchr(slash + 1, '/')) != NULL;) {
        if (slash[1] == '/' || slash[1] == '\0')
            continue;
        *slash = '\0';
        if (!make_one(copy, user))
            return false;
        *slash = '/';
    }
    return true;
}

bool path_make_directory(const char *path, const struct user *user)
{
    return path_make_parents(path, user) && make_one(path, user);
}
