/*
 * See writer.h. One thread, one epoll loop: events record facts and act on them at once; what
 * cannot be done now (no room, a full disk) is a flag and a time to try again. The command's life
 * ends in three steps: its process is reaped (dead), what it had written is stored and `exited`
 * appended (exited), everybody else has closed its output too (closed). What it writes is the
 * matter of streams.c, its process that of writer_start.c.
 */
#include "runtime/recorder/writer.h"

#include "common/base/cleanup.h"
#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/journal/verbs.h"
#include "runtime/recorder/proc.h"
#include "runtime/recorder/streams.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    RETRY_MS = 100,
    SOURCES_PER_ROUND = 32,
};

/* sandbox.v1.Exited.Reason */
enum {
    REASON_EXITED = 1,
    REASON_SIGNALED = 2,
    REASON_TIMED_OUT = 3,
    REASON_IDLE_TIMED_OUT = 4,
    REASON_KILLED = 5,
    REASON_OUT_OF_MEMORY = 6,
    REASON_START_FAILED = 7,
};

void writer_retry_soon(struct writer *w)
{
    w->retry_ns = clock_monotonic_ns() + RETRY_MS * NS_PER_MS;
}

void writer_put_off_idle(struct writer *w)
{
    if (w->idle_ns != 0)
        w->idle_ns = clock_monotonic_ns() + (int64_t)w->spec->idle_timeout_ms * NS_PER_MS;
}

/* --- the end --- */

static void explain_exit(const struct writer *w, struct journal_exit *ret)
{
    int status = w->wait_status;
    const struct rusage *u = &w->usage;

    if (w->failure.code != 0) {
        *ret = (struct journal_exit){
            .reason = REASON_START_FAILED, .code = w->failure.code, .message = w->failure.message};
        return;
    }
    *ret = (struct journal_exit){
        .reason = REASON_EXITED,
        .code = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status),
        .signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0,
        .cpu_ns = (int64_t)(u->ru_utime.tv_sec + u->ru_stime.tv_sec) * NS_PER_S +
                  (int64_t)(u->ru_utime.tv_usec + u->ru_stime.tv_usec) * 1000,
        .max_rss_bytes = (uint64_t)u->ru_maxrss * 1024,
    };
    if (w->timed_out != 0)
        ret->reason = w->timed_out;
    else if (WIFSIGNALED(status) && ret->signal == w->sent_signal)
        ret->reason = REASON_KILLED;
    else if (ret->signal == SIGKILL && proc_oom_kills() > w->oom_kills)
        ret->reason = REASON_OUT_OF_MEMORY;
    else if (WIFSIGNALED(status))
        ret->reason = REASON_SIGNALED;
}

/* The room that was reserved for the last events. */
static void free_reserve(struct writer *w)
{
    unlinkat(w->dir, "reserve", 0);
}

/* The end record is a convenience: without it, everybody finds the same by walking the journal. */
static void write_exited(struct writer *w, const struct journal_exit *exit)
{
    if (!journal_file_exited(&w->journal, exit, &w->end)) {
        free_reserve(w);
        if (!journal_file_exited(&w->journal, exit, &w->end)) {
            writer_retry_soon(w);
            return;
        }
    }
    w->exited = true;
    w->end.input_offset = w->input.offset;
    w->end.input_eof = w->input.eof;
    end_write(w->dir, &w->end);
    clients_wake_exited(&w->clients);
}

static void write_closed(struct writer *w)
{
    if (!journal_file_closed(&w->journal, &w->end)) {
        free_reserve(w);
        if (!journal_file_closed(&w->journal, &w->end)) {
            writer_retry_soon(w);
            return;
        }
    }
    w->closed = true;
    free_reserve(w);
    end_write(w->dir, &w->end);
}

/* Does of the end what is possible now. */
static void step_to_end(struct writer *w)
{
    struct journal_exit exit;

    if (w->dead && !w->exited && streams_drain(w)) {
        explain_exit(w, &exit);
        write_exited(w, &exit);
        streams_watch(w);
    }
    if (w->exited && w->blocked)
        streams_close_ended(w);
    if (w->exited && !w->closed && streams_are_done(w))
        write_closed(w);
}

/* --- signals and time --- */

static void on_dead(struct writer *w)
{
    w->dead = true;
    w->timeout_ns = w->idle_ns = w->unread_ns = 0;
    source_watch(&w->stdin_source, w->epoll, 0);
    input_queue_close(&w->input, RECORDER_ENDED);
    step_to_end(w);
}

/* Reaps everything: as a subreaper we get the command's orphans too. */
static void on_child(struct source *source, uint32_t events)
{
    struct writer *w = container_of(source, struct writer, signals);
    struct signalfd_siginfo info;
    struct rusage usage;
    int status;
    pid_t pid;

    while (read(source->fd, &info, sizeof(info)) > 0) {
    }
    while ((pid = wait4(-1, &status, WNOHANG, &usage)) > 0) {
        if (pid != w->command.pid)
            continue;
        w->wait_status = status;
        w->usage = usage;
        on_dead(w);
    }
}

static void on_timeout(struct writer *w, uint32_t reason)
{
    w->timeout_ns = w->idle_ns = w->unread_ns = 0;
    w->timed_out = reason;
    w->grace_ns = clock_monotonic_ns() + (int64_t)w->spec->grace_ms * NS_PER_MS;
    kill(-w->command.pid, SIGTERM);
    kill(-w->command.pid, SIGCONT); /* a stopped process would not notice */
}

/* The grace is over: whoever is left, in whatever group. */
static void on_grace(struct writer *w)
{
    w->grace_ns = 0;
    proc_kill_descendants(getpid());
}

static void put_off_unread(struct writer *w)
{
    if (w->unread_ns != 0 && clients_are_reading(&w->clients))
        w->unread_ns = clock_monotonic_ns() + (int64_t)w->spec->unread_timeout_ms * NS_PER_MS;
}

static void run_timers(struct writer *w)
{
    int64_t now = clock_monotonic_ns();

    if (w->blocked || w->pending_of != NULL)
        writer_put_off_idle(w); /* it could not write if it wanted to */
    if (w->timeout_ns != 0 && now >= w->timeout_ns)
        on_timeout(w, REASON_TIMED_OUT);
    if (w->idle_ns != 0 && now >= w->idle_ns)
        on_timeout(w, REASON_IDLE_TIMED_OUT);
    put_off_unread(w);
    if (w->unread_ns != 0 && now >= w->unread_ns)
        on_timeout(w, REASON_IDLE_TIMED_OUT);
    if (w->grace_ns != 0 &&
        (now >= w->grace_ns || (w->closed && proc_signal_descendants(getpid(), 0) == 0)))
        on_grace(w);
    if (w->retry_ns != 0 && now >= w->retry_ns) {
        w->retry_ns = 0;
        if (streams_store_pending(w) && !journal_file_flush(&w->journal))
            writer_retry_soon(w);
        streams_watch(w);
    }
    streams_unblock(w);
    input_queue_step(&w->input);
}

static int wait_ms(const struct writer *w)
{
    const int64_t deadlines[] = {
        w->timeout_ns,
        w->idle_ns,
        w->unread_ns,
        w->grace_ns,
        w->retry_ns,
        input_queue_is_idle(&w->input) ? 0 : w->input.deadline_ns,
        /* A reader may have stopped: nobody tells. Also what is left may end unnoticed. */
        w->blocked || (w->closed && w->grace_ns != 0) ? clock_monotonic_ns() + RETRY_MS * NS_PER_MS
                                                      : 0,
    };
    int64_t now = clock_monotonic_ns(), soonest = INT64_MAX;

    for (size_t i = 0; i < sizeof(deadlines) / sizeof(deadlines[0]); i++)
        if (deadlines[i] != 0 && deadlines[i] < soonest)
            soonest = deadlines[i];
    if (soonest == INT64_MAX)
        return -1;
    if (soonest <= now)
        return 0;
    return soonest - now > 3600 * NS_PER_S ? 3600 * 1000 : (int)((soonest - now) / NS_PER_MS) + 1;
}

/* --- life --- */

static void on_stdin_ready(struct source *source, uint32_t events)
{
    struct writer *w = container_of(source, struct writer, stdin_source);

    input_queue_step(&w->input);
}

/* The stdin is in the set only while something waits for it. */
static void watch_stdin(struct writer *w)
{
    bool wanted = w->input.fd >= 0 && !input_queue_is_idle(&w->input);

    if (w->input.fd < 0)
        w->stdin_source.events = 0; /* closing took it out */
    else
        source_watch(&w->stdin_source, w->epoll, wanted ? EPOLLOUT : 0);
}

static void run_loop(struct writer *w)
{
    struct epoll_event events[SOURCES_PER_ROUND];

    step_to_end(w);
    while (!w->closed || w->grace_ns != 0) {
        int n = epoll_wait(w->epoll, events, SOURCES_PER_ROUND, wait_ms(w));

        for (int i = 0; i < n; i++) {
            struct source *s = events[i].data.ptr;

            s->ready(s, events[i].events);
        }
        run_timers(w);
        step_to_end(w);
        watch_stdin(w);
        clients_wake(&w->clients, journal_file_last_seq(&w->journal));
        clients_sweep(&w->clients);
    }
}

/* Everything that must be on record before the command runs, then the command. */
static bool start_command(struct writer *w, struct start_failure *why)
{
    struct pid_record pid = {0};

    if (!command_prepare(&w->command, w->spec, why))
        return false;
    pid.pid = (uint32_t)w->command.pid;
    pid.start_ticks = proc_start_ticks(w->command.pid);
    proc_boot_id(pid.boot_id, sizeof(pid.boot_id));
    if (!pid_write(w->dir, &pid)) {
        snprintf(why->message, sizeof(why->message), "its record cannot be written: %s",
                 strerror(errno));
        why->code = 126;
        return false; /* closing the gate ends the process that waits at it */
    }
    return command_run(&w->command, why);
}

static void begin(struct writer *w)
{
    if (!start_command(w, &w->failure)) {
        w->command.pid = 0;
        w->dead = true;
        unlinkat(w->dir, "pid", 0);
    }
    if (!journal_file_started(&w->journal, (uint32_t)w->command.pid)) {
        free_reserve(w);
        journal_file_started(&w->journal, (uint32_t)w->command.pid);
    }
    if (w->dead)
        return; /* the loop sees to the end */
    if (w->spec->meta.terminal) {
        streams_add(w, 0, &w->command.out, JOURNAL_TERMINAL);
    } else {
        streams_add(w, 0, &w->command.out, JOURNAL_STDOUT);
        streams_add(w, 1, &w->command.err, JOURNAL_STDERR);
    }
    if (w->spec->idle_timeout_ms != 0)
        w->idle_ns = clock_monotonic_ns() + (int64_t)w->spec->idle_timeout_ms * NS_PER_MS;
    if (w->spec->timeout_ms != 0)
        w->timeout_ns = clock_monotonic_ns() + (int64_t)w->spec->timeout_ms * NS_PER_MS;
    if (w->spec->unread_timeout_ms != 0)
        w->unread_ns = clock_monotonic_ns() + (int64_t)w->spec->unread_timeout_ms * NS_PER_MS;
    streams_watch(w);
}

static int open_signals(void)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigprocmask(SIG_SETMASK, &set, NULL);
    /* The end of the machine reaches the command too; the writer stays to record how it ends. */
    signal(SIGPIPE, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    signal(SIGINT, SIG_IGN);
    signal(SIGTERM, SIG_IGN);
    signal(SIGQUIT, SIG_IGN);
    return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

void writer_run(const struct claim *c, struct command_spec *s)
{
    struct writer *w = xcalloc(1, sizeof(*w));

    w->dir = c->dir;
    w->spec = s;
    w->command = COMMAND_INIT;
    w->epoll = epoll_create1(EPOLL_CLOEXEC);
    w->signals = (struct source){.fd = open_signals(), .ready = on_child};
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    w->oom_kills = proc_oom_kills();
    journal_file_init(&w->journal, c->dir, &s->meta);
    clients_init(&w->clients, w, c->listener);
    source_watch(&w->signals, w->epoll, EPOLLIN);
    begin(w);
    input_queue_init(&w->input, take_fd(&w->command.in), s->meta.terminal);
    w->stdin_source = (struct source){.fd = w->input.fd, .ready = on_stdin_ready};
    run_loop(w);
    input_queue_close(&w->input, RECORDER_ENDED);
    unlinkat(w->dir, "control", 0);
    clients_deinit(&w->clients);
    journal_file_deinit(&w->journal);
    command_deinit(&w->command);
    close(w->signals.fd);
    close(w->epoll);
    free(w);
}
