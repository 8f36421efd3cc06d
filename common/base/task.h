/*
 * Crossing from one thread to another. A task is embedded in whatever is handed over; posting links
 * it into the owner's inbox and wakes the owner, which runs it on its own thread.
 */
#pragma once

struct task {
    struct task *next;              /* used by the inbox it is in */
    void (*run)(struct task *self); /* container_of() finds the object; may free it */
};

struct trace;

/* Something that runs tasks on one thread, in the order posted. */
struct executor {
    /* Any thread. A task may not be posted again before it ran. Always succeeds. */
    void (*post)(struct executor *self, struct task *task);
    /* Borrowed: the trace that the executor's own work is part of, and so whatever is started with
     * results to come back here. NULL: none. */
    struct trace *trace;
};

static inline void executor_post(struct executor *e, struct task *task)
{
    e->post(e, task);
}
