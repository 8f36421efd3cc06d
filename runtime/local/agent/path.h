/* Which file a path of a request means. */
#pragma once

#include "common/base/status.h"
#include "runtime/local/agent/users.h"

/*
 * The absolute path, owned by the caller: an empty path is workdir, or the user's home when that is
 * empty too; "~" and what is relative start at the home; an absolute path is what it is. NULL with
 * INVALID_ARGUMENT for "~name" and what is too long.
 */
char *path_resolve(const char *path, const struct user *user, const char *workdir,
                   struct status *st);

/* An absolute path without ".", ".." and empty parts, as text; the caller's to free. */
char *path_clean(const char *path);

/* Makes the parent directories that are missing, 0755 and the user's. False: errno is set. */
bool path_make_parents(const char *path, const struct user *user);
/* The same for a directory and its parents. */
bool path_make_directory(const char *path, const struct user *user);

/* Gives a file to a user, where that can be done (a sandbox with one id has nobody else). */
bool path_own(int fd, const struct user *user);
