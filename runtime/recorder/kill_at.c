/*
 * kill_at N PROGRAM [ARGS…]: runs the recorder and kills one of its processes at its N-th system
 * call, all processes counted together: the verb, the writer and those between them, but not
 * the command itself. Prints how many system calls there were up to the kill, or in all, on stderr.
 * For tests: so a writer dies between any two of its steps. Its exit code is 0 when it killed, 3
 * when there were fewer than N, 1 when it could not do its work.
 */
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    TRACEES_MAX = 64,
    WRITER = 3, /* generations: the verb is 0 */
    UNKNOWN = -1,
    KILLED = 0,
    FEWER = 3,
};

static const long options =
    PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE;

struct tracee {
    pid_t pid;
    int generation;
};

static struct tracee tracees[TRACEES_MAX];
static size_t n_tracees;

static struct tracee *find(pid_t pid)
{
    for (size_t i = 0; i < n_tracees; i++)
        if (tracees[i].pid == pid)
            return &tracees[i];
    return NULL;
}

static struct tracee *add(pid_t pid, int generation)
{
    struct tracee *t = &tracees[n_tracees++];

    if (n_tracees > TRACEES_MAX)
        abort();
    *t = (struct tracee){.pid = pid, .generation = generation};
    return t;
}

static void forget(pid_t pid)
{
    struct tracee *t = find(pid);

    if (t != NULL)
        *t = tracees[--n_tracees];
}

/*
 * Seized, not attached to: a child that nobody has seen when we leave goes on then, where one that
 * is attached to would stay stopped for good.
 */
static int start(char **argv)
{
    pid_t pid = fork();
    int status;

    if (pid == 0) {
        raise(SIGSTOP);
        execv(argv[0], argv);
        _exit(127);
    }
    if (pid < 0 || waitpid(pid, &status, WUNTRACED) != pid ||
        ptrace(PTRACE_SEIZE, pid, NULL, options) != 0)
        return -1;
    add(pid, 0);
    kill(pid, SIGCONT);
    return pid;
}

/* Goes on, traced as long as it is the recorder. */
static void resume(const struct tracee *t, int sig)
{
    pid_t pid = t->pid;

    if (t->generation <= WRITER) {
        ptrace(PTRACE_SYSCALL, pid, NULL, sig);
        return;
    }
    ptrace(PTRACE_DETACH, pid, NULL, sig);
    forget(pid);
}

/* A child may be seen before the fork that made it: it waits until its generation is known. */
static void on_fork(const struct tracee *parent)
{
    int generation = parent->generation + 1;
    unsigned long child = 0;
    struct tracee *t;

    ptrace(PTRACE_GETEVENTMSG, parent->pid, NULL, &child);
    t = find((pid_t)child);
    if (t == NULL) {
        add((pid_t)child, generation);
        return;
    }
    t->generation = generation;
    resume(t, 0);
}

static bool is_fork(int status)
{
    int event = status >> 16;

    return event == PTRACE_EVENT_FORK || event == PTRACE_EVENT_VFORK || event == PTRACE_EVENT_CLONE;
}

/* A stop of a process that goes on: a system call counts at both of its ends. */
static void on_stop(pid_t pid, int status, long *count)
{
    struct tracee *t = find(pid);
    int sig = WSTOPSIG(status), pass = 0;

    if (t == NULL) {
        add(pid, UNKNOWN);
        return;
    }
    if (sig == (SIGTRAP | 0x80))
        ++*count;
    else if (is_fork(status))
        on_fork(t);
    else if (status >> 16 == 0 && sig != SIGCONT)
        pass = sig;
    resume(find(pid), pass); /* what it forked may have moved it in the list */
}

/* Everything else goes on by itself. */
static void detach_all_but(pid_t killed)
{
    int status;

    for (size_t i = 0; i < n_tracees; i++) {
        pid_t pid = tracees[i].pid;

        if (pid == killed)
            continue;
        if (ptrace(PTRACE_DETACH, pid, NULL, 0) == 0)
            continue;
        /* It runs: it has to stop to be let go. */
        ptrace(PTRACE_INTERRUPT, pid, NULL, NULL);
        if (waitpid(pid, &status, __WALL) == pid && WIFSTOPPED(status))
            ptrace(PTRACE_DETACH, pid, NULL, 0);
    }
}

int main(int argc, char **argv)
{
    long wanted = argc > 2 ? atol(argv[1]) : 0, count = 0;
    int status;
    pid_t pid;

    if (wanted < 1 || start(argv + 2) < 0) {
        fprintf(stderr, "usage: kill_at N PROGRAM [ARGS…]\n");
        return 1;
    }
    while (n_tracees > 0 && (pid = waitpid(-1, &status, __WALL)) > 0) {
        const struct tracee *t = find(pid);

        if (WIFEXITED(status) || WIFSIGNALED(status)) {
            forget(pid);
            continue;
        }
        if (t != NULL && t->generation <= WRITER && WSTOPSIG(status) == (SIGTRAP | 0x80) &&
            count + 1 >= wanted) {
            kill(pid, SIGKILL);
            detach_all_but(pid);
            fprintf(stderr, "%ld %d\n", count + 1, t->generation);
            return KILLED;
        }
        on_stop(pid, status, &count);
    }
    fprintf(stderr, "%ld\n", count);
    return FEWER;
}
