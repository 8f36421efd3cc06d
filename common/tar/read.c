/*
 * Reading archives: see tar.h. An entry may have headers in front of it that say more than fits its
 * own (pax: typeflag x; GNU: L and K); they are gathered until the entry itself comes. Each number
 * must be one, each checksum must hold, and each record of pax must end where it says.
 */
#include "common/tar/tar.h"

#include "common/tar/header.h"

#include <stdio.h>
#include <string.h>

enum {
    EXTENDED_MAX = 1 << 20, /* bytes of one pax header */
    EXTENDED_RUN = 16,      /* headers in front of one entry */
};

void tar_reader_init(struct tar_reader *r, tar_read_fn *read, tar_skip_fn *skip, void *arg)
{
    *r =
        (struct tar_reader){.read = read, .skip = skip, .arg = arg, .text = BUF_INIT(EXTENDED_MAX)};
}

void tar_reader_deinit(struct tar_reader *r)
{
    buf_deinit(&r->text);
}

__attribute__((format(printf, 2, 3))) static enum tar_result bad(struct tar_reader *r,
                                                                 const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    vsnprintf(r->why, sizeof(r->why), fmt, args);
    va_end(args);
    return TAR_BAD;
}

/* --- bytes --- */

static enum tar_result read_exactly(struct tar_reader *r, uint8_t *to, size_t len)
{
    while (len > 0) {
        ssize_t n = r->read(r->arg, to, len);

        if (n < 0)
            return TAR_FAILED;
        if (n == 0)
            return bad(r, "the archive is cut short");
        to += n;
        len -= (size_t)n;
    }
    return TAR_ENTRY;
}

static enum tar_result leave_out(struct tar_reader *r, uint64_t len)
{
    uint8_t unused[8192];

    if (r->skip != NULL)
        return r->skip(r->arg, len) ? TAR_ENTRY : TAR_FAILED;
    while (len > 0) {
        size_t n = len < sizeof(unused) ? (size_t)len : sizeof(unused);
        enum tar_result got = read_exactly(r, unused, n);

        if (got != TAR_ENTRY)
            return got;
        len -= n;
    }
    return TAR_ENTRY;
}

/* --- numbers --- */

/* Octal, with blanks in front and a blank or NUL behind; none at all is 0. */
static bool octal(const char *at, size_t len, uint64_t *ret)
{
    size_t i = 0;

    *ret = 0;
    while (i < len && at[i] == ' ')
        i++;
    for (; i < len && at[i] >= '0' && at[i] <= '7'; i++) {
        if (*ret >> 61 != 0)
            return false;
        *ret = *ret << 3 | (uint64_t)(at[i] - '0');
    }
    for (; i < len; i++) {
        if (at[i] != ' ' && at[i] != '\0')
            return false;
    }
    return true;
}

/* GNU's form for numbers that octal digits cannot say: two's complement, big endian, behind a bit
 * that is set. */
static bool binary(const char *at, size_t len, int64_t *ret)
{
    const uint8_t *b = (const uint8_t *)at;
    uint8_t sign = (b[0] & 0x40) != 0 ? 0xff : 0;
    uint64_t n = sign != 0 ? UINT64_MAX : 0;

    for (size_t i = 0; i < len; i++) {
        uint8_t byte = i > 0 ? b[i] : (uint8_t)((b[0] & 0x7f) | (sign & 0x80));

        if (n >> 56 != sign) /* what is pushed out must be nothing but the sign */
            return false;
        n = n << 8 | byte;
    }
    *ret = (int64_t)n;
    return n >> 63 == (sign != 0);
}

static bool number(const char *at, size_t len, int64_t *ret)
{
    uint64_t n;

    if (((uint8_t)at[0] & 0x80) != 0)
        return binary(at, len, ret);
    if (!octal(at, len, &n) || n > INT64_MAX)
        return false;
    *ret = (int64_t)n;
    return true;
}

/* --- pax --- */

static bool decimal(const char *at, size_t len, uint64_t *ret)
{
    *ret = 0;
    for (size_t i = 0; i < len; i++) {
        if (at[i] < '0' || at[i] > '9' || __builtin_mul_overflow(*ret, UINT64_C(10), ret) ||
            __builtin_add_overflow(*ret, (uint64_t)(at[i] - '0'), ret))
            return false;
    }
    return len > 0;
}

/* Seconds with a fraction, as in "-1.5". Times before 1970 lose it. */
static bool take_mtime(struct tar_reader *r, const char *at, size_t len)
{
    bool negative = len > 0 && at[0] == '-';
    const char *dot = memchr(at, '.', len);
    size_t whole = dot != NULL ? (size_t)(dot - at) : len;
    uint64_t seconds;
    uint32_t ns = 0, digit = 100000000;

    if (whole < negative || !decimal(at + negative, whole - negative, &seconds) ||
        seconds > INT64_MAX)
        return false;
    for (size_t i = whole + 1; i < len; i++, digit /= 10) {
        if (at[i] < '0' || at[i] > '9')
            return false;
        ns += digit * (uint32_t)(at[i] - '0');
    }
    r->has_mtime = true;
    r->pax_mtime_s = negative ? -(int64_t)seconds : (int64_t)seconds;
    r->pax_mtime_ns = negative ? 0 : ns;
    return true;
}

/* Of one that is too long only that is kept, and take_names() says it. */
static void take_raw(char to[TAR_PATH_MAX + 2], size_t *ret_len, const char *at, size_t len)
{
    *ret_len = len < TAR_PATH_MAX + 2 ? len : TAR_PATH_MAX + 2;
    memcpy(to, at, *ret_len);
}

static bool is(const char *key, size_t len, const char *name)
{
    return strlen(name) == len && memcmp(key, name, len) == 0;
}

static enum tar_result take_record(struct tar_reader *r, const char *key, size_t key_len,
                                   const char *value, size_t len)
{
    if (is(key, key_len, "path")) {
        r->has_path = true;
        take_raw(r->raw_path, &r->raw_path_len, value, len);
    } else if (is(key, key_len, "linkpath")) {
        r->has_link = true;
        take_raw(r->raw_link, &r->raw_link_len, value, len);
    } else if (is(key, key_len, "size")) {
        r->has_size = true;
        if (!decimal(value, len, &r->pax_size))
            return bad(r, "a size in a pax header is no number");
    } else if (is(key, key_len, "mtime")) {
        if (!take_mtime(r, value, len))
            return bad(r, "a time in a pax header is none");
    } else if (key_len >= 11 && memcmp(key, "GNU.sparse.", 11) == 0) {
        return bad(r, "it has sparse files: pack them as whole ones");
    }
    return TAR_ENTRY; /* owners, attributes and comments are nobody's business here */
}

/* "LENGTH KEY=VALUE\n", any number of times; LENGTH counts all of it. */
static enum tar_result take_pax(struct tar_reader *r)
{
    const char *at = (const char *)buf_data(&r->text), *end = at + buf_len(&r->text);

    while (at < end) {
        const char *blank = memchr(at, ' ', (size_t)(end - at)), *equals;
        uint64_t len;

        if (blank == NULL || blank - at > 8 || !decimal(at, (size_t)(blank - at), &len) ||
            len > (uint64_t)(end - at) || len < (uint64_t)(blank - at) + 3 || at[len - 1] != '\n')
            return bad(r, "a pax header does not hold together");
        equals = memchr(blank + 1, '=', len - (size_t)(blank + 1 - at) - 1);
        if (equals == NULL)
            return bad(r, "a pax header does not hold together");

        enum tar_result got = take_record(r, blank + 1, (size_t)(equals - blank - 1), equals + 1,
                                          len - (size_t)(equals + 1 - at) - 1);

        if (got != TAR_ENTRY)
            return got;
        at += len;
    }
    return TAR_ENTRY;
}

/* A global header changes what all entries are called, or their sizes: nobody does that, and who
 * reads it otherwise sees another archive. */
static enum tar_result take_global(struct tar_reader *r)
{
    bool had_path = r->has_path, had_link = r->has_link, had_size = r->has_size,
         had_mtime = r->has_mtime;
    enum tar_result got;

    r->has_path = r->has_link = r->has_size = r->has_mtime = false;
    got = take_pax(r);
    if (got == TAR_ENTRY && (r->has_path || r->has_link || r->has_size || had_path || had_link ||
                             had_size || had_mtime))
        return bad(r, "a global pax header says what belongs to one entry");
    r->has_mtime = false;
    return got;
}

static enum tar_result take_extended(struct tar_reader *r, char type, uint64_t size)
{
    enum tar_result got;
    uint8_t *room;

    buf_clear(&r->text);
    room = size > 0 ? buf_reserve(&r->text, (size_t)(size < SIZE_MAX ? size : SIZE_MAX)) : NULL;
    if (room == NULL)
        return bad(r, "an extended header has %llu bytes", (unsigned long long)size);
    got = read_exactly(r, room, (size_t)size);
    if (got == TAR_ENTRY)
        got = leave_out(r, tar_padding(size));
    if (got != TAR_ENTRY)
        return got;
    buf_commit(&r->text, (size_t)size);
    if (type == 'x')
        return take_pax(r);
    if (type == 'g')
        return take_global(r);

    const char *text = (const char *)room;
    size_t len = strnlen(text, (size_t)size);

    if (type == 'L') {
        r->has_path = true;
        take_raw(r->raw_path, &r->raw_path_len, text, len);
    } else {
        r->has_link = true;
        take_raw(r->raw_link, &r->raw_link_len, text, len);
    }
    return TAR_ENTRY;
}

/* --- headers --- */

static bool is_zero(const uint8_t block[TAR_BLOCK])
{
    for (size_t i = 0; i < TAR_BLOCK; i++) {
        if (block[i] != 0)
            return false;
    }
    return true;
}

static enum tar_result check_header(struct tar_reader *r, const struct tar_header *h)
{
    uint64_t sum;

    if (memcmp(h->magic, "ustar", 5) != 0 || (h->magic[5] != '\0' && h->magic[5] != ' '))
        return bad(r, "it is no tar archive, or one of before 1988");
    if (!octal(h->checksum, sizeof(h->checksum), &sum) || sum != tar_header_sum(h))
        return bad(r, "the checksum of a header is wrong");
    return TAR_ENTRY;
}

static void take_short_names(struct tar_reader *r, const struct tar_header *h)
{
    size_t name = strnlen(h->name, sizeof(h->name)), prefix = 0;

    /* Where ustar has the prefix of the path, GNU's own format has times. */
    if (h->magic[5] == '\0')
        prefix = strnlen(h->prefix, sizeof(h->prefix));
    if (!r->has_path) {
        memcpy(r->raw_path, h->prefix, prefix);
        r->raw_path[prefix] = '/';
        r->raw_path_len = prefix > 0 ? prefix + 1 : 0;
        memcpy(r->raw_path + r->raw_path_len, h->name, name);
        r->raw_path_len += name;
    }
    if (!r->has_link) {
        r->raw_link_len = strnlen(h->link, sizeof(h->link));
        memcpy(r->raw_link, h->link, r->raw_link_len);
    }
}

static enum tar_result take_names(struct tar_reader *r, struct tar_entry *ret)
{
    const char *path = r->raw_path;

    if (r->raw_path_len > TAR_PATH_MAX + 1 || !tar_path_clean(path, r->raw_path_len, r->path))
        return bad(r,
                   "%.*s: an entry's path must be relative, without \"..\", and at most %d "
                   "bytes long",
                   (int)(r->raw_path_len < 64 ? r->raw_path_len : 64), path, TAR_PATH_MAX);
    if (ret->type == TAR_FILE && r->raw_path_len > 0 && path[r->raw_path_len - 1] == '/')
        return bad(r, "%.64s: a file is named like a directory", r->path);
    if (r->path[0] == '\0' && ret->type != TAR_DIRECTORY)
        return bad(r, "an entry has no name");
    r->link[0] = '\0';
    if (ret->type == TAR_HARD_LINK &&
        (r->raw_link_len > TAR_PATH_MAX || !tar_path_clean(r->raw_link, r->raw_link_len, r->link) ||
         r->link[0] == '\0'))
        return bad(r, "%.64s: a hard link leads out of the archive", r->path);
    if (ret->type == TAR_SYMLINK) {
        if (r->raw_link_len == 0 || r->raw_link_len > TAR_PATH_MAX ||
            memchr(r->raw_link, '\0', r->raw_link_len) != NULL)
            return bad(r, "%.64s: a link leads nowhere", r->path);
        memcpy(r->link, r->raw_link, r->raw_link_len);
        r->link[r->raw_link_len] = '\0';
    }
    ret->path = r->path;
    ret->link = r->link;
    return TAR_ENTRY;
}

static enum tar_type type_of(char flag)
{
    switch (flag) {
    case '0':
    case '\0':
    case '7':
        return TAR_FILE;
    case '1':
        return TAR_HARD_LINK;
    case '2':
        return TAR_SYMLINK;
    case '3':
    case '4':
    case '6':
        return TAR_OTHER;
    case '5':
        return TAR_DIRECTORY;
    default:
        return 0;
    }
}

static enum tar_result take_entry(struct tar_reader *r, const struct tar_header *h, uint64_t size,
                                  struct tar_entry *ret)
{
    int64_t mode, mtime = 0;

    *ret = (struct tar_entry){.type = type_of(h->type)};
    if (r->has_size)
        size = r->pax_size;
    if (ret->type == 0)
        return bad(r, "%.64s: an entry of type %c is none that can be unpacked",
                   r->has_path ? "" : h->name, h->type > ' ' && h->type < 127 ? h->type : '?');
    take_short_names(r, h);
    if (!number(h->mode, sizeof(h->mode), &mode) || mode < 0)
        return bad(r, "the mode of an entry is no number");
    if (!r->has_mtime && !number(h->mtime, sizeof(h->mtime), &mtime))
        return bad(r, "the time of an entry is no number");
    if (size > INT64_MAX - TAR_BLOCK)
        return bad(r, "an entry is too large to be true");
    if (size > 0 && ret->type != TAR_FILE)
        return bad(r, "an entry that is no file has content");

    enum tar_result got = take_names(r, ret);

    ret->mode = (uint32_t)mode & 07777;
    ret->size = size;
    ret->mtime_s = r->has_mtime ? r->pax_mtime_s : mtime;
    ret->mtime_ns = r->has_mtime ? r->pax_mtime_ns : 0;
    r->left = size;
    r->padding = tar_padding(size);
    r->has_path = r->has_link = r->has_size = r->has_mtime = false;
    return got;
}

/* A block of zeros: two end an archive, and some who write them leave out the second. */
static enum tar_result take_end(struct tar_reader *r)
{
    if (r->has_path || r->has_link || r->has_size || r->has_mtime)
        return bad(r, "the archive ends behind an extended header");
    return TAR_END;
}

enum tar_result tar_next(struct tar_reader *r, struct tar_entry *ret)
{
    enum tar_result got = leave_out(r, r->left + r->padding);

    r->left = r->padding = 0;
    for (int i = 0; got == TAR_ENTRY && i < EXTENDED_RUN; i++) {
        struct tar_header h;
        int64_t size;

        got = read_exactly(r, (uint8_t *)&h, sizeof(h));
        if (got == TAR_ENTRY && is_zero((const uint8_t *)&h))
            return take_end(r);
        if (got == TAR_ENTRY)
            got = check_header(r, &h);
        if (got != TAR_ENTRY)
            return got;
        if (!number(h.size, sizeof(h.size), &size) || size < 0)
            return bad(r, "the size of an entry is no number");
        if (strchr("xgLK", h.type) == NULL || h.type == '\0')
            return take_entry(r, &h, (uint64_t)size, ret);
        got = take_extended(r, h.type, (uint64_t)size);
    }
    return got == TAR_ENTRY ? bad(r, "an entry has too many headers") : got;
}

ssize_t tar_content(struct tar_reader *r, uint8_t *to, size_t len)
{
    ssize_t n = 0;

    r->why[0] = '\0';
    if (len > r->left)
        len = (size_t)r->left;
    if (len > 0)
        n = r->read(r->arg, to, len);
    if (n == 0 && len > 0) {
        bad(r, "the archive is cut short");
        return -1;
    }
    if (n > 0)
        r->left -= (uint64_t)n;
    return n;
}
