/* See state.h. Called by every verb, first. */
#include "runtime/recorder/state.h"

#include "common/base/cleanup.h"
#include "common/base/mem.h"
#include "runtime/recorder/fault.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <string.h>
#include <sys/stat.h>

bool id_is_valid(const char *id)
{
    size_t len = strlen(id);

    return len >= 1 && len <= ID_MAX &&
           strspn(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-") == len;
}

static char *default_path(void)
{
    const char *home = getenv("HOME");

    if (geteuid() == 0)
        return xstrdup(RECORDER_ROOT_STATE);
    if (home == NULL || home[0] != '/') {
        const struct passwd *user = getpwuid(geteuid());

        home = user != NULL ? user->pw_dir : "/tmp";
    }
    return xasprintf("%s/%s", home, RECORDER_HOME_STATE);
}

/* The directory, made when it is missing, ours and closed to others' writing. */
static bool open_dir(int parent, const char *name, mode_t mode, int *ret, struct status *st)
{
    AUTO_CLOSE int fd = -1;
    struct stat info;

    if (mkdirat(parent, name, mode) != 0 && errno != EEXIST)
        return fault_errno(st, "the state directory %s cannot be made", name);
    fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 || fstat(fd, &info) != 0)
        return fault_errno(st, "the state directory %s cannot be opened", name);
    if (info.st_uid != geteuid())
        return fault(st, RECORDER_INTERNAL, "the state directory %s belongs to user %u", name,
                     (unsigned)info.st_uid);
    /* The umask may have taken bits that are wanted, and somebody given ones that are not. */
    if ((info.st_mode & 07777) != mode && fchmod(fd, mode) != 0)
        return fault_errno(st, "the state directory %s cannot be closed to others", name);
    *ret = take_fd(&fd);
    return true;
}

bool state_open(struct state *s, const char *path, bool watches, struct status *st)
{
    AUTO_FREE char *chosen = path != NULL ? xstrdup(path) : default_path();
    static const struct {
        const char *name;
        mode_t mode;
    } below[] = {{"bin", 0755}, {"spec", 0700}};

    *s = STATE_INIT;
    s->protected = geteuid() == 0;
    if (!open_dir(AT_FDCWD, chosen, 0755, &s->dir, st))
        return false;
    for (size_t i = 0; i < sizeof(below) / sizeof(below[0]); i++) {
        AUTO_CLOSE int fd = -1;

        if (!open_dir(s->dir, below[i].name, below[i].mode, &fd, st))
            return false;
    }
    return open_dir(s->dir, watches ? "watch" : "cmd", 0755, &s->commands, st);
}

void state_deinit(struct state *s)
{
    cleanup_close(&s->dir);
    cleanup_close(&s->commands);
    *s = STATE_INIT;
}

bool state_open_command(const struct state *s, const char *id, int *ret, struct status *st)
{
    if (!id_is_valid(id))
        return fault(st, RECORDER_USAGE, "a command's id is 1 to 64 of A-Z a-z 0-9 _ -");
    *ret = openat(s->commands, id, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (*ret >= 0)
        return true;
    if (errno == ENOENT)
        return fault(st, RECORDER_NOT_FOUND, "there is no command %s", id);
    return fault_errno(st, "the record of command %s cannot be opened", id);
}
