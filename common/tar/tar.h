/*
 * Archives as tar(1) has them: what may stand in one, reading them and writing their headers. Pure
 * but for the callbacks of the reader; no archive makes it hold more than a few headers.
 *
 * Read are ustar, pax and GNU's long names, as GNU tar, bsdtar, BusyBox, Python, Go and Node write
 * them. Archives come from strangers, and tools that read one differently are how files get to
 * where they should not: what is not plainly one of these forms is refused, not guessed at.
 */
#pragma once

#include "common/base/buf.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum {
    TAR_BLOCK = 512,
    TAR_PATH_MAX = 4095, /* bytes, of a path and of what a link holds */
    TAR_NAME_MAX = 255,  /* of each part of a path */
    TAR_WHY_MAX = 200,
};

enum tar_type {
    TAR_FILE = 1,
    TAR_DIRECTORY,
    TAR_SYMLINK,
    TAR_HARD_LINK, /* to an entry before it */
    TAR_OTHER,     /* a device or a named pipe */
};

struct tar_entry {
    enum tar_type type;
    const char *path; /* as tar_path_clean() leaves it; "" is the directory that was packed */
    const char *link; /* of a symlink: what it holds; of a hard link: a path as above */
    uint32_t mode;    /* permission bits: at most 07777 */
    uint64_t size;    /* of a file's content; 0 for all others */
    int64_t mtime_s;
    uint32_t mtime_ns;
};

/* --- paths --- */

/*
 * The path below the directory that an archive is about: relative, without "." and empty parts.
 * False for one that is absolute, has a ".." or a NUL in it, or is too long.
 */
bool tar_path_clean(const char *raw, size_t len, char ret[TAR_PATH_MAX + 1]);

/*
 * Whether a symlink that stands at path stays in the directory, wherever other links lead: it is
 * relative, and climbs only at its start, at most to the top. (Behind another link ".." means
 * another directory than the text of the path says.)
 */
bool tar_link_is_inside(const char *path, const char *target);

/* The order of a walk that goes into each directory right behind it, names by their bytes: <0, 0,
 * >0. Both are clean. */
int tar_path_order(const char *a, const char *b);

/* Whether path is below dir. */
bool tar_path_is_below(const char *path, const char *dir);

/* --- reading --- */

/* Fills `to` with at most len bytes, and at least one. 0: there are no more; -1: it failed. */
typedef ssize_t tar_read_fn(void *arg, uint8_t *to, size_t len);
/* Leaves out as many bytes. False: it failed. */
typedef bool tar_skip_fn(void *arg, uint64_t len);

enum tar_result {
    TAR_ENTRY,
    TAR_END,
    TAR_BAD,    /* see why */
    TAR_FAILED, /* a callback did */
};

struct tar_reader {
    tar_read_fn *read;
    tar_skip_fn *skip; /* NULL: what is left out is read */
    void *arg;
    uint64_t left, padding;                       /* of the entry's content, and behind it */
    struct buf text;                              /* an extended header, while it is read */
    bool has_path, has_link, has_size, has_mtime; /* said by extended headers, for the next entry */
    uint64_t pax_size;
    int64_t pax_mtime_s;
    uint32_t pax_mtime_ns;
    char raw_path[TAR_PATH_MAX + 2], raw_link[TAR_PATH_MAX + 2]; /* the same */
    size_t raw_path_len, raw_link_len;
    char path[TAR_PATH_MAX + 1], link[TAR_PATH_MAX + 1]; /* of the entry */
    char why[TAR_WHY_MAX]; /* what is wrong, for people; may hold bytes that are no UTF-8 */
};

void tar_reader_init(struct tar_reader *r, tar_read_fn *read, tar_skip_fn *skip, void *arg);
void tar_reader_deinit(struct tar_reader *r); /* may be called twice */

/* The next entry, behind what is left of the one before; valid until the next call. */
enum tar_result tar_next(struct tar_reader *r, struct tar_entry *ret);

/* The next bytes of the entry's content: 0 at its end, -1: the archive ends before, or a callback
 * failed (why is "" then). */
ssize_t tar_content(struct tar_reader *r, uint8_t *to, size_t len);

/* --- writing --- */

enum { TAR_HEADER_MAX = 16 * 1024 }; /* bytes that one entry's header can take */

/*
 * Appends the header of an entry: ustar where that can say it, with a pax header in front where it
 * cannot. What differs from machine to machine (owners, nanoseconds) is left out. False when `to`
 * is full; nothing was appended then.
 */
bool tar_add_header(struct buf *to, const struct tar_entry *e);
/* What comes behind a content of this size. */
size_t tar_padding(uint64_t size);
/* The end of the archive. */
bool tar_add_end(struct buf *to);
