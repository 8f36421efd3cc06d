/* What changes in a directory, as records on stdout. */
#pragma once

#include "common/base/status.h"

#include <stdbool.h>

/*
 * Writes a sandbox.v1.FileChange for each change, one write() each (a pipe in packet mode keeps
 * them apart), until the directory is gone. path: absolute. recursive: with all that is below.
 */
bool notice(const char *path, bool recursive, struct status *st);
