/* A directory with all it holds to stdout, from any place on: see OP_PACK in proto/recorder/v1. */
#pragma once

#include "common/base/status.h"

#include <stdbool.h>
#include <stdint.h>

struct pack {
    const char *path;      /* absolute */
    char *const *excludes; /* NULL: none */
    const char *place;     /* the last entry that was read; "": none */
    const char *version;   /* of that, where it was not read to its end; else "" */
    uint64_t offset;       /* in its content, then */
    bool only_end;
};

bool pack(const struct pack *p, struct status *st);
