/*
 * See replace.h. Between the check and the renames of a commit only other commits are kept away, by
 * a lock of the state directory; a program in the sandbox could still come between. That nothing is
 * at a path is checked by the rename itself.
 */
#include "runtime/recorder/replace.h"

#include "common/base/cleanup.h"
#include "common/journal/pb.h"
#include "runtime/recorder/change.h"
#include "runtime/recorder/digest.h"
#include "runtime/recorder/fault.h"
#include "runtime/recorder/meta.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/* --- what is asked --- */

void content_deinit(struct content *c)
{
    free(c->path);
    free(c->staged);
    c->path = c->staged = NULL;
}

static bool take_digest(const struct pb_field *f, uint8_t to[SHA256_LEN])
{
    if (f->len != SHA256_LEN)
        return false;
    memcpy(to, f->data, SHA256_LEN);
    return true;
}

static bool take_path(const struct pb_field *f, char **to)
{
    free(*to);
    *to = string_of(f->data, f->len);
    return memchr(f->data, '\0', f->len) == NULL;
}

static bool take_bytes(const struct pb_field *f, struct content *to)
{
    switch (f->number) {
    case 1:
        return take_path(f, &to->path);
    case 3:
        return take_digest(f, to->sha256);
    case 6:
        to->conditional = true;
        return take_digest(f, to->if_sha256);
    case 7:
        return take_path(f, &to->staged);
    default:
        return true;
    }
}

bool content_parse(const uint8_t *data, size_t len, struct content *ret)
{
    struct pb_reader r = pb_reader(data, len);
    struct pb_field f;

    *ret = (struct content){0};
    while (pb_next(&r, &f)) {
        if (f.wire == PB_BYTES && !take_bytes(&f, ret))
            return false;
        if (f.wire == PB_VARINT && f.number == 2)
            ret->size = f.value;
        if (f.wire == PB_VARINT && f.number == 4)
            ret->mode = (uint32_t)f.value & 07777;
        if (f.wire == PB_VARINT && f.number == 5)
            ret->create_only = f.value != 0;
    }
    return !r.malformed && ret->path != NULL;
}

static bool resolve(const struct place *p, char **path, struct status *st)
{
    char *whole;

    if (*path == NULL || !place_resolve(p, *path, &whole, st))
        return *path == NULL;
    free(*path);
    *path = whole;
    return true;
}

static bool resolve_all(const struct place *p, struct content *list, size_t n, struct status *st)
{
    for (size_t i = 0; i < n; i++) {
        if (!resolve(p, &list[i].path, st) || !resolve(p, &list[i].staged, st))
            return false;
    }
    return true;
}

/* --- what is there --- */

struct found {
    bool exists, has_digest;
    struct stat info;
    uint8_t sha256[SHA256_LEN];
};

/* The digest only of files that could be meant: a size that differs tells as much. */
static bool look(const struct state *s, const struct content *c, struct found *ret,
                 struct status *st)
{
    AUTO_CLOSE int fd = -1;

    *ret = (struct found){0};
    if (lstat(c->path, &ret->info) != 0)
        return errno == ENOENT || errno == ENOTDIR || place_fault(st, c->path);
    ret->exists = true;
    if (!S_ISREG(ret->info.st_mode) || (!c->conditional && (uint64_t)ret->info.st_size != c->size))
        return true;
    fd = open(c->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0 || !digest_file(s, fd, ret->sha256))
        return errno == ENOENT || place_fault(st, c->path);
    ret->has_digest = true;
    return true;
}

static bool is_allowed(const struct content *c, const struct found *f, struct status *st)
{
    if (c->create_only && f->exists)
        return errno = EEXIST, place_fault(st, c->path);
    if (c->conditional && (!f->has_digest || memcmp(f->sha256, c->if_sha256, SHA256_LEN) != 0))
        return fault(st, RECORDER_FILE_CHANGED, "%.300s %s", c->path,
                     f->exists ? "is not the file that if_sha256 names" : "is not there");
    return true;
}

static bool is_same(const struct content *c, const struct found *f)
{
    return f->has_digest && memcmp(f->sha256, c->sha256, SHA256_LEN) == 0 &&
           (c->mode == 0 || (f->info.st_mode & 07777) == c->mode);
}

static bool report(struct buf *out, const char *path, bool unchanged, struct status *st)
{
    AUTO(buf_deinit) struct buf entry = BUF_INIT(64 * 1024);

    if (pb_add_bytes(&entry, 1, path, strlen(path)) && pb_add_uint(&entry, 2, unchanged) &&
        pb_add_element(out, 1, buf_data(&entry), buf_len(&entry)))
        return true;
    return fault(st, RECORDER_TOO_LARGE, "the answer is too large");
}

bool replace_check(const struct state *s, const struct place *p, struct content *list, size_t n,
                   struct buf *out, struct status *st)
{
    struct found found;

    if (!resolve_all(p, list, n, st))
        return false;
    for (size_t i = 0; i < n; i++) {
        if (!look(s, &list[i], &found, st) || !is_allowed(&list[i], &found, st) ||
            !report(out, list[i].path, is_same(&list[i], &found), st))
            return false;
    }
    return true;
}

/* --- taking their places --- */

static bool all_allowed(const struct state *s, struct content *list, size_t n, struct status *st)
{
    struct found found;

    for (size_t i = 0; i < n; i++) {
        if (!look(s, &list[i], &found, st) || !is_allowed(&list[i], &found, st))
            return false;
        if (list[i].mode == 0 && found.exists && S_ISREG(found.info.st_mode))
            list[i].mode = found.info.st_mode & 07777;
    }
    return true;
}

static bool take_place(const struct content *c, struct status *st)
{
    if (c->staged == NULL)
        return true; /* nothing to write: a precondition alone */
    if (c->mode != 0 && chmod(c->staged, c->mode) != 0)
        return place_fault(st, c->staged);
    if (c->create_only ? change_rename_new(c->staged, c->path) : rename(c->staged, c->path) == 0)
        return true;
    return place_fault(st, c->path);
}

static void drop_staged(const struct content *list, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (list[i].staged != NULL)
            unlink(list[i].staged);
    }
}

bool replace_commit(const struct state *s, const struct place *p, struct content *list, size_t n,
                    struct buf *out, struct status *st)
{
    AUTO_CLOSE int lock = openat(s->dir, "files.lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    bool ok = resolve_all(p, list, n, st);

    if (ok && (lock < 0 || flock(lock, LOCK_EX) != 0))
        ok = fault_errno(st, "the lock cannot be had");
    ok = ok && all_allowed(s, list, n, st);
    for (size_t i = 0; ok && i < n; i++)
        ok = take_place(&list[i], st) && report(out, list[i].path, list[i].staged == NULL, st);
    if (!ok)
        drop_staged(list, n);
    return ok;
}

bool replace_discard(const struct place *p, struct content *list, size_t n, struct status *st)
{
    if (!resolve_all(p, list, n, st))
        return false;
    drop_staged(list, n);
    return true;
}
