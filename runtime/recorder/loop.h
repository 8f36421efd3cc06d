/* A descriptor in the writer's epoll set. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct source {
    int fd;
    uint32_t events; /* it is in the set for; 0: it is not in the set */
    void (*ready)(struct source *self, uint32_t events);
};

/* Changes what it is in the set for; 0 takes it out. */
bool source_watch(struct source *s, int epoll, uint32_t events);
