/*
 * The way to a call from other threads: tasks are linked into its inbox, and the worker is woken by
 * an empty batch, since core has no other way in from C. Draining is such a task, posted by whoever
 * stops the server.
 */
#include "service/rpc/call_impl.h"

#include <stdlib.h>

struct executor *call_executor(struct call *c)
{
    return &c->executor;
}

static void on_kick(struct op *op, bool ok)
{
    struct call *c = container_of(op, struct call, kick);
    struct task *task;

    pthread_mutex_lock(&c->inbox_lock);
    task = c->inbox_first;
    c->inbox_first = NULL;
    c->inbox_end = &c->inbox_first;
    c->kicked = false;
    pthread_mutex_unlock(&c->inbox_lock);

    /* Whoever posted holds a reference, which its last task may give back: hold one meanwhile. */
    call_ref(c);
    while (task != NULL) {
        struct task *next = task->next;

        task->run(task);
        task = next;
    }
    call_unref(c);
}

static void post(struct executor *e, struct task *task)
{
    struct call *c = container_of(e, struct call, executor);
    bool kick;

    task->next = NULL;
    pthread_mutex_lock(&c->inbox_lock);
    *c->inbox_end = task;
    c->inbox_end = &task->next;
    kick = !c->kicked;
    c->kicked = true;
    /* Under the lock: once it is released the worker may run the task and free the call. */
    if (kick && grpc_call_start_batch(c->core, NULL, 0, &c->kick, NULL) != GRPC_CALL_OK)
        abort();
    pthread_mutex_unlock(&c->inbox_lock);
}

/* --- draining --- */

void call_tell_drain(struct call *c)
{
    if (c->drain_told || c->finished || c->handler == NULL)
        return;
    c->drain_told = true;
    if (c->handler->on_drain != NULL)
        c->handler->on_drain(c->state);
}

static void run_drain(struct task *task)
{
    struct call *c = container_of(task, struct call, drain);

    call_tell_drain(c);
    call_unref(c);
}

void call_post_drain(struct list *node)
{
    struct call *c = container_of(node, struct call, node);

    if (!atomic_exchange(&c->drain_posted, true))
        post(&c->executor, &c->drain);
}

/* The drain task is the one that other threads post without having taken a reference, so a call
 * that can be drained holds one for it; it is given back when the task ran or the call ended. */
void call_list_for_drain(struct call *c)
{
    call_ref(c);
    pthread_mutex_lock(&c->worker->lock);
    list_append(&c->worker->calls, &c->node);
    pthread_mutex_unlock(&c->worker->lock);
}

void call_unlist_for_drain(struct call *c)
{
    pthread_mutex_lock(&c->worker->lock);
    list_unlink(&c->node);
    pthread_mutex_unlock(&c->worker->lock);
    if (!atomic_exchange(&c->drain_posted, true))
        call_unref(c); /* nobody posted it, and now nobody can */
}

void call_inbox_init(struct call *c)
{
    list_init(&c->node);
    c->kick.done = on_kick;
    c->drain.run = run_drain;
    c->executor.post = post;
    c->inbox_end = &c->inbox_first;
    pthread_mutex_init(&c->inbox_lock, NULL);
}

void call_inbox_deinit(struct call *c)
{
    pthread_mutex_destroy(&c->inbox_lock);
}
