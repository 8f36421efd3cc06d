/*
 * See digest.h. What is kept is only gone on with while the file is the same one and was not
 * changed since: its times are part of the name. Programs cannot set the time of change, nor come
 * to what is kept where the recorder runs as root.
 */
#include "runtime/recorder/digest.h"

#include "common/base/cleanup.h"
#include "common/base/mem.h"
#include "runtime/recorder/receipt.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct progress {
    const struct state *state; /* borrowed; NULL: nothing is kept */
    uint8_t key[SHA256_LEN];
    struct sha256 h; /* it is kept as it is */
    uint64_t kept;
};

/* Another recorder that keeps it in another form must use another key. */
static void set_key(struct progress *p, const struct stat *info)
{
    static const char what[] = "digest 1";
    const int64_t numbers[] = {(int64_t)info->st_dev, (int64_t)info->st_ino, info->st_size,
                               info->st_mtim.tv_sec,  info->st_mtim.tv_nsec, info->st_ctim.tv_sec,
                               info->st_ctim.tv_nsec, sizeof(p->h)};
    struct sha256 h;

    sha256_init(&h);
    sha256_update(&h, what, sizeof(what));
    sha256_update(&h, numbers, sizeof(numbers));
    sha256_final(&h, p->key);
}

static void go_on(struct progress *p, uint64_t size)
{
    AUTO(buf_deinit) struct buf kept = BUF_INIT(2 * sizeof(p->h));
    struct sha256 h;

    if (!receipt_find(p->state, p->key, &kept) || buf_len(&kept) != sizeof(h))
        return;
    memcpy(&h, buf_data(&kept), sizeof(h));
    if (h.len > size)
        return;
    p->h = h;
    p->kept = h.len;
}

static void keep(struct progress *p)
{
    AUTO(buf_deinit) struct buf kept = BUF_INIT(sizeof(p->h));

    buf_append(&kept, &p->h, sizeof(p->h));
    receipt_keep(p->state, p->key, &kept);
    p->kept = p->h.len;
}

bool digest_file(const struct state *s, int fd, uint8_t ret[SHA256_LEN])
{
    enum { BLOCK = 256 * 1024 };
    AUTO_FREE uint8_t *block = xmalloc(BLOCK);
    struct progress p = {.state = s};
    struct stat info;
    ssize_t n;

    if (fstat(fd, &info) != 0)
        return false;
    if (info.st_size < DIGEST_STEP)
        p.state = NULL;
    sha256_init(&p.h);
    if (p.state != NULL) {
        set_key(&p, &info);
        go_on(&p, (uint64_t)info.st_size);
    }
    while ((n = pread(fd, block, BLOCK, (off_t)p.h.len)) != 0) {
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return false;
        sha256_update(&p.h, block, (size_t)n);
        if (p.state != NULL && p.h.len - p.kept >= DIGEST_STEP)
            keep(&p);
    }
    /* What comes after may be stopped, too. */
    if (p.state != NULL && p.h.len > p.kept)
        keep(&p);
    sha256_final(&p.h, ret);
    return true;
}
