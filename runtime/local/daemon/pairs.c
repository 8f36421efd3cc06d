/* See pairs.h. There are few: they are looked through. */
#include "runtime/local/daemon/pairs.h"

#include "common/base/mem.h"

#include <stdlib.h>
#include <string.h>

void pairs_add(struct pairs *p, const char *name, const char *value)
{
    p->items = xrealloc(p->items, (p->n + 1) * sizeof(struct pair));
    p->items[p->n++] = (struct pair){xstrdup(name), xstrdup(value)};
}

void pairs_add_missing(struct pairs *p, const struct pairs *more)
{
    for (size_t i = 0; i < more->n; i++) {
        if (pairs_get(p, more->items[i].name) == NULL)
            pairs_add(p, more->items[i].name, more->items[i].value);
    }
}

void pairs_deinit(struct pairs *p)
{
    for (size_t i = 0; i < p->n; i++) {
        free(p->items[i].name);
        free(p->items[i].value);
    }
    free(p->items);
    *p = (struct pairs){NULL, 0};
}

const char *pairs_get(const struct pairs *p, const char *name)
{
    for (size_t i = 0; i < p->n; i++) {
        if (strcmp(p->items[i].name, name) == 0)
            return p->items[i].value;
    }
    return NULL;
}
