/* A file's bytes to stdout, from any offset on: see OP_DOWNLOAD in proto/recorder/v1. */
#pragma once

#include "common/base/status.h"

#include <stdbool.h>
#include <stdint.h>

struct download {
    const char *path;    /* absolute */
    const char *version; /* that it must be; "": any */
    uint64_t offset;
    uint64_t length; /* 0: to the end */
    bool with_sha256;
};

bool download(const struct download *d, struct status *st);
