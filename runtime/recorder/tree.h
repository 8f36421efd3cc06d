/* What packing and unpacking a directory have in common. */
#pragma once

#include "common/base/buf.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Whether a path below the directory, or a directory that it is in, matches one of the patterns
 * (sandbox.v1.DownloadTreeRequest.excludes; NULL: none). */
bool tree_excludes(char *const *patterns, const char *path);

enum { TREE_SKIPPED_TOLD = 100 };

/* sandbox.v1.TreeCounts */
struct tree_counts {
    uint64_t files, directories, links, bytes, skipped, others;
};

bool tree_add_counts(struct buf *to, uint32_t number, const struct tree_counts *counts);
