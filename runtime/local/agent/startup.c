/*
 * See startup.h. Both commands are processes like those of requests: they are listed, told to the
 * daemon, and run as the default user in the default directory. How long the sandbox may take to be
 * ready is for the zygote to say, who then ends all of it.
 */
#include "runtime/local/agent/startup.h"

#include "common/base/mem.h"
#include "runtime/local/agent/access.h"
#include "runtime/local/agent/handover.h"
#include "runtime/local/agent/path.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/* $0 is the shell, $1 the command: what that prints is nobody's, and it has a shell of its own. */
static const char until_ready[] =
    "until \"$0\" -l -c \"$1\" >/dev/null 2>&1; do sleep 0.1 || sleep 1; done";

/* As E2B and its SDKs have it, where the template does. */
static const char *shell(void)
{
    static const char bash[] = "/bin/bash";

    return access(bash, X_OK) == 0 ? bash : "/bin/sh";
}

/* What is kept of a process is freed by protobuf's rules: all of it is from malloc(). */
static Process__ProcessConfig *shell_config(const char *const *args, size_t n)
{
    Process__ProcessConfig *config = xmalloc(sizeof(*config));

    process__process_config__init(config);
    config->cmd = xstrdup(shell());
    config->n_args = n;
    config->args = xcalloc(n, sizeof(*config->args));
    for (size_t i = 0; i < n; i++)
        config->args[i] = xstrdup(args[i]);
    return config;
}

static pid_t run(struct agent *a, const struct user *user, const char *const *args, size_t n,
                 struct status *st)
{
    struct process_start start = {.config = shell_config(args, n), .user = *user};
    const struct process *p = process_start(&a->processes, NULL, &start, st);

    return p ? p->pid : 0;
}

static bool say_ready(struct status *st)
{
    if (send(AGENT_FD_READY, "", 1, MSG_NOSIGNAL) != 1)
        return status_set(st, CODE_UNAVAILABLE, 0, "the zygote is gone");
    close(AGENT_FD_READY);
    return true;
}

void startup_fail(const struct status *st)
{
    struct agent_failure failure = {.message = ""};

    snprintf(failure.message, sizeof(failure.message), "%s", st->message);
    send(AGENT_FD_READY, &failure, sizeof(failure), MSG_NOSIGNAL);
}

static bool make_workdir(const char *workdir, const struct user *user, struct status *st)
{
    return *workdir == '\0' || path_make_directory(workdir, user) ||
           status_set(st, CODE_FAILED_PRECONDITION, 0, "the directory %s cannot be made: %s",
                      workdir, strerror(errno));
}

bool startup_begin(struct agent *a, struct status *st)
{
    const struct config *c = &a->config;
    const char *const start[] = {"-l", "-c", c->start};
    const char *const ready[] = {"-c", until_ready, shell(), c->ready};
    struct user user;

    /* Without a template's words there may be no users at all: in the zygote's own try. */
    if (!c->start && !c->ready && *c->workdir == '\0' && strcmp(c->user, AGENT_USER) == 0)
        return say_ready(st);
    if (!access_user(c, c->user, &user, st))
        return status_prefix(st, "the template's user");
    if (!make_workdir(c->workdir, &user, st))
        return false;
    if (c->start && (a->start_pid = run(a, &user, start, 3, st)) == 0)
        return false;
    if (!c->ready)
        return say_ready(st);
    a->ready_pid = run(a, &user, ready, 4, st);
    return a->ready_pid != 0;
}

static _Noreturn void give_up(const char *what, int wait_status)
{
    struct status st = STATUS_INIT;

    if (WIFEXITED(wait_status))
        status_set(&st, CODE_FAILED_PRECONDITION, 0,
                   "the template's %s ended with exit code %d before the sandbox was ready", what,
                   WEXITSTATUS(wait_status));
    else
        status_set(&st, CODE_FAILED_PRECONDITION, 0,
                   "the template's %s was killed by signal %d before the sandbox was ready", what,
                   WTERMSIG(wait_status));
    startup_fail(&st);
    _exit(EXIT_FAILURE);
}

void startup_reaped(struct agent *a, pid_t pid, int wait_status)
{
    if (a->ready_pid == 0)
        return;
    if (pid == a->start_pid && wait_status != 0)
        give_up("start command", wait_status);
    if (pid != a->ready_pid)
        return;
    if (wait_status != 0)
        give_up("ready command", wait_status);
    a->ready_pid = 0;
    say_ready(NULL);
}
