/* See jobs.h. */
#include "service/archive/jobs.h"

#include "common/base/clock.h"
#include "common/base/list.h"
#include "common/base/mem.h"

#include <stdlib.h>

enum { STOP_MS = 200 /* how soon a job that waits notices that it is to end */ };

/* --- jobs --- */

struct job {
    struct jobs *jobs;
    void (*run)(void *arg);
    void *arg;
};

void jobs_init(struct jobs *j, int limit)
{
    pthread_mutex_init(&j->lock, NULL);
    pthread_cond_init(&j->ended, NULL);
    j->running = 0;
    j->limit = limit;
    atomic_init(&j->stopping, false);
}

static void job_ended(struct jobs *j)
{
    pthread_mutex_lock(&j->lock);
    j->running--;
    pthread_cond_signal(&j->ended);
    pthread_mutex_unlock(&j->lock);
}

static void *job_main(void *arg)
{
    struct job job = *(struct job *)arg;

    free(arg);
    job.run(job.arg);
    job_ended(job.jobs);
    return NULL;
}

static bool spawn(struct job *job)
{
    pthread_attr_t attributes;
    pthread_t thread;
    bool ok;

    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    ok = pthread_create(&thread, &attributes, job_main, job) == 0;
    pthread_attr_destroy(&attributes);
    return ok;
}

bool jobs_start(struct jobs *j, void (*run)(void *arg), void *arg)
{
    struct job *job;
    bool room;

    pthread_mutex_lock(&j->lock);
    room = j->running < j->limit && !atomic_load(&j->stopping);
    j->running += room;
    pthread_mutex_unlock(&j->lock);
    if (!room)
        return false;
    job = xmalloc(sizeof(*job));
    *job = (struct job){.jobs = j, .run = run, .arg = arg};
    if (spawn(job))
        return true;
    free(job);
    job_ended(j);
    return false;
}

void jobs_deinit(struct jobs *j)
{
    pthread_mutex_lock(&j->lock);
    atomic_store(&j->stopping, true);
    while (j->running > 0)
        pthread_cond_wait(&j->ended, &j->lock);
    pthread_mutex_unlock(&j->lock);
    pthread_cond_destroy(&j->ended);
    pthread_mutex_destroy(&j->lock);
}

/* --- mailboxes --- */

static void post(struct executor *e, struct task *task)
{
    struct mailbox *m = container_of(e, struct mailbox, executor);

    task->next = NULL;
    pthread_mutex_lock(&m->lock);
    *m->end = task;
    m->end = &task->next;
    pthread_cond_signal(&m->arrived);
    pthread_mutex_unlock(&m->lock);
}

void mailbox_init(struct mailbox *m)
{
    m->executor.post = post;
    pthread_mutex_init(&m->lock, NULL);
    pthread_cond_init(&m->arrived, NULL);
    m->first = NULL;
    m->end = &m->first;
}

void mailbox_deinit(struct mailbox *m)
{
    /* Whoever posted last may still be about to leave the lock. */
    pthread_mutex_lock(&m->lock);
    pthread_mutex_unlock(&m->lock);
    pthread_cond_destroy(&m->arrived);
    pthread_mutex_destroy(&m->lock);
}

/* Takes the first task, or waits for one a while. NULL: none came. */
static struct task *take(struct mailbox *m)
{
    int64_t until_ns = clock_wall_ns() + STOP_MS * NS_PER_MS;
    struct timespec until = {until_ns / NS_PER_S, until_ns % NS_PER_S};
    struct task *task;

    pthread_mutex_lock(&m->lock);
    if (m->first == NULL)
        pthread_cond_timedwait(&m->arrived, &m->lock, &until);
    task = m->first;
    if (task != NULL) {
        m->first = task->next;
        if (m->first == NULL)
            m->end = &m->first;
    }
    pthread_mutex_unlock(&m->lock);
    return task;
}

bool mailbox_run(struct mailbox *m, const bool *done, const atomic_bool *stop)
{
    while (!*done) {
        struct task *task = take(m);

        if (task != NULL)
            task->run(task);
        else if (stop != NULL && atomic_load(stop))
            return false;
    }
    return true;
}
