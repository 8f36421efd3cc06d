/*
 * See pack.h. What is written is no archive yet: that is made outside of the sandbox, where nobody
 * in here can touch it. Links are never followed, and a file is what was opened, so what a program
 * in the sandbox moves about meanwhile leads nowhere else. Access is root's, as with all reading.
 */
#include "runtime/recorder/pack.h"

#include "common/base/buf.h"
#include "common/base/cleanup.h"
#include "common/base/fd.h"
#include "common/base/mem.h"
#include "common/journal/pb.h"
#include "common/tar/tar.h"
#include "runtime/recorder/download.h"
#include "runtime/recorder/entry.h"
#include "runtime/recorder/fault.h"
#include "runtime/recorder/meta.h"
#include "runtime/recorder/names.h"
#include "runtime/recorder/place.h"
#include "runtime/recorder/tree.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

/* Fields of TreeFrame, TreeEntry and TreeSkip; types of FileEntry. */
enum { HEAD = 1, ENTRY = 2, SKIP = 3, CHANGED = 4, END = 5 };
enum { PATH = 1, TYPE = 2, MODE = 3, SIZE = 4, MTIME = 5, LINK = 6, VERSION = 7 };
enum { SKIP_PATH = 1, SKIP_WHY = 2 };
enum { TYPE_FILE = 1, TYPE_DIRECTORY = 2, TYPE_SYMLINK = 3 };

enum { OUT_SIZE = 256 * 1024, FRAME_MAX = 128 * 1024 };

struct packing {
    const struct pack *p;
    struct status *st;
    struct buf at; /* the path of what is looked at, below the directory */
    bool resuming; /* the file that is to be gone on with has not come yet */
    uint8_t *out;  /* owned; OUT_SIZE */
    size_t out_len;
};

/* --- what is written --- */

static bool flush(struct packing *k)
{
    if (!fd_write_all(STDOUT_FILENO, k->out, k->out_len))
        return fault_errno(k->st, "the directory cannot be sent");
    k->out_len = 0;
    return true;
}

static bool put(struct packing *k, const void *data, size_t len)
{
    if (k->out_len + len > OUT_SIZE && !flush(k))
        return false;
    memcpy(k->out + k->out_len, data, len);
    k->out_len += len;
    return true;
}

static bool put_frame(struct packing *k, const struct buf *frame)
{
    size_t len = buf_len(frame);
    uint8_t size[4];

    for (int i = 0; i < 4; i++)
        size[i] = (uint8_t)(len >> (24 - 8 * i));
    return put(k, size, sizeof(size)) && put(k, buf_data(frame), len);
}

static bool put_message(struct packing *k, unsigned number, const struct buf *message)
{
    AUTO(buf_deinit) struct buf frame = BUF_INIT(FRAME_MAX);

    pb_add_element(&frame, number, buf_data(message), buf_len(message));
    return put_frame(k, &frame);
}

static bool put_flag(struct packing *k, unsigned number)
{
    AUTO(buf_deinit) struct buf frame = BUF_INIT(FRAME_MAX);

    pb_add_uint(&frame, number, true);
    return put_frame(k, &frame);
}

static bool put_skip(struct packing *k, const char *why)
{
    AUTO(buf_deinit) struct buf m = BUF_INIT(FRAME_MAX);

    pb_add_bytes(&m, SKIP_PATH, buf_str(&k->at), buf_len(&k->at));
    pb_add_bytes(&m, SKIP_WHY, why, strlen(why));
    return put_message(k, SKIP, &m);
}

static bool put_entry(struct packing *k, unsigned type, const struct stat *info, const char *link)
{
    AUTO(buf_deinit) struct buf m = BUF_INIT(FRAME_MAX);
    char version[FILE_VERSION_SIZE];

    if (k->resuming && type != TYPE_FILE)
        return fault(k->st, RECORDER_FILE_CHANGED, "%.300s is not the file that it was",
                     k->p->place);
    file_version(info, version);
    pb_add_bytes(&m, PATH, buf_str(&k->at), buf_len(&k->at));
    pb_add_uint(&m, TYPE, type);
    pb_add_uint(&m, MODE, info->st_mode & 07777);
    pb_add_uint(&m, SIZE, type == TYPE_FILE ? (uint64_t)info->st_size : 0);
    pb_add_uint(&m, MTIME, (uint64_t)info->st_mtim.tv_sec);
    pb_add_bytes(&m, LINK, link, strlen(link));
    pb_add_bytes(&m, VERSION, version, strlen(version));
    return put_message(k, ENTRY, &m);
}

/* --- files --- */

static bool changed(struct packing *k)
{
    return errno = EAGAIN, fault(k->st, RECORDER_FILE_CHANGED,
                                 "%.300s became shorter while it was read", buf_str(&k->at));
}

static bool pack_content(struct packing *k, int fd, uint64_t left)
{
    while (left > 0) {
        size_t room = OUT_SIZE - k->out_len;
        ssize_t n = read(fd, k->out + k->out_len, left < room ? (size_t)left : room);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return place_fault(k->st, buf_str(&k->at));
        if (n == 0)
            return changed(k);
        k->out_len += (size_t)n;
        left -= (uint64_t)n;
        if (k->out_len == OUT_SIZE && !flush(k))
            return false;
    }
    return true;
}

static bool is_changed(int fd, const struct stat *before)
{
    char was[FILE_VERSION_SIZE], is[FILE_VERSION_SIZE];
    struct stat info;

    if (fstat(fd, &info) != 0)
        return true;
    file_version(before, was);
    file_version(&info, is);
    return strcmp(was, is) != 0;
}

/* Where to begin in the file. False: it is to be gone on with, and is another one now. */
static bool resume(struct packing *k, const struct stat *info, uint64_t *ret)
{
    char version[FILE_VERSION_SIZE];

    *ret = 0;
    if (!k->resuming)
        return true;
    file_version(info, version);
    if (strcmp(buf_str(&k->at), k->p->place) != 0 || strcmp(version, k->p->version) != 0 ||
        k->p->offset > (uint64_t)info->st_size)
        return fault(k->st, RECORDER_FILE_CHANGED, "%.300s is not the file that it was",
                     k->p->place);
    k->resuming = false;
    *ret = k->p->offset;
    return true;
}

static bool pack_file(struct packing *k, int dir, const char *name)
{
    AUTO_CLOSE int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    struct stat info;
    uint64_t from;

    if (fd < 0)
        return errno == ENOENT || errno == ELOOP || put_skip(k, strerror(errno));
    if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode))
        return true; /* something else by now */
    if (!resume(k, &info, &from) || !put_entry(k, TYPE_FILE, &info, ""))
        return false;
    if (from > 0 && lseek(fd, (off_t)from, SEEK_SET) < 0)
        return place_fault(k->st, buf_str(&k->at));
    return pack_content(k, fd, (uint64_t)info.st_size - from) &&
           (!is_changed(fd, &info) || put_flag(k, CHANGED));
}

static bool pack_link(struct packing *k, int dir, const char *name, const struct stat *info)
{
    char target[PATH_MAX];
    ssize_t n = readlinkat(dir, name, target, sizeof(target) - 1);

    if (n < 0)
        return true; /* gone */
    target[n] = '\0';
    return put_entry(k, TYPE_SYMLINK, info, target);
}

/* --- the walk --- */

static bool pack_dir(struct packing *k, int dir, const char *after);

/* show: false where it was read before, and only what it holds was not. */
static bool pack_below(struct packing *k, int dir, const char *name, const char *after, bool show)
{
    AUTO_CLOSE int below = openat(dir, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    struct stat info;

    if (below < 0 && (errno == ENOENT || errno == ENOTDIR || errno == ELOOP))
        return true; /* gone, or something else by now */
    if (below < 0 || fstat(below, &info) != 0)
        return put_skip(k, strerror(errno));
    return (!show || put_entry(k, TYPE_DIRECTORY, &info, "")) && pack_dir(k, below, after);
}

static bool pack_one(struct packing *k, int dir, const char *name)
{
    struct stat info;

    if (fstatat(dir, name, &info, AT_SYMLINK_NOFOLLOW) != 0)
        return errno == ENOENT || put_skip(k, strerror(errno));
    switch (info.st_mode & S_IFMT) {
    case S_IFREG:
        return pack_file(k, dir, name);
    case S_IFDIR:
        return pack_below(k, dir, name, NULL, true);
    case S_IFLNK:
        return pack_link(k, dir, name, &info);
    default:
        return put_skip(k, "it is neither a file nor a directory nor a link");
    }
}

/* What came so far of an upload that is not committed. */
static bool is_ours(const char *name)
{
    return strncmp(name, ".sandboxd-upload-", 17) == 0 || strncmp(name, ".sandboxd-tree-", 15) == 0;
}

/* The name is the first part of a place: what is there was read, up to that place below it. */
static bool pack_rest(struct packing *k, int dir, const char *name, const char *rest)
{
    if (rest[0] == '\0' && k->resuming)
        return pack_file(k, dir, name);
    return pack_below(k, dir, name, rest[0] != '\0' ? rest + 1 : NULL, false);
}

/* after: the place below dir that was read up to; NULL: none. */
static bool pack_dir(struct packing *k, int dir, const char *after)
{
    AUTO(names_deinit) struct names names = {0};
    size_t len = buf_len(&k->at), first_len = after != NULL ? strcspn(after, "/") : 0;
    AUTO_FREE char *first = after != NULL ? string_of(after, first_len) : NULL;
    bool ok = true;

    if (!names_read(dir, &names))
        ok = names.n == NAMES_MAX
                 ? fault(k->st, RECORDER_TOO_LARGE, "%.300s holds %d entries or more",
                         buf_str(&k->at), NAMES_MAX)
                 : put_skip(k, strerror(errno));
    for (size_t i = 0; i < names.n && ok; i++) {
        const char *name = names.at[i];
        int order = first != NULL ? strcmp(name, first) : 1;

        k->at.len = len;
        if (order < 0)
            continue;
        if (!buf_printf(&k->at, "%s%s", len > 0 ? "/" : "", name))
            ok = put_skip(k, "the paths of what it holds are too long");
        else if (is_ours(name) || tree_excludes(k->p->excludes, buf_str(&k->at)))
            continue;
        else if (order > 0)
            ok = pack_one(k, dir, name);
        else
            ok = pack_rest(k, dir, name, after + first_len);
    }
    k->at.len = len;
    return ok;
}

/* A tree may be deeper than a process has descriptors. */
static void allow_depth(void)
{
    struct rlimit files;

    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
}

static bool put_head(struct packing *k)
{
    AUTO(buf_deinit) struct buf frame = BUF_INIT(FRAME_MAX);
    const struct entry_options options = {.follow_links = true};

    if (!entry_add(&frame, HEAD, AT_FDCWD, k->p->path, k->p->path, &options))
        return place_fault(k->st, k->p->path);
    return put_frame(k, &frame);
}

static bool run(struct packing *k)
{
    const struct pack *p = k->p;
    AUTO_CLOSE int dir = open(p->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (dir < 0)
        return place_fault(k->st, p->path);
    allow_depth();
    if (!put_head(k) || (!p->only_end && !pack_dir(k, dir, p->place[0] != '\0' ? p->place : NULL)))
        return false;
    if (k->resuming && !p->only_end)
        return fault(k->st, RECORDER_FILE_CHANGED, "%.300s is not there any more", p->place);
    return put_flag(k, END) && flush(k);
}

bool pack(const struct pack *p, struct status *st)
{
    struct packing k = {
        .p = p,
        .st = st,
        .at = BUF_INIT(TAR_PATH_MAX),
        .resuming = p->version[0] != '\0',
        .out = xmalloc(OUT_SIZE),
    };
    bool ok = run(&k);

    buf_deinit(&k.at);
    free(k.out);
    return ok;
}
