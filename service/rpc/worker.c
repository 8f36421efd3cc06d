/* See worker.h. */
#include "service/rpc/worker.h"

#include "common/base/clock.h"
#include "common/base/list.h"

#include <grpc/support/time.h>
#include <string.h>

/* Calls that come while no slot is open wait inside core, so this is only about batches of work. */
enum { SLOTS = 64 };

static gpr_timespec as_core_time(int64_t ns)
{
    if (ns == INT64_MAX)
        return gpr_inf_future(GPR_CLOCK_MONOTONIC);
    return (gpr_timespec){
        .tv_sec = ns / NS_PER_S,
        .tv_nsec = (int32_t)(ns % NS_PER_S),
        .clock_type = GPR_CLOCK_MONOTONIC,
    };
}

static void run_timers(struct worker *w)
{
    struct timer *timer;
    int64_t now_ns;

    if (w->timers.n == 0)
        return;
    now_ns = clock_monotonic_ns();
    while ((timer = timers_take_due(&w->timers, now_ns)) != NULL) {
        struct call_timer *due = container_of(timer, struct call_timer, timer);

        due->run(due);
    }
}

/* Core takes requests for calls only once it is started; a server that cannot start closes. */
static void wait_for_start(struct server *s)
{
    pthread_mutex_lock(&s->lock);
    while (!s->started && !atomic_load(&s->closing))
        pthread_cond_wait(&s->changed, &s->lock);
    pthread_mutex_unlock(&s->lock);
}

static void *worker_main(void *arg)
{
    struct worker *w = arg;

    pthread_setname_np(pthread_self(), "rpc");
    wait_for_start(w->server);
    for (int i = 0; i < SLOTS; i++)
        call_request(w);
    for (;;) {
        gpr_timespec until = as_core_time(timers_next_ns(&w->timers));
        grpc_event event = grpc_completion_queue_next(w->cq, until, NULL);

        if (event.type == GRPC_QUEUE_SHUTDOWN)
            break;
        if (event.type == GRPC_OP_COMPLETE) {
            struct op *op = event.tag;

            op->done(op, event.success != 0);
        }
        run_timers(w);
    }
    return NULL;
}

bool worker_start(struct worker *w, struct status *st)
{
    int error = pthread_create(&w->thread, NULL, worker_main, w);

    if (error != 0)
        return status_set(st, CODE_INTERNAL, 0, "cannot start a thread: %s", strerror(error));
    w->running = true;
    return true;
}

void worker_stop(struct worker *w)
{
    grpc_completion_queue_shutdown(w->cq);
    if (w->running)
        pthread_join(w->thread, NULL);
    grpc_completion_queue_destroy(w->cq);
    timers_deinit(&w->timers);
    pthread_mutex_destroy(&w->lock);
}
