/* A file, a directory or a link as a sandbox.v1.FileEntry. */
#pragma once

#include "common/base/buf.h"

#include <stdbool.h>
#include <sys/stat.h>

struct entry_options {
    bool follow_links;
    bool with_sha256;
};

/*
 * Appends the entry as field `number`. It is found as name below dir (AT_FDCWD: by its path), and
 * shown with path. False with errno set: ENOENT and so on, EMSGSIZE when it does not fit, EISDIR
 * when the digest of what is no file was asked for.
 */
bool entry_add(struct buf *to, unsigned number, int dir, const char *name, const char *path,
               const struct entry_options *options);
