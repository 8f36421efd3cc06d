/* See keeper.h. It is a loop of its own, over the zygote's descriptors. */
#include "runtime/local/daemon/keeper.h"

#include "common/base/list.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

static void on_zygote(struct loop_fd *io, uint32_t events)
{
    struct keeper *k = container_of(io, struct keeper, io);
    struct zygote_event event;
    enum zygote_next next;

    while ((next = zygote_next(k->zygote, &event)) == ZYGOTE_EVENT)
        k->event(k->ctx, &event);
    if (next == ZYGOTE_GONE) {
        loop_remove(&k->loop, &k->io);
        k->event(k->ctx, NULL);
    }
}

static void on_log(struct loop_fd *io, uint32_t events)
{
    char text[4096];
    ssize_t n = read(io->fd, text, sizeof(text));

    if (n == 0 || (n < 0 && errno != EAGAIN) ||
        (n > 0 && write(STDERR_FILENO, text, (size_t)n) < 0))
        loop_remove(&container_of(io, struct keeper, log_io)->loop, io);
}

static void on_stop(struct task *task)
{
    loop_stop(&container_of(task, struct keeper, stop)->loop);
}

static void *run(void *arg)
{
    struct keeper *k = arg;

    loop_run(&k->loop);
    return NULL;
}

bool keeper_start(struct keeper *k, struct status *st)
{
    int error;

    k->io = (struct loop_fd){.fd = zygote_fd(k->zygote), .ready = on_zygote};
    k->log_io = (struct loop_fd){.fd = zygote_log_fd(k->zygote), .ready = on_log};
    k->stop.run = on_stop;
    if (!loop_init(&k->loop, st))
        return false;
    if (!loop_add(&k->loop, &k->io, EPOLLIN, st) ||
        (k->log_io.fd >= 0 && !loop_add(&k->loop, &k->log_io, EPOLLIN, st))) {
        loop_deinit(&k->loop);
        return false;
    }
    error = pthread_create(&k->thread, NULL, run, k);
    if (error != 0) {
        loop_deinit(&k->loop);
        return status_set(st, CODE_INTERNAL, 0, "no thread: %s", strerror(error));
    }
    k->running = true;
    return true;
}

void keeper_stop(struct keeper *k)
{
    if (!k->running)
        return;
    k->running = false;
    executor_post(keeper_executor(k), &k->stop);
    pthread_join(k->thread, NULL);
    loop_deinit(&k->loop);
}
