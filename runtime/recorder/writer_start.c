/*
 * The writer's process, and the one that watches over it. Both are nobody's children but init's:
 * what starts them, and where it runs, may end at any time.
 */
#include "common/base/cleanup.h"
#include "runtime/recorder/fault.h"
#include "runtime/recorder/proc.h"
#include "runtime/recorder/retention.h"
#include "runtime/recorder/writer.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { DESCRIPTORS_MAX = 4096 }; /* that are closed one by one */

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
