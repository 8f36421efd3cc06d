/* See pool.h. Whatever happens on a waiting connection ends it: the agent says nothing unasked. */
#include "runtime/local/edge/pool.h"

#include "common/base/mem.h"

#include <stdlib.h>
#include <unistd.h>

enum { IDLE_MAX = 32, IDLE_MS = 60 * 1000 };

struct pooled {
    struct list node;
    struct loop *loop; /* borrowed */
    struct loop_fd io;
    struct loop_timer timer;
};

static int release(struct pooled *p)
{
    int fd = p->io.fd;

    loop_remove(p->loop, &p->io);
    loop_timer_cancel(p->loop, &p->timer);
    list_unlink(&p->node);
    free(p);
    return fd;
}

static void on_event(struct loop_fd *io, uint32_t events)
{
    close(release(container_of(io, struct pooled, io)));
}

static void on_timeout(struct loop_timer *timer)
{
    close(release(container_of(timer, struct pooled, timer)));
}

static size_t count(const struct sandbox *s)
{
    size_t n = 0;

    LIST_FOR_EACH (node, &s->idle)
        n++;
    return n;
}

void pool_put(struct daemon *d, struct sandbox *s, int fd)
{
    struct pooled *p;

    if (count(s) >= IDLE_MAX) {
        close(fd);
        return;
    }
    p = xcalloc(1, sizeof(*p));
    *p = (struct pooled){
        .loop = &d->loop,
        .io = {.fd = fd, .ready = on_event},
        .timer.fire = on_timeout,
    };
    list_append(&s->idle, &p->node);
    loop_timer_after(p->loop, &p->timer, IDLE_MS);
    if (!loop_add(p->loop, &p->io, EPOLLIN | EPOLLRDHUP, NULL))
        close(release(p));
}

int pool_take(struct sandbox *s)
{
    if (list_is_empty(&s->idle))
        return -1;
    /* The one used last: the others get to time out. */
    return release(container_of(s->idle.prev, struct pooled, node));
}

void pool_clear(struct sandbox *s)
{
    int fd;

    while ((fd = pool_take(s)) >= 0)
        close(fd);
}
