/* One page of what a directory holds: sandbox.v1.ListDirectoryResponse. */
#pragma once

#include "common/base/buf.h"
#include "common/base/status.h"

#include <stddef.h>

/* path: absolute. after: a token of the page before, or "". Stops before `out` would overflow. */
bool listing_page(const char *path, unsigned depth, const char *after, size_t limit,
                  struct buf *out, struct status *st);
