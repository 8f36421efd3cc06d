/* Removing a directory with all that is in it. */
#pragma once

#include <stdbool.h>

/* Removes name in the directory dir (AT_FDCWD: here), whatever it is; never follows a link. */
bool sandbox_tree_remove(int dir, const char *name);
