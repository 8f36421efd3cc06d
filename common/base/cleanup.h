/*
 * Scope-bound ownership. A variable declared with one of these words is released when its scope
 * ends, in reverse order of declaration, whichever way the scope is left. TAKE hands it over.
 */
#pragma once

#include <stdlib.h>
#include <unistd.h>

/* Calls fn(&variable) at the end of the scope: AUTO(buf_deinit) struct buf b = BUF_INIT(64); */
#define AUTO(fn) __attribute__((cleanup(fn)))

static inline void cleanup_free(void *p)
{
    free(*(void **)p);
}

static inline void cleanup_close(const int *fd)
{
    if (*fd >= 0)
        close(*fd);
}

#define AUTO_FREE AUTO(cleanup_free)
#define AUTO_CLOSE AUTO(cleanup_close) /* int fd = -1 when there is none */

/* Gives a pointer away: its value, and NULL in the variable. */
#define TAKE(p)                                                                                    \
    __extension__({                                                                                \
        __typeof__(p) *take_from_ = &(p);                                                          \
        __typeof__(p) taken_ = *take_from_;                                                        \
        *take_from_ = NULL;                                                                        \
        taken_;                                                                                    \
    })

/* The same for a descriptor, which becomes -1. */
static inline int take_fd(int *fd)
{
    int taken = *fd;

    *fd = -1;
    return taken;
}
