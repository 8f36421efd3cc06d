/* An archive into a directory: see OP_UNPACK in proto/recorder/v1. */
#pragma once

#include "runtime/recorder/replace.h"

enum unpack_existing { UNPACK_REPLACE = 1, UNPACK_KEEP = 2, UNPACK_FAIL = 3 };

struct unpack {
    struct content *content; /* the archive; its path is the directory */
    char *const *excludes;   /* NULL: none */
    enum unpack_existing existing;
    bool skip_unsafe;
    uint64_t max_bytes; /* 0: what the disk has room for */
    uint64_t max_entries;
};

/* The answer is a sandbox.v1.UploadTreeResponse, also with RECORDER_UPLOAD_GAP. */
bool unpack(const struct state *s, const struct place *p, const struct unpack *u, struct buf *out,
            struct status *st);
