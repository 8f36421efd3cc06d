/*
 * The agent: the first process of every sandbox. It serves envd's HTTP and Connect interface on a
 * socket that it was handed, runs commands, and reaps everything that ends. One thread, one loop.
 *
 * It holds the sandbox's access token, so nothing inside may look into it: it is not dumpable.
 */
#include "common/base/list.h"
#include "common/base/log.h"
#include "common/base/signals.h"
#include "common/http/server.h"
#include "runtime/local/agent/agent.h"
#include "runtime/local/agent/handover.h"
#include "runtime/local/agent/startup.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

static void on_child(struct loop_fd *io, uint32_t events)
{
    struct agent *a = container_of(io, struct agent, signals);
    struct signalfd_siginfo drained[16];

    while (read(io->fd, drained, sizeof(drained)) > 0)
        ;
    agent_reap(a);
}

/* Only SIGCHLD: as process 1 of its namespace the agent is deaf to all signals it does not handle.
 */
static bool watch_children(struct agent *a, struct status *st)
{
    sigset_t set;

    signals_reset();
    signal(SIGPIPE, SIG_IGN);
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigprocmask(SIG_BLOCK, &set, NULL);
    a->signals.fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    a->signals.ready = on_child;
    if (a->signals.fd < 0)
        return status_set(st, CODE_INTERNAL, 0, "signalfd: %s", strerror(errno));
    return loop_add(&a->loop, &a->signals, EPOLLIN, st);
}

/* Descriptors are needed here; commands get the usual number. */
static void raise_limits(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

static bool start(struct agent *a, struct status *st)
{
    for (int fd = AGENT_FD_HTTP; fd < AGENT_FD_END; fd++)
        if (fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
            return status_set(st, CODE_FAILED_PRECONDITION, 0,
                              "descriptor %d is missing: the agent is started by e2b-local", fd);
    if (!config_read(&a->config, AGENT_FD_CONFIG, st))
        return false;
    close(AGENT_FD_CONFIG);
    return loop_init(&a->loop, st) && watch_children(a, st) && agent_init(a, st) &&
           startup_begin(a, st);
}

int main(void)
{
    static struct agent a;
    struct status st = STATUS_INIT;

    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    prctl(PR_SET_NAME, "agent"); /* or a descriptor's number, as it was started by one */
    raise_limits();
    if (!start(&a, &st)) {
        log_error("the agent cannot start", LOG_S("error", st.message));
        startup_fail(&st);
        return 1;
    }
    loop_run(&a.loop);
    return 0;
}
