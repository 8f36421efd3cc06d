/*
 * See acker.h. One thread per stream of a command with OVERFLOW_BLOCK. A failed acknowledgement is
 * made good by the next one, since each covers all before it; what cannot be acknowledged at all
 * shows in the stream itself.
 */
#include "client/acker.h"

#include "client/unary.h"
#include "common/base/clock.h"
#include "common/base/mem.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

enum { EVENTS = 1000, TIMEOUT_MS = 10 * 1000 };

struct acker {
    struct sandbox_client *client; /* borrowed */
    const char *sandbox_id;        /* borrowed */
    const char *command_id;        /* borrowed */
    size_t max_bytes;
    pthread_t thread;
    pthread_mutex_t lock; /* over all below */
    pthread_cond_t changed;
    uint64_t taken_seq;
    uint64_t acked_seq;
    size_t bytes;   /* taken since the last acknowledgement was begun */
    int64_t due_ns; /* when taken_seq is acknowledged at the latest */
    bool closing;
};

static bool is_due(const struct acker *a)
{
    if (a->taken_seq == a->acked_seq)
        return false;
    return a->closing || a->bytes >= a->max_bytes || a->taken_seq - a->acked_seq >= EVENTS ||
           clock_monotonic_ns() >= a->due_ns;
}

static void wait_for_work(struct acker *a)
{
    struct timespec ts = {.tv_sec = a->due_ns / NS_PER_S, .tv_nsec = a->due_ns % NS_PER_S};

    if (a->taken_seq == a->acked_seq)
        pthread_cond_wait(&a->changed, &a->lock);
    else
        pthread_cond_timedwait(&a->changed, &a->lock, &ts);
}

/* Called, and returns, with the lock held. */
static bool acknowledge(struct acker *a)
{
    Sandbox__V1__AckLogsRequest request = SANDBOX__V1__ACK_LOGS_REQUEST__INIT;
    uint64_t seq = a->taken_seq;

    a->bytes = 0;
    pthread_mutex_unlock(&a->lock);
    request.sandbox_id = (char *)a->sandbox_id;
    request.command_id = (char *)a->command_id;
    request.seq = seq;

    bool ok = unary_call(a->client, &sandbox__v1__sandbox_service__descriptor, "AckLogs",
                         &request.base, UNARY_QUICK, TIMEOUT_MS, NULL, NULL);

    pthread_mutex_lock(&a->lock);
    if (ok)
        a->acked_seq = seq;
    a->due_ns = clock_monotonic_ns() + NS_PER_S;
    return ok;
}

/* After a failure the next attempt is a second away, whatever has come in. */
static void pause_after_failure(struct acker *a)
{
    struct timespec ts = {.tv_sec = a->due_ns / NS_PER_S, .tv_nsec = a->due_ns % NS_PER_S};

    while (!a->closing && clock_monotonic_ns() < a->due_ns)
        pthread_cond_timedwait(&a->changed, &a->lock, &ts);
}

static void *acker_main(void *arg)
{
    struct acker *a = arg;

    pthread_mutex_lock(&a->lock);
    for (;;) {
        bool last = a->closing;

        if (!is_due(a)) {
            if (last)
                break;
            wait_for_work(a);
        } else if (!acknowledge(a)) {
            if (last)
                break;
            pause_after_failure(a);
        }
    }
    pthread_mutex_unlock(&a->lock);
    return NULL;
}

/* Signals are for the application's threads. */
static void start_thread(struct acker *a)
{
    sigset_t all, before;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    if (pthread_create(&a->thread, NULL, acker_main, a) != 0)
        abort();
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

struct acker *acker_new(struct sandbox_client *client, const char *sandbox_id,
                        const char *command_id, size_t bytes)
{
    struct acker *a = xcalloc(1, sizeof(*a));
    pthread_condattr_t attr;

    a->client = client;
    a->sandbox_id = sandbox_id;
    a->command_id = command_id;
    a->max_bytes = bytes;
    pthread_mutex_init(&a->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&a->changed, &attr);
    pthread_condattr_destroy(&attr);
    start_thread(a);
    return a;
}

void acker_take(struct acker *a, uint64_t seq, size_t bytes)
{
    pthread_mutex_lock(&a->lock);

    bool was_idle = a->taken_seq == a->acked_seq;

    a->taken_seq = seq;
    a->bytes += bytes;
    if (was_idle)
        a->due_ns = clock_monotonic_ns() + NS_PER_S;
    if (was_idle || is_due(a))
        pthread_cond_signal(&a->changed);
    pthread_mutex_unlock(&a->lock);
}

void acker_free(struct acker *a)
{
    if (a == NULL)
        return;
    pthread_mutex_lock(&a->lock);
    a->closing = true;
    pthread_cond_signal(&a->changed);
    pthread_mutex_unlock(&a->lock);
    pthread_join(a->thread, NULL);
    pthread_cond_destroy(&a->changed);
    pthread_mutex_destroy(&a->lock);
    free(a);
}
