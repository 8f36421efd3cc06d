/* A file's bytes to stdout, from any offset on: see OP_DOWNLOAD in proto/recorder/v1. */
#pragma once

#include "common/base/status.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

enum { FILE_VERSION_SIZE = 128 };

struct download {
    const char *path;    /* absolute */
    const char *version; /* that it must be; "": any */
    uint64_t offset;
    uint64_t length; /* 0: to the end */
    bool with_sha256;
};

/* What tells a file from another one, or from itself at another time. */
void file_version(const struct stat *info, char to[FILE_VERSION_SIZE]);

bool download(const struct download *d, struct status *st);
