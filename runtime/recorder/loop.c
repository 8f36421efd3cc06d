/* See loop.h. */
#include "runtime/recorder/loop.h"

#include <sys/epoll.h>

bool source_watch(struct source *s, int epoll, uint32_t events)
{
    struct epoll_event e = {.events = events, .data.ptr = s};
    int op = s->events == 0 ? EPOLL_CTL_ADD : events == 0 ? EPOLL_CTL_DEL : EPOLL_CTL_MOD;

    if (events == s->events)
        return true;
    if (epoll_ctl(epoll, op, s->fd, &e) != 0)
        return false;
    s->events = events;
    return true;
}
