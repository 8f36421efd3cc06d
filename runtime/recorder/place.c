/* See place.h. */
#include "runtime/recorder/place.h"

#include "common/base/cleanup.h"
#include "common/base/mem.h"
#include "common/base/utf8.h"
#include "runtime/recorder/defaults.h"
#include "runtime/recorder/fault.h"

#include <errno.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

bool place_init(struct place *p, const struct state *s, const char *name, struct status *st)
{
    AUTO_FREE char *chosen = name[0] != '\0' ? xstrdup(name) : defaults_user(s);
    const struct passwd *user = chosen != NULL ? getpwnam(chosen) : getpwuid(geteuid());
    const char *home = getenv("HOME");

    *p = (struct place){.uid = geteuid(), .gid = getegid()};
    if (user == NULL && chosen != NULL)
        return fault(st, RECORDER_NO_USER, "there is no user %s in the sandbox", chosen);
    if (user != NULL) {
        home = user->pw_dir;
        p->own = geteuid() == 0;
        p->uid = user->pw_uid;
        p->gid = user->pw_gid;
    }
    p->home = xstrdup(home != NULL && home[0] == '/' ? home : "/");
    return true;
}

void place_deinit(struct place *p)
{
    free(p->home);
    p->home = NULL;
}

bool place_resolve(const struct place *p, const char *path, char **ret, struct status *st)
{
    char *whole;
    size_t len;

    if (path[0] == '\0')
        return fault(st, RECORDER_BAD_PATH, "the path is empty");
    if (path[0] == '~' && path[1] != '\0' && path[1] != '/')
        return fault(st, RECORDER_BAD_PATH, "%.200s: only ~ and ~/ stand for a home directory",
                     path);
    if (path[0] == '/')
        whole = xstrdup(path);
    else if (path[0] == '~')
        whole = xasprintf("%s%s", p->home, path + 1);
    else
        whole = xasprintf("%s%s%s", p->home, strcmp(p->home, "/") == 0 ? "" : "/", path);
    len = strlen(whole);
    while (len > 1 && whole[len - 1] == '/')
        whole[--len] = '\0';
    *ret = whole;
    return true;
}

const char *place_name(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash != NULL && slash[1] != '\0' ? slash + 1 : path;
}

bool place_make_dir(const struct place *p, const char *path, mode_t mode)
{
    if (mkdir(path, 0700) != 0)
        return false;
    if (p->own && lchown(path, p->uid, p->gid) != 0)
        return false;
    return chmod(path, mode) == 0; /* the umask does not count here */
}

bool place_make_parents(const struct place *p, const char *path, struct status *st)
{
    AUTO_FREE char *part = xstrdup(path);

    for (char *slash = strchr(part + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (!place_make_dir(p, part, 0755) && errno != EEXIST)
            return place_fault(st, part);
        *slash = '/';
    }
    return true;
}

int place_exit_of(int error)
{
    switch (error) {
    case ENOENT:
        return RECORDER_FILE_NOT_FOUND;
    case ENOTDIR:
        return RECORDER_NOT_A_DIRECTORY;
    case EISDIR:
        return RECORDER_NOT_A_FILE;
    case EEXIST:
        return RECORDER_FILE_EXISTS;
    case ENOTEMPTY:
        return RECORDER_NOT_EMPTY;
    case EACCES:
    case EPERM:
    case EROFS:
    case EBUSY:
        return RECORDER_FORBIDDEN;
    case EINVAL:
    case ELOOP:
    case ENAMETOOLONG:
        return RECORDER_BAD_PATH;
    case ENOSPC:
    case EDQUOT:
        return RECORDER_NO_SPACE;
    default:
        return RECORDER_INTERNAL;
    }
}

bool place_fault(struct status *st, const char *path)
{
    int error = errno;
    AUTO_FREE char *text = utf8_repair((const uint8_t *)path, strlen(path));

    return fault(st, place_exit_of(error), "%.400s: %s", text, strerror(error));
}
