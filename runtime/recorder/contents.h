/* Several files at once: sandbox.v1.ReadFilesResponse. */
#pragma once

#include "runtime/recorder/place.h"

#include "common/base/buf.h"

#include <stddef.h>

/* Of each path its content or why not; contents hold at most so many bytes in all. */
bool contents_read(const struct place *p, char *const *paths, size_t max, struct buf *out,
                   struct status *st);
