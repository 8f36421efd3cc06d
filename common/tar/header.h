/* A header as it stands in an archive (POSIX.1-1988, "ustar"). */
#pragma once

#include "common/tar/tar.h"

struct tar_header {
    char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], checksum[8], type, link[100],
        magic[6], version[2], user[32], group[32], major[8], minor[8], prefix[155], unused[12];
};

_Static_assert(sizeof(struct tar_header) == TAR_BLOCK, "a header is one block");

/* What its checksum should be. */
unsigned tar_header_sum(const struct tar_header *h);
