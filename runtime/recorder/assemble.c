/*
 * See assemble.h. The largest part that begins at 0 becomes the file; what others have beyond its
 * end is appended, so an upload that was never cut is not copied at all. A part may still be
 * written to by a stream that died late; it writes the same bytes at the same place. Every step
 * leaves parts that can be put together again.
 */
#include "runtime/recorder/assemble.h"

#include "common/base/cleanup.h"
#include "common/base/fd.h"
#include "common/base/mem.h"
#include "common/journal/pb.h"
#include "runtime/recorder/digest.h"
#include "runtime/recorder/entry.h"
#include "runtime/recorder/fault.h"
#include "runtime/recorder/files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* Fields of UploadFileResponse. */
enum { RECEIVED_SIZE = 1, COMMITTED = 2, ENTRY = 3 };

enum { PARTS_MAX = 10000, FORGOTTEN_S = 86400 };

static const char any_upload[] = ".sandboxd-upload-";

struct part {
    uint64_t offset, size;
    char *name; /* owned; below dir */
};

struct parts {
    int dir; /* owned; -1: there is none */
    const char *prefix;
    struct part *list; /* owned; by offset, the larger first */
    size_t n;
};

static void parts_deinit(struct parts *p)
{
    for (size_t i = 0; i < p->n; i++)
        free(p->list[i].name);
    free(p->list);
    cleanup_close(&p->dir);
}

static int by_offset(const void *a, const void *b)
{
    const struct part *x = a, *y = b;

    if (x->offset != y->offset)
        return x->offset < y->offset ? -1 : 1;
    return x->size > y->size ? -1 : x->size < y->size;
}

static void drop_if_forgotten(int dir, const char *name)
{
    struct stat info;

    if (strncmp(name, any_upload, strlen(any_upload)) == 0 &&
        fstatat(dir, name, &info, AT_SYMLINK_NOFOLLOW) == 0 &&
        info.st_mtim.tv_sec + FORGOTTEN_S < time(NULL))
        unlinkat(dir, name, 0);
}

static bool visit(void *arg, const char *name)
{
    struct parts *p = arg;
    size_t len = strlen(p->prefix);
    struct stat info;
    uint64_t offset;
    const char *end;

    if (strncmp(name, p->prefix, len) != 0) {
        drop_if_forgotten(p->dir, name);
        return true;
    }
    if (!parse_u64(name + len, &end, &offset) || *end != '-' ||
        fstatat(p->dir, name, &info, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISREG(info.st_mode) ||
        p->n == PARTS_MAX)
        return true;
    if ((p->n & (p->n - 1)) == 0) /* grown at powers of two */
        p->list = xrealloc(p->list, (2 * p->n + 1) * sizeof(*p->list));
    p->list[p->n++] =
        (struct part){.offset = offset, .size = (uint64_t)info.st_size, .name = xstrdup(name)};
    return true;
}

static bool parts_find(const struct content *c, struct parts *ret, struct status *st)
{
    size_t dir_len = (size_t)(place_name(c->staged) - c->staged);
    AUTO_FREE char *dir = xasprintf("%.*s", (int)dir_len, c->staged);

    *ret = (struct parts){.prefix = place_name(c->staged)};
    ret->dir = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (ret->dir < 0)
        return errno == ENOENT || place_fault(st, dir);
    for_each_name(ret->dir, visit, ret);
    if (ret->n > 0)
        qsort(ret->list, ret->n, sizeof(*ret->list), by_offset);
    return true;
}

/* How far they reach without a gap. */
static uint64_t parts_reach(const struct parts *p)
{
    uint64_t end = 0;

    for (size_t i = 0; i < p->n && p->list[i].offset <= end; i++) {
        if (p->list[i].offset + p->list[i].size > end)
            end = p->list[i].offset + p->list[i].size;
    }
    return end;
}

static void parts_drop(const struct parts *p)
{
    for (size_t i = 0; i < p->n; i++)
        unlinkat(p->dir, p->list[i].name, 0);
}

static bool resolve(const struct place *p, struct content *c, struct status *st)
{
    char *path, *staged;

    if (c->staged == NULL || !place_resolve(p, c->path, &path, st))
        return c->staged != NULL || fault(st, RECORDER_BAD_SPEC, "an upload has no parts");
    free(c->path);
    c->path = path;
    if (!place_resolve(p, c->staged, &staged, st))
        return false;
    free(c->staged);
    c->staged = staged;
    return true;
}

bool assemble_look(const struct place *p, struct content *c, struct buf *out, struct status *st)
{
    AUTO(parts_deinit) struct parts parts = {.dir = -1};

    return resolve(p, c, st) && parts_find(c, &parts, st) &&
           pb_add_uint(out, RECEIVED_SIZE, parts_reach(&parts));
}

/* --- putting together --- */

static bool append_rest(int to, const struct parts *p, const struct part *part, uint64_t from)
{
    enum { STEP = 1 << 20 };
    AUTO_CLOSE int fd = openat(p->dir, part->name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    AUTO_FREE uint8_t *block = xmalloc(STEP);
    off_t at = (off_t)(from - part->offset);
    uint64_t left = part->size - (uint64_t)at;

    if (fd < 0)
        return false;
    while (left > 0) {
        ssize_t n = pread(fd, block, left < STEP ? (size_t)left : STEP, at);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 || (n > 0 && !fd_write_all(to, block, (size_t)n)))
            return false;
        if (n == 0)
            return errno = EIO, false;
        at += n;
        left -= (uint64_t)n;
    }
    return true;
}

/* The first part, with what the others have beyond it. */
static bool join(const struct parts *p, int base, struct status *st)
{
    uint64_t end = p->list[0].size;

    if (lseek(base, (off_t)end, SEEK_SET) < 0)
        return fault_errno(st, "the upload cannot be put together");
    for (size_t i = 1; i < p->n; i++) {
        const struct part *part = &p->list[i];

        if (part->offset + part->size > end) {
            if (!append_rest(base, p, part, end))
                return fault_errno(st, "the upload cannot be put together");
            end = part->offset + part->size;
        }
        unlinkat(p->dir, part->name, 0);
    }
    return true;
}

static bool is_right(const struct assembly *a, int base, struct status *st)
{
    const struct content *c = a->content;
    uint8_t digest[SHA256_LEN];
    struct stat info;

    if (fstat(base, &info) != 0)
        return fault_errno(st, "the upload cannot be read");
    if ((uint64_t)info.st_size == c->size) {
        if (!digest_file(a->state, base, digest))
            return fault_errno(st, "the upload cannot be read");
        if (memcmp(digest, c->sha256, SHA256_LEN) == 0)
            return true;
    }
    return fault(st, RECORDER_DIGEST,
                 "what came has %llu bytes and is not what the commit says: begin again",
                 (unsigned long long)info.st_size);
}

/* --- what becomes of it: a file --- */

static bool answer(const struct content *c, struct buf *out, struct status *st)
{
    pb_add_uint(out, RECEIVED_SIZE, c->size);
    pb_add_uint(out, COMMITTED, true);
    return entry_add(out, ENTRY, AT_FDCWD, c->path, c->path, &(struct entry_options){0}) ||
           place_fault(st, c->path);
}

/* Takes the name; the answer of replace_commit() is not ours. */
static bool take_name(const struct assembly *a, const char *base_name, int base, struct buf *out,
                      struct status *st)
{
    AUTO(buf_deinit) struct buf unused = BUF_INIT(64 * 1024);
    struct content *c = a->content;
    size_t dir_len = (size_t)(place_name(c->staged) - c->staged);
    char *whole = xasprintf("%.*s%s", (int)dir_len, c->staged, base_name);

    free(c->staged);
    c->staged = whole;
    return replace_commit(a->state, a->place, c, 1, &unused, st) && answer(c, out, st);
}

/* Whether the file has its name already: the commit before was not heard. */
static bool has_name(const struct assembly *a, struct buf *out, struct status *st)
{
    const struct content *c = a->content;
    AUTO_CLOSE int fd = open(c->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    uint8_t digest[SHA256_LEN];
    struct stat info;

    return fd >= 0 && fstat(fd, &info) == 0 && S_ISREG(info.st_mode) &&
           (uint64_t)info.st_size == c->size && digest_file(a->state, fd, digest) &&
           memcmp(digest, c->sha256, SHA256_LEN) == 0 && answer(c, out, st);
}

/* --- putting an upload together --- */

/* An empty file has no bytes that could have made a part. */
static bool make_empty_part(const struct place *p, const struct content *c, struct parts *parts,
                            struct status *st)
{
    AUTO_FREE char *path = xasprintf("%s0-empty", c->staged);
    AUTO_CLOSE int fd = -1;

    if (!place_make_parents(p, path, st))
        return false;
    fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0 || fchmod(fd, 0644) != 0 || (p->own && fchown(fd, p->uid, p->gid) != 0))
        return place_fault(st, path);
    parts_deinit(parts);
    return parts_find(c, parts, st);
}

/* False without a failure in st: it was another one's, look again. */
static bool lock_base(const struct parts *p, int *ret, struct status *st)
{
    struct stat info;

    *ret = openat(p->dir, p->list[0].name, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (*ret < 0 && errno == ENOENT)
        return false;
    if (*ret < 0 || flock(*ret, LOCK_EX) != 0)
        return fault_errno(st, "the upload cannot be opened");
    if (fstat(*ret, &info) != 0 || (uint64_t)info.st_size != p->list[0].size)
        return false;
    return fstatat(p->dir, p->list[0].name, &info, AT_SYMLINK_NOFOLLOW) == 0;
}

static bool finish(const struct assembly *a, struct parts *parts, int base, struct buf *out,
                   struct status *st)
{
    bool ok;

    if (!join(parts, base, st))
        return false;
    if (!is_right(a, base, st)) {
        if (st->reason == RECORDER_DIGEST)
            parts_drop(parts);
        return false;
    }
    ok = a->use(a, parts->list[0].name, base, out, st);
    if (ok || (a->is_hopeless != NULL && a->is_hopeless(st)))
        parts_drop(parts); /* of what has taken a name they are gone */
    return ok;
}

bool assembly_run(const struct assembly *a, struct buf *out, struct status *st)
{
    enum { TRIES = 1000, TRY_US = 5000 };
    struct content *c = a->content;

    if (!resolve(a->place, c, st))
        return false;
    for (int i = 0; i < TRIES; i++) {
        AUTO(parts_deinit) struct parts parts = {.dir = -1};
        AUTO_CLOSE int base = -1;
        uint64_t reach;

        if (!parts_find(c, &parts, st))
            return false;
        if (parts.n == 0 && a->is_done(a, out, st))
            return true;
        if (st->code != CODE_OK)
            return false;
        if (parts.n == 0 && c->size == 0 && !make_empty_part(a->place, c, &parts, st))
            return false;
        reach = parts_reach(&parts);
        if (reach < c->size || parts.n == 0) {
            pb_add_uint(out, RECEIVED_SIZE, reach);
            return fault(st, RECORDER_UPLOAD_GAP, "of %llu bytes %llu have come",
                         (unsigned long long)c->size, (unsigned long long)reach);
        }
        if (lock_base(&parts, &base, st))
            return finish(a, &parts, base, out, st);
        if (st->code != CODE_OK)
            return false;
        usleep(TRY_US); /* another commit of it, or a stream that is still dying */
    }
    return fault(st, RECORDER_INTERNAL, "the upload is not at rest");
}

bool assemble(const struct state *s, const struct place *p, struct content *c, struct buf *out,
              struct status *st)
{
    const struct assembly a = {
        .state = s, .place = p, .content = c, .is_done = has_name, .use = take_name};

    return assembly_run(&a, out, st);
}
