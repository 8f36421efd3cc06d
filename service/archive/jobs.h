/*
 * Threads for what waits for disks and networks: one for each job, so many at a time. A job that
 * talks to the rest of the program, where everything is asynchronous, does so through a mailbox: it
 * starts an operation, then waits for it.
 */
#pragma once

#include "common/base/task.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct jobs {
    pthread_mutex_t lock;
    pthread_cond_t ended;
    int running; /* guarded by lock */
    int limit;
    atomic_bool stopping; /* jobs should end soon */
};

void jobs_init(struct jobs *j, int limit);
/* Any thread. False: too many run already, or they are to end. */
bool jobs_start(struct jobs *j, void (*run)(void *arg), void *arg);
/* Waits for all of them. No other may be started afterwards. */
void jobs_deinit(struct jobs *j);

struct mailbox {
    struct executor executor; /* post to it from anywhere */
    pthread_mutex_t lock;
    pthread_cond_t arrived;
    struct task *first, **end;
};

void mailbox_init(struct mailbox *m);
void mailbox_deinit(struct mailbox *m);
/*
 * Runs what is posted until *done, which one of the tasks sets. False: *stop (NULL: nothing) came
 * first, or a little later. On the thread of the job.
 */
bool mailbox_run(struct mailbox *m, const bool *done, const atomic_bool *stop);
