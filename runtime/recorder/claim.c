/* See claim.h. */
#include "runtime/recorder/claim.h"

#include "common/base/cleanup.h"
#include "common/base/clock.h"
#include "common/base/mem.h"
#include "runtime/recorder/command.h"
#include "runtime/recorder/control.h"
#include "runtime/recorder/fault.h"
#include "runtime/recorder/files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef RENAME_NOREPLACE
#define RENAME_NOREPLACE 1 /* of linux/fs.h, which musl's headers do not include */
#endif

enum { RESERVE_BYTES = 8192, STALE_S = 60 };

void claim_deinit(struct claim *c)
{
    cleanup_close(&c->dir);
    cleanup_close(&c->lock);
    cleanup_close(&c->listener);
    *c = CLAIM_INIT;
}

bool lock_is_held(int dir)
{
    AUTO_CLOSE int fd = openat(dir, "lock", O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

    return fd >= 0 && fcntl(fd, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
}

static int lock_open(int dir, int flags)
{
    AUTO_CLOSE int fd = openat(dir, "lock", O_RDWR | O_CLOEXEC | O_NOFOLLOW | flags, 0600);
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};

    if (fd < 0 || fcntl(fd, F_OFD_SETLK, &lock) != 0)
        return -1;
    return take_fd(&fd);
}

int lock_take(int dir)
{
    return lock_open(dir, 0);
}

/* A private directory whose maker was killed between its steps. */
static bool remove_if_stale(void *arg, const char *name)
{
    int commands = *(int *)arg;
    struct stat info;

    if (strncmp(name, ".claim.", 7) != 0 ||
        fstatat(commands, name, &info, AT_SYMLINK_NOFOLLOW) != 0 ||
        time(NULL) - info.st_mtime < STALE_S)
        return true;

    AUTO_CLOSE int dir = openat(commands, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);

    if (dir >= 0 && !lock_is_held(dir))
        remove_flat_dir(commands, name);
    return true;
}

/* What a command's end takes is put aside now: see free_reserve() in writer.c. */
static bool write_reserve(int dir)
{
    static const uint8_t zeros[RESERVE_BYTES];

    return file_create(dir, "reserve", zeros, sizeof(zeros));
}

/* Everything that the published directory has from the start. */
static bool fill(struct claim *c, const struct command_spec *spec, bool protected,
                 struct status *st)
{
    AUTO_FREE char *own = command_own_user();
    struct meta meta = spec->meta;

    meta.format = META_FORMAT;
    meta.start_ns = clock_wall_ns();
    meta.protected = protected;
    if (meta.user[0] == '\0')
        meta.user = own;
    c->lock = lock_open(c->dir, O_CREAT | O_EXCL);
    if (c->lock < 0 || !write_reserve(c->dir))
        return fault_errno(st, "the command's record cannot be made");
    if (!meta_write(c->dir, &meta, st))
        return false;
    c->listener = control_listen(c->dir);
    if (c->listener < 0)
        return fault_errno(st, "the command's control socket cannot be made");
    return true;
}

/*
 * Not every file system has RENAME_NOREPLACE. A plain rename() replaces only an empty directory,
 * which a published one never is, so it serves as well.
 */
static bool publish(int commands, const char *private, const char *id)
{
    if (syscall(SYS_renameat2, commands, private, commands, id, RENAME_NOREPLACE) == 0)
        return true;
    return (errno == ENOSYS || errno == EINVAL) && renameat(commands, private, commands, id) == 0;
}

static enum claim_result try_claim(const struct state *s, const struct command_spec *spec,
                                   const char *private, struct claim *c, struct status *st)
{
    if (mkdirat(s->commands, private, 0700) != 0) {
        fault_errno(st, "the command's record cannot be made");
        return CLAIM_FAILED;
    }
    c->dir = openat(s->commands, private, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (c->dir < 0) {
        fault_errno(st, "the command's record cannot be opened");
        return CLAIM_FAILED;
    }
    if (!fill(c, spec, s->protected, st))
        return CLAIM_FAILED;
    if (publish(s->commands, private, spec->meta.command_id))
        return CLAIM_WON;
    if (errno == EEXIST || errno == ENOTEMPTY)
        return CLAIM_EXISTS;
    fault_errno(st, "the command's record cannot be published");
    return CLAIM_FAILED;
}

enum claim_result claim_make(const struct state *s, const struct command_spec *spec,
                             struct claim *ret, struct status *st)
{
    enum claim_result result;
    struct status ignored;
    char private[64];

    *ret = CLAIM_INIT;
    if (state_open_command(s, spec->meta.command_id, &ret->dir, &ignored))
        return CLAIM_EXISTS;
    for_each_name(s->commands, remove_if_stale, (void *)&s->commands);
    snprintf(private, sizeof(private), ".claim.%d.%llx", (int)getpid(),
             (unsigned long long)clock_monotonic_ns());
    result = try_claim(s, spec, private, ret, st);
    if (result == CLAIM_WON)
        return result;
    claim_deinit(ret);
    remove_flat_dir(s->commands, private);
    if (result == CLAIM_EXISTS && !state_open_command(s, spec->meta.command_id, &ret->dir, st))
        return CLAIM_FAILED;
    return result;
}

static bool foreign(struct status *st, const struct meta *m)
{
    return fault(
        st, RECORDER_FOREIGN,
        "the command belongs to sandbox %s, which this one was made from: it can be read only",
        m->sandbox_id);
}

bool claim_is_native(int dir, const char *sandbox_id, struct status *st)
{
    AUTO(meta_deinit) struct meta m = {0};

    if (sandbox_id == NULL || sandbox_id[0] == '\0')
        return true;
    if (!meta_read(dir, &m, st))
        return false;
    return strcmp(m.sandbox_id, sandbox_id) == 0 || foreign(st, &m);
}

bool claim_matches(int dir, const struct command_spec *spec, struct status *st)
{
    AUTO(meta_deinit) struct meta m = {0};
    char hex[2 * DIGEST_MAX + 1] = "";

    if (!meta_read(dir, &m, st))
        return false;
    if (strcmp(m.sandbox_id, spec->meta.sandbox_id) != 0)
        return foreign(st, &m);
    if (m.digest_len == spec->meta.digest_len &&
        memcmp(m.digest, spec->meta.digest, m.digest_len) == 0)
        return true;
    for (size_t i = 0; i < m.digest_len; i++)
        snprintf(hex + 2 * i, 3, "%02x", m.digest[i]);
    return fault(st, RECORDER_MISMATCH, "%s\nthe command %s exists and is another one", hex,
                 m.command_id);
}
