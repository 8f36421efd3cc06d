/*
 * See loop.h. One round is: wait, run what is ready, run the timers that are due, run the tasks
 * that were posted until then.
 */
#include "common/http/loop.h"

#include "common/base/clock.h"
#include "common/base/list.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* The loop whose round this thread is in. */
static _Thread_local const struct loop *current;

static void post(struct executor *e, struct task *task)
{
    struct loop *l = container_of(e, struct loop, executor);
    bool here = current == l;
    uint64_t one = 1;

    task->next = NULL;
    pthread_mutex_lock(&l->lock);
    *l->inbox_end = task;
    l->inbox_end = &task->next;
    pthread_mutex_unlock(&l->lock);
    /* The loop looks at its inbox before it sleeps; a full counter wakes it too. */
    if (!here && write(l->wake.fd, &one, sizeof(one)) < 0)
        return;
}

static void on_wake(struct loop_fd *io, uint32_t events)
{
    uint64_t count;

    if (read(io->fd, &count, sizeof(count)) < 0)
        return;
}

bool loop_init(struct loop *l, struct status *st)
{
    *l = (struct loop){.executor.post = post, .wake = {.ready = on_wake}};
    l->inbox_end = &l->inbox;
    l->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    l->wake.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    pthread_mutex_init(&l->lock, NULL);
    if (l->epoll_fd < 0 || l->wake.fd < 0) {
        status_set(st, CODE_INTERNAL, 0, "no event loop: %s", strerror(errno));
        loop_deinit(l);
        return false;
    }
    return loop_add(l, &l->wake, EPOLLIN, st);
}

static struct task *take_inbox(struct loop *l)
{
    pthread_mutex_lock(&l->lock);

    struct task *tasks = l->inbox;

    l->inbox = NULL;
    l->inbox_end = &l->inbox;
    pthread_mutex_unlock(&l->lock);
    return tasks;
}

static void run_tasks(struct loop *l)
{
    struct task *next;

    for (struct task *task = take_inbox(l); task != NULL; task = next) {
        next = task->next;
        task->run(task);
    }
}

static bool inbox_is_empty(struct loop *l)
{
    pthread_mutex_lock(&l->lock);

    bool empty = l->inbox == NULL;

    pthread_mutex_unlock(&l->lock);
    return empty;
}

void loop_deinit(struct loop *l)
{
    while (!inbox_is_empty(l))
        run_tasks(l);
    if (l->wake.fd >= 0)
        close(l->wake.fd);
    if (l->epoll_fd >= 0)
        close(l->epoll_fd);
    l->wake.fd = -1;
    l->epoll_fd = -1;
    timers_deinit(&l->timers);
    pthread_mutex_destroy(&l->lock);
}

bool loop_add(struct loop *l, struct loop_fd *io, uint32_t events, struct status *st)
{
    struct epoll_event e = {.events = events, .data.ptr = io};

    if (epoll_ctl(l->epoll_fd, EPOLL_CTL_ADD, io->fd, &e) < 0)
        return status_set(st, CODE_INTERNAL, 0, "cannot wait for a descriptor: %s",
                          strerror(errno));
    io->events = events;
    io->added = true;
    return true;
}

void loop_modify(struct loop *l, struct loop_fd *io, uint32_t events)
{
    struct epoll_event e = {.events = events, .data.ptr = io};

    if (!io->added || io->events == events)
        return;
    io->events = events;
    epoll_ctl(l->epoll_fd, EPOLL_CTL_MOD, io->fd, &e);
}

void loop_remove(struct loop *l, struct loop_fd *io)
{
    if (!io->added)
        return;
    io->added = false;
    epoll_ctl(l->epoll_fd, EPOLL_CTL_DEL, io->fd, NULL);
    for (int i = 0; i < l->batch_len; i++) {
        if (l->batch[i].data.ptr == io)
            l->batch[i].data.ptr = NULL;
    }
}

void loop_timer_cancel(struct loop *l, struct loop_timer *t)
{
    timers_stop(&l->timers, &t->timer);
}

void loop_timer_set(struct loop *l, struct loop_timer *t, int64_t at_ns)
{
    timers_set(&l->timers, &t->timer, at_ns);
}

void loop_timer_after(struct loop *l, struct loop_timer *t, int64_t ms)
{
    loop_timer_set(l, t, clock_monotonic_ns() + ms * NS_PER_MS);
}

static void run_timers(struct loop *l)
{
    if (l->timers.n == 0)
        return;

    int64_t now = clock_monotonic_ns();

    /* A timer that sets itself to the past again waits for the next round. */
    for (size_t left = l->timers.n; left > 0; left--) {
        struct timer *timer = timers_take_due(&l->timers, now);

        if (timer == NULL)
            break;

        struct loop_timer *due = container_of(timer, struct loop_timer, timer);

        due->fire(due);
    }
}

static int wait_ms(struct loop *l, int timeout_ms)
{
    if (!inbox_is_empty(l))
        return 0;
    if (l->timers.n == 0)
        return timeout_ms;

    int64_t ns = timers_next_ns(&l->timers) - clock_monotonic_ns();
    int64_t ms = ns <= 0 ? 0 : (ns + NS_PER_MS - 1) / NS_PER_MS;

    if (timeout_ms >= 0 && ms > timeout_ms)
        ms = timeout_ms;
    return ms > INT_MAX ? INT_MAX : (int)ms;
}

static void run_ready(struct loop *l, bool first)
{
    for (int i = 0; i < l->batch_len; i++) {
        struct loop_fd *io = l->batch[i].data.ptr;

        if (io != NULL && io->first == first) {
            l->batch[i].data.ptr = NULL;
            io->ready(io, l->batch[i].events);
        }
    }
}

void loop_run_once(struct loop *l, int timeout_ms)
{
    const struct loop *outer = current;

    current = l;
    l->batch_len = epoll_wait(l->epoll_fd, l->batch, sizeof(l->batch) / sizeof(l->batch[0]),
                              wait_ms(l, timeout_ms));
    run_ready(l, true);
    run_ready(l, false);
    l->batch_len = 0;
    run_timers(l);
    run_tasks(l);
    current = outer;
}

void loop_run(struct loop *l)
{
    while (!l->stopping)
        loop_run_once(l, -1);
    l->stopping = false;
}

void loop_stop(struct loop *l)
{
    l->stopping = true;
}
