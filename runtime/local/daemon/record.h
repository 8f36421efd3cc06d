/*
 * What the zygote holds for us of each sandbox: everything in the registry that the next daemon
 * cannot know otherwise, as JSON. A daemon reads what an older one wrote, so fields are only ever
 * added, and what is missing has a meaning.
 */
#pragma once

#include "common/base/buf.h"
#include "common/base/status.h"
#include "runtime/local/daemon/registry.h"

/* False: it does not fit. INVALID_ARGUMENT, as only what clients gave is ever large. */
bool record_write(const struct sandbox *s, struct buf *to, struct status *st);

/* A sandbox that is in no registry yet; NULL, and st says so, when this is no record. */
struct sandbox *record_read(const char *id, const uint8_t *data, size_t len, struct status *st);
