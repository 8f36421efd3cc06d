/* What all stores share; see store.h. */
#include "service/archive/store.h"

#include "common/base/mem.h"
#include "sandbox/v1/errors.pb-c.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RETRY_MS = 1000 };

void store_names_add(struct store_names *l, const char *name, size_t len)
{
    char *copy;

    if ((l->n & (l->n + 1)) == 0)
        l->at = xrealloc(l->at, 2 * (l->n + 1) * sizeof(l->at[0]));
    copy = xmalloc(len + 1); /* name need not end with a NUL, which strndup() may look for */
    memcpy(copy, name, len);
    copy[len] = '\0';
    l->at[l->n++] = copy;
}

static int by_bytes(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

void store_names_sort(struct store_names *l)
{
    if (l->n > 1)
        qsort(l->at, l->n, sizeof(l->at[0]), by_bytes);
}

void store_names_deinit(struct store_names *l)
{
    free_strings(l->at, l->n);
    *l = (struct store_names){0};
}

bool store_unavailable(struct status *st, const char *fmt, ...)
{
    char text[sizeof(st->message)];
    va_list args;

    va_start(args, fmt);
    vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    status_set(st, CODE_UNAVAILABLE, SANDBOX__V1__ERROR_REASON__ERROR_REASON_ARCHIVE_UNAVAILABLE,
               "%s", text);
    st->retry_ms = RETRY_MS;
    return false;
}
