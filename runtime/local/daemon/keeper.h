/*
 * The thread that talks to the zygote, whose calls block for a millisecond or two: streams must not
 * stand still whenever a sandbox starts. Work goes there, and results come back, as tasks.
 */
#pragma once

#include "common/http/loop.h"
#include "runtime/local/zygote/zygote.h"

#include <pthread.h>

struct keeper {
    struct zygote *zygote; /* borrowed; for the thread's use alone until keeper_stop() */
    struct loop loop;      /* the thread's */
    struct loop_fd io;     /* of the zygote */
    struct loop_fd log_io; /* what it says */
    struct task stop;
    pthread_t thread;
    bool running;
    /* On the keeper's thread; NULL: the zygote is gone, and all with it. */
    void (*event)(void *ctx, const struct zygote_event *e);
    void *ctx;
};

/* zygote, event and ctx are set by the caller. */
bool keeper_start(struct keeper *k, struct status *st);
/* Finishes what was posted. May be called twice, and when it was never started. */
void keeper_stop(struct keeper *k);

/* Runs tasks on the keeper's thread, in order. */
static inline struct executor *keeper_executor(struct keeper *k)
{
    return loop_executor(&k->loop);
}
