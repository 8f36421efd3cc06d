/*
 * See forward.h. One thread waits for signals and makes the calls, beside the stream that the main
 * thread is reading. The signals are blocked in every thread, so none is ever delivered.
 */
#include "client/cli/forward.h"

#include "common/base/clock.h"
#include "common/base/mem.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

enum { RETRY_MS = 100, HURRY_SIGNALS = 3 };

struct forward {
    struct sandbox_client *client; /* borrowed */
    const char *sandbox_id;        /* borrowed */
    const char *command_id;        /* borrowed */
    int signals;                   /* signalfd */
    int end;                       /* eventfd: forward_stop() was called */
    pthread_t thread;
    atomic_bool started;
    atomic_bool wants_out;
    int64_t recent_ns[HURRY_SIGNALS]; /* when the last signals came, newest first */
};

static sigset_t forwarded(void)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGHUP);
    sigaddset(&set, SIGQUIT);
    return set;
}

void forward_block(void)
{
    sigset_t set = forwarded();

    pthread_sigmask(SIG_BLOCK, &set, NULL);
}

/* Waits; true when it is time to end. */
static bool ended_within(const struct forward *f, int ms)
{
    struct pollfd fd = {.fd = f->end, .events = POLLIN};

    return poll(&fd, 1, ms) > 0;
}

/* Until the command exists there is nothing to send a signal to, but there soon will be. */
static void send_signal(struct forward *f, int number)
{
    Sandbox__V1__SignalCommandRequest request = SANDBOX__V1__SIGNAL_COMMAND_REQUEST__INIT;
    struct sandbox_error err;

    request.sandbox_id = (char *)f->sandbox_id;
    request.command_id = (char *)f->command_id;
    request.signal = number;
    while (!sandbox_signal_command(f->client, &request, NULL, &err)) {
        if (err.code == SANDBOX_NOT_FOUND && !f->started && !ended_within(f, RETRY_MS))
            continue;
        /* A command that has just ended needs no signal. */
        if (err.code != SANDBOX_CANCELLED && err.code != SANDBOX_NOT_FOUND &&
            err.code != SANDBOX_FAILED_PRECONDITION)
            fprintf(stderr, "sandboxctl: the signal was not delivered: %s\n", err.message);
        return;
    }
}

static bool in_a_hurry(struct forward *f)
{
    int64_t now = clock_monotonic_ns();

    for (int i = HURRY_SIGNALS - 1; i > 0; i--)
        f->recent_ns[i] = f->recent_ns[i - 1];
    f->recent_ns[0] = now;
    return f->recent_ns[HURRY_SIGNALS - 1] != 0 &&
           now - f->recent_ns[HURRY_SIGNALS - 1] < 2 * NS_PER_S;
}

static void take_signal(struct forward *f)
{
    struct signalfd_siginfo info;

    if (read(f->signals, &info, sizeof(info)) != sizeof(info))
        return;
    if (in_a_hurry(f)) {
        f->wants_out = true;
        sandbox_client_stop(f->client);
        return;
    }
    send_signal(f, (int)info.ssi_signo);
}

static void *forward_main(void *arg)
{
    struct forward *f = arg;
    struct pollfd fds[] = {{.fd = f->signals, .events = POLLIN}, {.fd = f->end, .events = POLLIN}};

    for (;;) {
        if (poll(fds, 2, -1) < 0)
            continue;
        if (fds[1].revents != 0)
            return NULL;
        take_signal(f);
    }
}

struct forward *forward_start(struct sandbox_client *client, const char *sandbox_id,
                              const char *command_id)
{
    struct forward *f = xcalloc(1, sizeof(*f));
    sigset_t set = forwarded();

    f->client = client;
    f->sandbox_id = sandbox_id;
    f->command_id = command_id;
    f->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    f->end = eventfd(0, EFD_CLOEXEC);
    if (f->signals < 0 || f->end < 0 || pthread_create(&f->thread, NULL, forward_main, f) != 0)
        abort();
    return f;
}

void forward_started(void *forward)
{
    struct forward *f = forward;

    f->started = true;
}

bool forward_stop(struct forward *f)
{
    uint64_t one = 1;
    bool wants_out;

    if (f == NULL)
        return false;
    if (write(f->end, &one, sizeof(one)) != sizeof(one))
        abort();
    sandbox_client_stop(f->client);
    pthread_join(f->thread, NULL);
    wants_out = f->wants_out;
    close(f->signals);
    close(f->end);
    free(f);
    return wants_out;
}
