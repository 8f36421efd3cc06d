/* A few names with their values, in the order they came. */
#pragma once

#include <stddef.h>

struct pair {
    char *name;  /* owned */
    char *value; /* owned */
};

struct pairs {
    struct pair *items; /* owned */
    size_t n;
};

void pairs_add(struct pairs *p, const char *name, const char *value);
/* Adds those whose names are not there yet. */
void pairs_add_missing(struct pairs *p, const struct pairs *more);
void pairs_deinit(struct pairs *p);
/* NULL when the name is not there. */
const char *pairs_get(const struct pairs *p, const char *name);
