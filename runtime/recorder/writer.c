/*
 * See writer.h. One thread, one epoll loop: events record facts and act on them at once; what
 * cannot be done now (no room, a full disk) is a flag and a time to try again. The command's life
 * ends in three steps: its process is reaped (dead), what it had written is stored and `exited`
 * appended (exited), everybody else has closed its output too (closed).
 */
#include "runtime/recorder/writer.h"

#include "common/base/cleanup.h"
#include "common/base/clock.h"
#include "common/base/mem.h"
#include "runtime/recorder/control.h"
#include "runtime/recorder/fault.h"
#include "runtime/recorder/proc.h"
#include "runtime/recorder/retention.h"
#include "runtime/recorder/terminal.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    RETRY_MS = 100,
    SOURCES_PER_ROUND = 32,
    DESCRIPTORS_MAX = 4096,      /* that are closed one by one */
    TERMINAL_HOLDS = 128 * 1024, /* more than the kernel keeps for a terminal's reader */
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

static void retry_soon(struct writer *w)
{
    w->retry_ns = clock_monotonic_ns() + RETRY_MS * NS_PER_MS;
}

/* --- output --- */

static void watch_streams(struct writer *w)
{
    bool wanted = !w->blocked && w->pending_of == NULL;

    for (int i = 0; i < STREAMS; i++)
        source_watch(&w->streams[i].source, w->epoll, wanted && w->streams[i].open ? EPOLLIN : 0);
}

static bool make_room(struct writer *w)
{
    struct journal_readers readers = clients_readers(&w->clients);

    return journal_file_make_room(&w->journal, &readers);
}

void writer_unblock(struct writer *w)
{
    if (!w->blocked || !make_room(w))
        return;
    w->blocked = false;
    watch_streams(w);
}

/*
 * Puts the pending output into the journal. On a full disk it is given up and accounted for, but
 * under BLOCK, where nothing may be: there it stays pending, and the command comes to wait.
 */
static bool store_pending(struct writer *w)
{
    struct stream *s = w->pending_of;

    if (s == NULL)
        return true;
    if (!journal_file_output(&w->journal, s->kind, w->batch, w->pending_len)) {
        retry_soon(w);
        if (w->journal.overflow == OVERFLOW_BLOCK)
            return false;
        journal_file_lose(&w->journal, s->kind, w->pending_len);
    }
    w->pending_of = NULL;
    return true;
}

static void close_stream(struct writer *w, struct stream *s)
{
    source_watch(&s->source, w->epoll, 0);
    close(s->source.fd);
    s->source.fd = -1;
    s->open = false;
}

/*
 * A stream that ends within a line or a character gets an empty event. That is where readers of
 * whole lines get the rest of the line, and readers of text U+FFFD: nothing that was written goes
 * unseen.
 */
static bool end_line(struct writer *w, struct stream *s)
{
    if (!s->unfinished)
        return true;
    s->unfinished = false;
    w->pending_of = s;
    w->pending_len = 0;
    return store_pending(w);
}

/* At the exit, what background processes left unfinished is shown too, if it is whole characters.
 */
static bool end_lines(struct writer *w)
{
    for (int i = 0; i < STREAMS; i++) {
        struct stream *s = &w->streams[i];

        if (s->open && utf8_tail_cut(&s->tail) == 0 && !end_line(w, s))
            return false;
    }
    return true;
}

static void put_off_idle(struct writer *w)
{
    if (w->idle_ns != 0)
        w->idle_ns = clock_monotonic_ns() + (int64_t)w->spec->idle_timeout_ms * NS_PER_MS;
}

/* Reads once, at most max bytes. False: there is nothing (more) for now, or ever. */
static bool read_stream(struct stream *s, size_t max)
{
    struct writer *w = s->writer;
    ssize_t n = read(s->source.fd, w->batch, max < BATCH_BYTES ? max : BATCH_BYTES);

    if (n < 0 && errno == EIO)
        n = 0; /* a terminal that nobody has open any more */
    if (n < 0)
        return errno == EINTR;
    if (n == 0) {
        close_stream(w, s);
        end_line(w, s);
        return false;
    }
    put_off_idle(w);
    s->unfinished = w->batch[n - 1] != '\n';
    utf8_tail_push(&s->tail, w->batch, (size_t)n);
    w->pending_of = s;
    w->pending_len = (size_t)n;
    return store_pending(w);
}

static void on_stream_ready(struct source *source, uint32_t events)
{
    struct stream *s = container_of(source, struct stream, source);
    struct writer *w = s->writer;

    if (!s->open || w->pending_of != NULL || w->blocked)
        return;
    w->blocked = !make_room(w);
    if (!w->blocked)
        read_stream(s, BATCH_BYTES);
    watch_streams(w);
}

/* At most so much did it write before it ended and is not read yet. */
static int left_in(const struct stream *s)
{
    int left = 0;

    /* A terminal passes data on behind our back: only reading it to its end finds all of it. */
    if (s->kind == JOURNAL_TERMINAL)
        return TERMINAL_HOLDS;
    return s->open && ioctl(s->source.fd, FIONREAD, &left) == 0 ? left : 0;
}

/*
 * What the command had written before it ended is in its pipes now, however full the journal is; it
 * is bounded by what a pipe holds. Background processes may be adding more: that is for later.
 */
static bool drain(struct writer *w)
{
    for (int i = 0; i < STREAMS; i++) {
        struct stream *s = &w->streams[i];
        int left;

        if (!store_pending(w))
            return false;
        left = left_in(s);
        while (s->open && left > 0) {
            uint64_t before = w->journal.offsets[s->kind - JOURNAL_STDOUT];

            make_room(w);
            if (!read_stream(s, (size_t)left))
                break;
            left -= (int)(w->journal.offsets[s->kind - JOURNAL_STDOUT] - before);
        }
        if (s->open && left == 0 && w->pending_of == NULL)
            read_stream(s, BATCH_BYTES); /* its end, most of the time */
    }
    return store_pending(w) && end_lines(w);
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
static bool write_exited(struct writer *w, const struct journal_exit *exit)
{
    if (!journal_file_exited(&w->journal, exit, &w->end)) {
        free_reserve(w);
        if (!journal_file_exited(&w->journal, exit, &w->end)) {
            retry_soon(w);
            return false;
        }
    }
    w->exited = true;
    w->end.input_offset = w->input.offset;
    w->end.input_eof = w->input.eof;
    end_write(w->dir, &w->end);
    clients_wake_exited(&w->clients);
    return true;
}

static bool write_closed(struct writer *w)
{
    if (!journal_file_closed(&w->journal, &w->end)) {
        free_reserve(w);
        if (!journal_file_closed(&w->journal, &w->end)) {
            retry_soon(w);
            return false;
        }
    }
    w->closed = true;
    free_reserve(w);
    end_write(w->dir, &w->end);
    return true;
}

/* Streams that are not read for want of room may have ended all the same. */
static void close_ended_streams(struct writer *w)
{
    for (int i = 0; i < STREAMS; i++) {
        struct pollfd p = {.fd = w->streams[i].source.fd, .events = POLLIN};

        if (w->streams[i].open && poll(&p, 1, 0) > 0 && (p.revents & (POLLIN | POLLHUP)) == POLLHUP)
            close_stream(w, &w->streams[i]);
    }
}

/* Does of the end what is possible now. */
static void step_to_end(struct writer *w)
{
    struct journal_exit exit;

    if (w->dead && !w->exited && drain(w)) {
        explain_exit(w, &exit);
        write_exited(w, &exit);
        watch_streams(w);
    }
    if (w->exited && w->blocked)
        close_ended_streams(w);
    if (w->exited && !w->closed && !w->streams[0].open && !w->streams[1].open &&
        w->pending_of == NULL)
        write_closed(w);
}

/* --- signals and time --- */

static void on_dead(struct writer *w)
{
    w->dead = true;
    w->timeout_ns = w->idle_ns = 0;
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

static size_t send_to(const struct writer *w, int signal, int target)
{
    pid_t pid = w->command.pid;

    switch (target) {
    case CONTROL_PROCESS:
        return !w->dead && kill(pid, signal) == 0;
    case CONTROL_GROUP:
        if (w->spec->meta.terminal && w->streams[0].open && !w->dead) {
            pid_t group = terminal_foreground(w->streams[0].source.fd);

            if (group != 0)
                return kill(-group, signal) == 0;
        }
        /* While it is not reaped its number is taken, so the group is its own. */
        return w->dead ? proc_signal_group_below(getpid(), pid, signal) : kill(-pid, signal) == 0;
    default:
        return proc_signal_descendants(getpid(), signal);
    }
}

int writer_signal(struct writer *w, int signal, int target)
{
    if (signal < 1 || signal > 64 || target < CONTROL_PROCESS || target > CONTROL_TREE)
        return RECORDER_USAGE;
    if (w->command.pid == 0)
        return RECORDER_ENDED;
    w->sent_signal = signal;
    if (send_to(w, signal, target) == 0)
        return RECORDER_ENDED;
    if (signal == SIGKILL && target == CONTROL_TREE)
        proc_kill_descendants(getpid());
    return RECORDER_OK;
}

int writer_ack(struct writer *w, uint64_t seq)
{
    if (seq > journal_file_last_seq(&w->journal))
        return RECORDER_OUT_OF_RANGE;
    if (seq > w->acked_seq) {
        w->acked_seq = seq;
        acked_write(w->dir, seq);
        writer_unblock(w);
    }
    return RECORDER_OK;
}

int writer_resize(struct writer *w, struct terminal_size size)
{
    if (!w->spec->meta.terminal)
        return RECORDER_NO_TERMINAL;
    if (size.cols == 0 || size.rows == 0)
        return RECORDER_USAGE;
    if (w->dead || !w->streams[0].open || !terminal_resize(w->streams[0].source.fd, size))
        return RECORDER_ENDED;
    size_write(w->dir, size);
    return RECORDER_OK;
}

static void on_timeout(struct writer *w, uint32_t reason)
{
    w->timeout_ns = w->idle_ns = 0;
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

static void run_timers(struct writer *w)
{
    int64_t now = clock_monotonic_ns();

    if (w->blocked || w->pending_of != NULL)
        put_off_idle(w); /* it could not write if it wanted to */
    if (w->timeout_ns != 0 && now >= w->timeout_ns)
        on_timeout(w, REASON_TIMED_OUT);
    if (w->idle_ns != 0 && now >= w->idle_ns)
        on_timeout(w, REASON_IDLE_TIMED_OUT);
    if (w->grace_ns != 0 &&
        (now >= w->grace_ns || (w->closed && proc_signal_descendants(getpid(), 0) == 0)))
        on_grace(w);
    if (w->retry_ns != 0 && now >= w->retry_ns) {
        w->retry_ns = 0;
        if (store_pending(w) && !journal_file_flush(&w->journal))
            retry_soon(w);
        watch_streams(w);
    }
    writer_unblock(w);
    input_queue_step(&w->input);
}

static int wait_ms(const struct writer *w)
{
    const int64_t deadlines[] = {
        w->timeout_ns,
        w->idle_ns,
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

static void add_stream(struct writer *w, int i, int *fd, enum journal_kind kind)
{
    w->streams[i] = (struct stream){
        .source = {.fd = take_fd(fd), .ready = on_stream_ready},
        .writer = w,
        .kind = kind,
        .open = true,
    };
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
        add_stream(w, 0, &w->command.out, JOURNAL_TERMINAL);
    } else {
        add_stream(w, 0, &w->command.out, JOURNAL_STDOUT);
        add_stream(w, 1, &w->command.err, JOURNAL_STDERR);
    }
    if (w->spec->idle_timeout_ms != 0)
        w->idle_ns = clock_monotonic_ns() + (int64_t)w->spec->idle_timeout_ms * NS_PER_MS;
    if (w->spec->timeout_ms != 0)
        w->timeout_ns = clock_monotonic_ns() + (int64_t)w->spec->timeout_ms * NS_PER_MS;
    watch_streams(w);
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

/*
 * A closed command is one more to keep: an older one may have to go. Not this one, be it larger
 * than all that is to be kept: nobody could have read it to its end.
 */
static void prune(int dir, const char *id)
{
    AUTO(state_deinit) struct state s = STATE_INIT;
    struct retention_result ignored;
    struct retention r;

    s.commands = openat(dir, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    s.dir = openat(dir, "../..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (s.commands < 0 || s.dir < 0)
        return;
    retention_read(&s, &r);
    retention_apply(&s, &r, id, &ignored);
}

/* --- its process --- */

/* From first to last. */
static void close_between(int first, int last)
{
    if (first > last || syscall(SYS_close_range, (unsigned)first, (unsigned)last, 0) == 0)
        return;
    for (int fd = first; fd <= last && fd < DESCRIPTORS_MAX; fd++) /* an old kernel */
        close(fd);
}

static int by_number(const void *a, const void *b)
{
    return *(const int *)a - *(const int *)b;
}

/* Only what the claim holds stays open. */
static void close_all_but(const struct claim *c)
{
    int null = open("/dev/null", O_RDWR), kept[] = {c->dir, c->lock, c->listener};
    int next = STDERR_FILENO + 1;

    for (int fd = 0; fd <= STDERR_FILENO; fd++)
        dup2(null, fd);
    qsort(kept, 3, sizeof(kept[0]), by_number);
    for (int i = 0; i < 3; i++) {
        close_between(next, kept[i] - 1);
        next = kept[i] + 1;
    }
    close_between(next, INT_MAX);
}

/*
 * Watches over the writer: when that is killed, all that descends from the command comes here, in
 * whatever session it is, and ends. Holds nothing open, so that the lock tells of the writer alone.
 */
static void __attribute__((noreturn)) guard(pid_t writer)
{
    sigset_t all;
    int status;
    pid_t pid;

    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, NULL);
    close_between(0, INT_MAX);
    if (chdir("/") != 0)
        _exit(1);
    do
        pid = waitpid(-1, &status, 0);
    while (pid != writer && (pid > 0 || errno == EINTR));
    if (pid == writer && WIFSIGNALED(status))
        proc_kill_descendants(getpid());
    _exit(0);
}

/* The writer and its guard, who is nobody's child but init's, nor a zombie of the caller's. */
static void __attribute__((noreturn)) start_guarded(const struct claim *c, struct command_spec *s)
{
    pid_t pid;

    setsid();
    pid = fork();
    if (pid != 0)
        _exit(pid < 0);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    pid = fork();
    if (pid < 0)
        _exit(1);
    if (pid != 0)
        guard(pid);
    close_all_but(c);
    if (chdir("/") != 0)
        _exit(1);
    writer_run(c, s);
    close(c->lock); /* now anyone may remove it */
    prune(c->dir, s->meta.command_id);
    _exit(0);
}

bool writer_start(const struct claim *c, struct command_spec *s, struct status *st)
{
    pid_t pid = fork();
    int status;

    if (pid < 0)
        return fault_errno(st, "no process can be started");
    if (pid == 0)
        start_guarded(c, s);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    return true;
}
