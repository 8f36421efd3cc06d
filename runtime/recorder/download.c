/*
 * See download.h. How much will come is said first, so that nothing needs a frame. A file that is
 * changed meanwhile ends with an exit code that says so, after the last byte at the latest.
 */
#include "runtime/recorder/download.h"

#include "common/base/buf.h"
#include "common/base/cleanup.h"
#include "common/base/fd.h"
#include "common/base/mem.h"
#include "common/base/sha256.h"
#include "common/journal/pb.h"
#include "runtime/recorder/entry.h"
#include "runtime/recorder/fault.h"
#include "runtime/recorder/files.h"
#include "runtime/recorder/place.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Fields of DownloadHead and DownloadEnd. */
enum { VERSION = 2, LENGTH = 3 };
enum { SHA256 = 1 };

enum { STEP = 256 * 1024, HEAD_MAX = 128 * 1024 };

struct reading {
    int fd;
    const struct download *d;
    struct stat info;
    char version[FILE_VERSION_SIZE];
    uint8_t *block;
    struct sha256 sha256;
};

void file_version(const struct stat *info, char to[FILE_VERSION_SIZE])
{
    snprintf(to, FILE_VERSION_SIZE, "%llx-%llx-%llx-%llx.%lx-%llx.%lx",
             (unsigned long long)info->st_dev, (unsigned long long)info->st_ino,
             (unsigned long long)info->st_size, (unsigned long long)info->st_mtim.tv_sec,
             (unsigned long)info->st_mtim.tv_nsec, (unsigned long long)info->st_ctim.tv_sec,
             (unsigned long)info->st_ctim.tv_nsec);
}

static bool changed(const struct reading *r, struct status *st)
{
    return fault(st, RECORDER_FILE_CHANGED, "%.300s is not the file that it was", r->d->path);
}

static bool open_file(struct reading *r, struct status *st)
{
    const struct download *d = r->d;

    r->fd = open(d->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (r->fd < 0 || fstat(r->fd, &r->info) != 0)
        return place_fault(st, d->path);
    if (!S_ISREG(r->info.st_mode))
        return errno = EISDIR, place_fault(st, d->path);
    file_version(&r->info, r->version);
    if (d->version[0] != '\0' && strcmp(d->version, r->version) != 0)
        return changed(r, st);
    if (d->offset > (uint64_t)r->info.st_size)
        return fault(st, RECORDER_BAD_OFFSET, "%.300s has %llu bytes: there is no offset %llu",
                     d->path, (unsigned long long)r->info.st_size, (unsigned long long)d->offset);
    return true;
}

static bool write_head(const struct reading *r, uint64_t length, struct status *st)
{
    AUTO(buf_deinit) struct buf head = BUF_INIT(HEAD_MAX);
    uint8_t size[4];
    size_t len;

    if (!entry_add(&head, 1, AT_FDCWD, r->d->path, r->d->path,
                   &(struct entry_options){.follow_links = true}))
        return place_fault(st, r->d->path);
    pb_add_bytes(&head, VERSION, r->version, strlen(r->version));
    pb_add_uint(&head, LENGTH, length);
    len = buf_len(&head);
    for (int i = 0; i < 4; i++)
        size[i] = (uint8_t)(len >> (24 - 8 * i));
    return (fd_write_all(STDOUT_FILENO, size, sizeof(size)) &&
            fd_write_all(STDOUT_FILENO, buf_data(&head), len)) ||
           fault_errno(st, "the file cannot be sent");
}

/* The next bytes, digested and, if they are wanted, sent. */
static bool pass(struct reading *r, uint64_t length, bool send, struct status *st)
{
    while (length > 0) {
        ssize_t n = read(r->fd, r->block, length < STEP ? (size_t)length : STEP);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return place_fault(st, r->d->path);
        if (n == 0)
            return changed(r, st); /* it is shorter than it was */
        if (r->d->with_sha256)
            sha256_update(&r->sha256, r->block, (size_t)n);
        if (send && !fd_write_all(STDOUT_FILENO, r->block, (size_t)n))
            return fault_errno(st, "the file cannot be sent");
        length -= (uint64_t)n;
    }
    return true;
}

static bool is_unchanged(const struct reading *r)
{
    char version[FILE_VERSION_SIZE];
    struct stat info;

    if (fstat(r->fd, &info) != 0)
        return false;
    file_version(&info, version);
    return strcmp(version, r->version) == 0;
}

static bool write_end(struct reading *r, bool whole, struct status *st)
{
    AUTO(buf_deinit) struct buf end = BUF_INIT(64);
    uint8_t digest[SHA256_LEN];

    if (!is_unchanged(r))
        return changed(r, st);
    if (r->d->with_sha256 && whole) {
        sha256_final(&r->sha256, digest);
        pb_add_bytes(&end, SHA256, digest, sizeof(digest));
    }
    return fd_write_all(STDOUT_FILENO, buf_data(&end), buf_len(&end)) ||
           fault_errno(st, "the file cannot be sent");
}

static bool run(struct reading *r, struct status *st)
{
    const struct download *d = r->d;
    uint64_t left, length;

    if (!open_file(r, st))
        return false;
    left = (uint64_t)r->info.st_size - d->offset;
    length = d->length != 0 && d->length < left ? d->length : left;
    if (!write_head(r, length, st))
        return false;
    if (d->with_sha256 ? !pass(r, d->offset, false, st)
                       : lseek(r->fd, (off_t)d->offset, SEEK_SET) < 0 && !place_fault(st, d->path))
        return false;
    return pass(r, length, true, st) && write_end(r, length == left, st);
}

bool download(const struct download *d, struct status *st)
{
    struct reading r = {.fd = -1, .d = d, .block = xmalloc(STEP)};
    bool ok;

    sha256_init(&r.sha256);
    ok = run(&r, st);
    cleanup_close(&r.fd);
    free(r.block);
    return ok;
}
