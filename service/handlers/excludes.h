/* Patterns of what is to be left out of a tree. */
#pragma once

#include "common/base/status.h"

#include <stddef.h>

bool excludes_check(const char *field, char *const *patterns, size_t n, struct status *st);

/* A copy; owned by the caller, for free_strings(). NULL: none. */
char **excludes_copy(char *const *patterns, size_t n);
