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
/* Makes a data directory, as it is given, unless it is there. */
bool workdir_ensure(const char *path, struct status *st);
/* Leaves a line of text in the folder, in a file of that name: whole, or not at all. */
bool workdir_leave(const char *path, const char *name, const char *line, struct status *st);
/* Removes the folder with all that is in it. */
void workdir_remove(const char *path);
