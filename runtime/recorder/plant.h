/*
 * Puts entries of an archive below a directory. No link is ever followed on the way to where an
 * entry goes, so nothing outside of the directory can be reached, whatever was unpacked before or
 * is moved about meanwhile: each part of a path is opened by its own, in the directory before it.
 * (openat2() could do it at once, but not on every kernel, and this way is the same on all.)
 * Files and links get their names in one step, when they are whole.
 */
#pragma once

#include "common/base/sha256.h"
#include "common/base/status.h"
#include "common/tar/tar.h"
#include "runtime/recorder/unpack.h"

#include <stddef.h>

struct plant_dir {
    char *path; /* owned */
    uint32_t mode;
    int64_t mtime_s;
};

struct plant {
    int root; /* borrowed */
    enum unpack_existing existing;
    char temp[32];          /* what an entry is called until it is whole */
    char *parent_path;      /* owned; of parent; NULL: none is open */
    int parent;             /* owned; -1: none, or it is root */
    struct plant_dir *dirs; /* owned; whose modes and times are set at the end */
    size_t n_dirs;
    uint8_t *block; /* owned */
};

/* key: the same for all attempts at one archive, so that what one left is removed by the next. */
void plant_init(struct plant *p, int root, enum unpack_existing existing,
                const uint8_t key[SHA256_LEN]);
void plant_deinit(struct plant *p);

/* Whether something that the entry would replace is there. */
bool plant_is_taken(struct plant *p, const struct tar_entry *e);

/* The content of a file is read from r. *ret_kept: something was there, and stays. */
bool plant_entry(struct plant *p, struct tar_reader *r, const struct tar_entry *e, bool *ret_kept,
                 struct status *st);

/* After the last one. */
bool plant_finish(struct plant *p, struct status *st);
