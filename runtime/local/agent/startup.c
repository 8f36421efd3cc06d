/*
 * See startup.h. Both commands are processes like those of requests: they are listed, told to the
 * daemon, and run as the default user in the default directory. How long the sandbox may take to be
 * ready is for the zygote to say, who then ends all of it.
 */
#include "runtime/local/agent/startup.h"

#include "common/base/mem.h"
#include "runtime/local/agent/access.h"
#include "runtime/local/agent/handover.h"

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define SHELL "/bin/sh"

/* $0 is the command: what it prints is nobody's, and what it does to its shell stays there. */
static const char until_ready[] =
    "until " SHELL " -c \"$0\" >/dev/null 2>&1; do sleep 0.1 || sleep 1; done";

/* What is kept of a process is freed by protobuf's rules: all of it is from malloc(). */
static Process__ProcessConfig *shell_config(const char *script, const char *arg)
{
    Process__ProcessConfig *config = xmalloc(sizeof(*config));

    process__process_config__init(config);
    config->cmd = xstrdup(SHELL);
    config->n_args = arg ? 3 : 2;
    config->args = xcalloc(3, sizeof(*config->args));
    config->args[0] = xstrdup("-c");
    config->args[1] = xstrdup(script);
    if (arg)
        config->args[2] = xstrdup(arg);
    return config;
}

static struct process *run(struct agent *a, const char *script, const char *arg, struct status *st)
{
    struct process_start start = {.config = shell_config(script, arg)};

    if (access_user(&a->config, a->config.user, &start.user, st))
        return process_start(&a->processes, NULL, &start, st);
    process__process_config__free_unpacked(start.config, NULL);
    return NULL;
}

static bool say_ready(struct status *st)
{
    if (send(AGENT_FD_READY, "", 1, MSG_NOSIGNAL) != 1)
        return status_set(st, CODE_UNAVAILABLE, 0, "the zygote is gone");
    close(AGENT_FD_READY);
    return true;
}

bool startup_begin(struct agent *a, struct status *st)
{
    const struct process *p;

    if (a->config.start && !run(a, a->config.start, NULL, st))
        return false;
    if (!a->config.ready)
        return say_ready(st);
    p = run(a, until_ready, a->config.ready, st);
    a->ready_pid = p ? p->pid : 0;
    return p != NULL;
}

void startup_reaped(struct agent *a, pid_t pid, int wait_status)
{
    if (pid != a->ready_pid)
        return;
    a->ready_pid = 0;
    if (wait_status == 0)
        say_ready(NULL);
}
