/*
 * Headers of archives: see tar.h. What ustar cannot say (long paths, names beyond ASCII, files of
 * 8 GiB and more, times before 1970) goes into a pax header, which all that read archives today
 * know.
 */
#include "common/base/utf8.h"
#include "common/tar/header.h"

#include <stdio.h>
#include <string.h>

enum { OCTAL_MAX_BITS = 33, EXTENDED_MAX = 3 * (TAR_PATH_MAX + 64) };

unsigned tar_header_sum(const struct tar_header *h)
{
    const uint8_t *at = (const uint8_t *)h;
    size_t from = offsetof(struct tar_header, checksum);
    unsigned sum = 0;

    for (size_t i = 0; i < sizeof(*h); i++)
        sum += i >= from && i < from + sizeof(h->checksum) ? ' ' : at[i];
    return sum;
}

size_t tar_padding(uint64_t size)
{
    return (size_t)(-size % TAR_BLOCK);
}

static void put_octal(char *to, size_t room, uint64_t value)
{
    to[room - 1] = '\0';
    for (size_t i = room - 1; i-- > 0; value >>= 3)
        to[i] = (char)('0' + (value & 7));
}

static bool is_ascii(const char *s)
{
    for (; *s != '\0'; s++) {
        if ((unsigned char)*s >= 0x80)
            return false;
    }
    return true;
}

/* Splits the path at a slash where it is long. False: ustar has no room for it. */
static bool put_path(struct tar_header *h, const char *path, size_t len)
{
    size_t at = len > sizeof(h->name) ? len - sizeof(h->name) - 1 : 0;
    const char *slash;

    if (len <= sizeof(h->name)) {
        memcpy(h->name, path, len);
        return true;
    }
    slash = memchr(path + at, '/', len - at - 1);
    if (slash == NULL || slash == path || (size_t)(slash - path) > sizeof(h->prefix))
        return false;
    memcpy(h->prefix, path, (size_t)(slash - path));
    memcpy(h->name, slash + 1, len - (size_t)(slash + 1 - path));
    return true;
}

static void finish(struct tar_header *h, char type, uint64_t size)
{
    put_octal(h->size, sizeof(h->size), size);
    h->type = type;
    memcpy(h->magic, "ustar", 6);
    memcpy(h->version, "00", 2);
    snprintf(h->checksum, sizeof(h->checksum), "%06o", tar_header_sum(h));
    h->checksum[7] = ' ';
}

/* --- pax --- */

static void add_record(struct buf *to, const char *key, const char *value, size_t len)
{
    size_t rest = strlen(key) + len + 3, whole = rest + 1;

    /* The length counts its own digits. */
    while (whole != rest + (size_t)snprintf(NULL, 0, "%zu", whole))
        whole = rest + (size_t)snprintf(NULL, 0, "%zu", whole);
    buf_printf(to, "%zu %s=", whole, key);
    buf_append(to, value, len);
    buf_append_byte(to, '\n');
}

static void add_number(struct buf *to, const char *key, long long value)
{
    char text[24];

    add_record(to, key, text, (size_t)snprintf(text, sizeof(text), "%lld", value));
}

/* Names are UTF-8 unless it is said that they are anything. */
static void add_charset(struct buf *to, const char *path, const char *link)
{
    if (!utf8_is_valid((const uint8_t *)path, strlen(path)) ||
        !utf8_is_valid((const uint8_t *)link, strlen(link)))
        add_record(to, "hdrcharset", "BINARY", 6);
}

static bool pad(struct buf *to, uint64_t size)
{
    static const uint8_t zeros[TAR_BLOCK];

    return buf_append(to, zeros, tar_padding(size));
}

static bool add_pax(struct buf *to, const struct buf *records)
{
    struct tar_header h = {.name = "././@PaxHeader"};
    size_t len = buf_len(records);

    put_octal(h.mode, sizeof(h.mode), 0644);
    put_octal(h.uid, sizeof(h.uid), 0);
    put_octal(h.gid, sizeof(h.gid), 0);
    put_octal(h.mtime, sizeof(h.mtime), 0);
    finish(&h, 'x', len);
    return buf_append(to, &h, sizeof(h)) && buf_append(to, buf_data(records), len) && pad(to, len);
}

/* --- entries --- */

static char flag_of(enum tar_type type)
{
    switch (type) {
    case TAR_DIRECTORY:
        return '5';
    case TAR_SYMLINK:
        return '2';
    case TAR_HARD_LINK:
        return '1';
    case TAR_FILE:
    case TAR_OTHER:
        break;
    }
    return '0';
}

bool tar_add_header(struct buf *to, const struct tar_entry *e)
{
    struct tar_header h = {0};
    struct buf records = BUF_INIT(EXTENDED_MAX);
    const char *link = e->link != NULL ? e->link : "";
    bool fits = true, is_dir = e->type == TAR_DIRECTORY,
         odd = !is_ascii(e->path) || !is_ascii(link);
    char path[TAR_PATH_MAX + 2];
    size_t len = (size_t)snprintf(path, sizeof(path), "%s%s", e->path, is_dir ? "/" : "");
    uint64_t size = e->size, mtime = e->mtime_s > 0 ? (uint64_t)e->mtime_s : 0;
    size_t start = buf_len(to);

    if (odd)
        add_charset(&records, e->path, link);
    if (!put_path(&h, path, len) || !is_ascii(e->path)) {
        add_record(&records, "path", path, len);
        if (h.name[0] == '\0')
            memcpy(h.name, path, sizeof(h.name)); /* for those who cannot read pax at all */
    }
    if (strlen(link) > sizeof(h.link) || !is_ascii(link))
        add_record(&records, "linkpath", link, strlen(link));
    memcpy(h.link, link, strnlen(link, sizeof(h.link)));
    if (size >> OCTAL_MAX_BITS != 0) {
        add_number(&records, "size", (long long)size);
        size = 0;
    }
    if (e->mtime_s < 0 || mtime >> OCTAL_MAX_BITS != 0) {
        add_number(&records, "mtime", e->mtime_s);
        mtime = 0;
    }
    put_octal(h.mode, sizeof(h.mode), e->mode & 07777);
    put_octal(h.uid, sizeof(h.uid), 0);
    put_octal(h.gid, sizeof(h.gid), 0);
    put_octal(h.mtime, sizeof(h.mtime), mtime);
    finish(&h, flag_of(e->type), size);
    if (buf_len(&records) > 0)
        fits = add_pax(to, &records);
    fits = fits && buf_append(to, &h, sizeof(h));
    if (!fits)
        to->len = start;
    buf_deinit(&records);
    return fits;
}

bool tar_add_end(struct buf *to)
{
    static const uint8_t zeros[2 * TAR_BLOCK];

    return buf_append(to, zeros, sizeof(zeros));
}
