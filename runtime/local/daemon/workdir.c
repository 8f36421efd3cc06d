/*
 * See workdir.h. A daemon that lives holds the lock of its folder (its zygote does), so a folder
 * whose lock is free belongs to none.
 */
#include "runtime/local/daemon/workdir.h"

#include "common/base/cleanup.h"
#include "common/base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <glob.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>

/* Younger folders may be those of daemons that are just starting and have no lock yet. */
enum { WALK_FDS = 16, STARTING_S = 60 };

char *workdir_absolute(const char *path, struct status *st)
{
    AUTO_FREE char *here = *path != '/' ? getcwd(NULL, 0) : NULL;

    if (*path == '/')
        return xstrdup(path);
    if (here == NULL) {
        status_set(st, CODE_INTERNAL, 0, "no working directory: %s", strerror(errno));
        return NULL;
    }
    return xasprintf("%s/%s", here, path);
}

bool workdir_ensure(const char *path, struct status *st)
{
    if (mkdir(path, 0711) == 0 || errno == EEXIST)
        return true;
    return status_set(st, CODE_INTERNAL, 0, "cannot make %s: %s", path, strerror(errno));
}

bool workdir_leave(const char *path, const char *name, const char *line, struct status *st)
{
    AUTO_FREE char *to = xasprintf("%s/%s", path, name);
    AUTO_FREE char *temporary = xasprintf("%s.new", to);
    FILE *f = fopen(temporary, "we");
    bool ok = f != NULL && fprintf(f, "%s\n", line) > 0;

    if (f != NULL)
        ok = fclose(f) == 0 && ok;
    if (ok && rename(temporary, to) == 0)
        return true;
    return status_set(st, CODE_INTERNAL, 0, "cannot write %s: %s", to, strerror(errno));
}

static int remove_entry(const char *path, const struct stat *info, int type, struct FTW *ftw)
{
    remove(path); /* what cannot be removed does not keep the rest */
    return 0;
}

void workdir_remove(const char *path)
{
    nftw(path, remove_entry, WALK_FDS, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}

static bool is_abandoned(const char *path)
{
    AUTO_FREE char *lock = xasprintf("%s/lock", path);
    AUTO_CLOSE int fd = -1;
    struct stat info;

    /* In a folder that all may write to, others may put there what they like. */
    if (lstat(path, &info) < 0 || !S_ISDIR(info.st_mode) || info.st_uid != geteuid() ||
        info.st_mtime > time(NULL) - STARTING_S)
        return false;
    fd = open(lock, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    return fd < 0 ? errno == ENOENT : flock(fd, LOCK_EX | LOCK_NB) == 0;
}

static void sweep(const char *base)
{
    AUTO_FREE char *pattern = xasprintf("%s/e2b-local-??????", base);
    glob_t found = {.gl_pathc = 0};

    if (glob(pattern, GLOB_NOSORT, NULL, &found) == 0) {
        for (size_t i = 0; i < found.gl_pathc; i++) {
            if (is_abandoned(found.gl_pathv[i]))
                workdir_remove(found.gl_pathv[i]);
        }
    }
    globfree(&found);
}

char *workdir_make(struct status *st)
{
    const char *base = getenv("TMPDIR");
    AUTO_FREE char *path = NULL;

    if (base == NULL || *base != '/')
        base = "/tmp";
    sweep(base);
    path = xasprintf("%s/e2b-local-XXXXXX", base);
    if (mkdtemp(path) != NULL)
        return TAKE(path);
    status_set(st, CODE_INTERNAL, 0, "cannot make %s: %s", path, strerror(errno));
    return NULL;
}
