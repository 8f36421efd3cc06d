/* The names in a directory, in the order of their bytes. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

enum { NAMES_MAX = 2000000 }; /* in one directory */

struct names {
    char **at; /* owned, each too */
    size_t n;
};

/* dir: open. False: it cannot be read, or holds NAMES_MAX names or more (then n says so). */
bool names_read(int dir, struct names *ret);
void names_deinit(struct names *names);
