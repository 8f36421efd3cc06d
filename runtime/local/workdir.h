/* The folder the daemon keeps its sandboxes in, when it is one of its own. */
#pragma once

#include "common/base/status.h"

/* The path as given, absolute. Owned by the caller; NULL when it cannot be told. */
char *workdir_absolute(const char *path, struct status *st);

/*
 * A new folder below the temporary one; folders of daemons that were killed are removed on the
 * way. Owned by the caller; NULL when none can be made.
 */
char *workdir_make(struct status *st);
/* Removes the folder with all that is in it. */
void workdir_remove(const char *path);
