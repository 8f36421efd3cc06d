/*
 * Allocation that cannot fail: running out of memory aborts, as gRPC itself does. It follows that
 * every size a peer controls must be capped before it comes here.
 */
#pragma once

#include <stddef.h>

void *xmalloc(size_t size);
void *xcalloc(size_t n, size_t size);
void *xrealloc(void *p, size_t size);
char *xstrdup(const char *s);
char *xstrndup(const char *s, size_t n);
void *xmemdup(const void *p, size_t n);
char *xasprintf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Frees n strings and the list that holds them; NULL is fine. */
void free_strings(char **list, size_t n);
