/*
 * The event loop: descriptors, timers and posted tasks on one thread, over epoll.
 *
 * Everything but loop_executor()'s post is for the loop's own thread. Structures are embedded in
 * their owners and may be removed, and then freed, from any callback, their own included.
 */
#pragma once

#include "common/base/status.h"
#include "common/base/task.h"
#include "common/base/timers.h"

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>

/* A descriptor that is waited for. Level-triggered: what is not dealt with is reported again. */
struct loop_fd {
    int fd;          /* borrowed */
    uint32_t events; /* what is waited for; EPOLLERR and EPOLLHUP always are */
    bool added;
    bool first; /* called before the others of a round: it tells of what was there before them */
    void (*ready)(struct loop_fd *self, uint32_t events);
};

/* A deadline on the monotonic clock, kept to about a millisecond, never early. */
struct loop_timer {
    struct timer timer;
    void (*fire)(struct loop_timer *self); /* the timer is no longer set; it may be set again */
};

struct loop {
    struct executor executor;
    int epoll_fd;
    struct loop_fd wake;
    struct timers timers;
    pthread_mutex_t lock; /* of the inbox */
    struct task *inbox;
    struct task **inbox_end;
    bool stopping;
    struct epoll_event batch[64];
    int batch_len;
};

bool loop_init(struct loop *l, struct status *st) __attribute__((warn_unused_result));
/* Runs the tasks that are still posted (they may own memory), then lets go of everything. */
void loop_deinit(struct loop *l);

/* Runs until loop_stop(). */
void loop_run(struct loop *l);
/* One round: waits at most timeout_ms (-1: as long as it takes), then runs what is ready. */
void loop_run_once(struct loop *l, int timeout_ms);
void loop_stop(struct loop *l);

/* Waits for events on io->fd. Fails when the descriptor cannot be polled (a regular file). */
bool loop_add(struct loop *l, struct loop_fd *io, uint32_t events, struct status *st);
/* Changes what is waited for; costs nothing when it is the same. */
void loop_modify(struct loop *l, struct loop_fd *io, uint32_t events);
/* Before the descriptor is closed. Nothing more is reported, not even from the current round. */
void loop_remove(struct loop *l, struct loop_fd *io);

/* Sets or moves the timer. */
void loop_timer_set(struct loop *l, struct loop_timer *t, int64_t at_ns);
void loop_timer_after(struct loop *l, struct loop_timer *t, int64_t ms);
void loop_timer_cancel(struct loop *l, struct loop_timer *t); /* also when it is not set */

/* Posts from any thread; from the loop's own, the task runs at the end of the round. */
static inline struct executor *loop_executor(struct loop *l)
{
    return &l->executor;
}
