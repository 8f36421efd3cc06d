/* See entry.h. */
#include "runtime/recorder/entry.h"

#include "common/base/cleanup.h"
#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/base/utf8.h"
#include "common/journal/pb.h"
#include "runtime/recorder/digest.h"
#include "runtime/recorder/place.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Fields of sandbox.v1.FileEntry, and its Type. */
enum {
    NAME = 1,
    PATH = 2,
    TYPE = 3,
    SIZE = 4,
    MODE = 5,
    OWNER = 6,
    GROUP = 7,
    MODIFY_TIME = 8,
    SYMLINK_TARGET = 9,
    TARGET_TYPE = 10,
    SHA256 = 11,
};

enum { TYPE_FILE = 1, TYPE_DIRECTORY = 2, TYPE_SYMLINK = 3, TYPE_OTHER = 4 };

enum { ENTRY_MAX = 64 * 1024 };

static unsigned type_of(mode_t mode)
{
    if (S_ISREG(mode))
        return TYPE_FILE;
    if (S_ISDIR(mode))
        return TYPE_DIRECTORY;
    return S_ISLNK(mode) ? TYPE_SYMLINK : TYPE_OTHER;
}

static void add_text(struct buf *to, unsigned number, const char *text)
{
    AUTO_FREE char *valid = utf8_repair((const uint8_t *)text, strlen(text));

    pb_add_bytes(to, number, valid, strlen(valid));
}

/* Names are asked for once in a row: the files of a directory mostly belong to one user. */
static void add_owner(struct buf *to, uid_t uid, gid_t gid)
{
    static char user[64], group[64];
    static uid_t last_uid;
    static gid_t last_gid;

    if (user[0] == '\0' || uid != last_uid) {
        const struct passwd *p = getpwuid(uid);

        snprintf(user, sizeof(user), "%u", (unsigned)uid);
        if (p != NULL)
            snprintf(user, sizeof(user), "%s", p->pw_name);
        last_uid = uid;
    }
    if (group[0] == '\0' || gid != last_gid) {
        const struct group *g = getgrgid(gid);

        snprintf(group, sizeof(group), "%u", (unsigned)gid);
        if (g != NULL)
            snprintf(group, sizeof(group), "%s", g->gr_name);
        last_gid = gid;
    }
    add_text(to, OWNER, user);
    add_text(to, GROUP, group);
}

static void add_target(struct buf *to, int dir, const char *name)
{
    char target[PATH_MAX];
    ssize_t n = readlinkat(dir, name, target, sizeof(target) - 1);
    struct stat info;

    if (n > 0) {
        target[n] = '\0';
        add_text(to, SYMLINK_TARGET, target);
    }
    if (fstatat(dir, name, &info, 0) == 0)
        pb_add_uint(to, TARGET_TYPE, type_of(info.st_mode));
}

static bool add_digest(struct buf *to, int dir, const char *name)
{
    AUTO_CLOSE int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    uint8_t digest[SHA256_LEN];
    struct stat info;

    if (fd < 0 || fstat(fd, &info) != 0)
        return false;
    if (!S_ISREG(info.st_mode))
        return errno = EISDIR, false;
    return digest_file(NULL, fd, digest) && pb_add_bytes(to, SHA256, digest, sizeof(digest));
}

bool entry_add(struct buf *to, unsigned number, int dir, const char *name, const char *path,
               const struct entry_options *options)
{
    AUTO(buf_deinit) struct buf entry = BUF_INIT(ENTRY_MAX);
    bool follow = options->follow_links;
    struct stat info;

    if (fstatat(dir, name, &info, follow ? 0 : AT_SYMLINK_NOFOLLOW) != 0)
        return false;
    if (options->with_sha256 && !S_ISREG(info.st_mode))
        return errno = EISDIR, false;
    add_text(&entry, NAME, place_name(path));
    add_text(&entry, PATH, path);
    pb_add_uint(&entry, TYPE, type_of(info.st_mode));
    pb_add_uint(&entry, SIZE, (uint64_t)info.st_size);
    pb_add_uint(&entry, MODE, info.st_mode & 07777);
    add_owner(&entry, info.st_uid, info.st_gid);
    if (info.st_mtim.tv_sec >= 0)
        pb_add_time(&entry, MODIFY_TIME, info.st_mtim.tv_sec * NS_PER_S + info.st_mtim.tv_nsec);
    if (S_ISLNK(info.st_mode))
        add_target(&entry, dir, name);
    if (options->with_sha256 && !add_digest(&entry, dir, name))
        return false;
    if (!pb_add_element(to, number, buf_data(&entry), buf_len(&entry)))
        return errno = EMSGSIZE, false;
    return true;
}
