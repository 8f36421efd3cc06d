/*
 * See sandbox_spawn.h.
 *
 * Order that matters: the sockets exist before the process does, so that a client can never come
 * too early; id maps and control groups are set while the child waits for the word to go on, so
 * that it never runs without them.
 */
#include "runtime/local/sandbox_spawn.h"

#include "common/base/cleanup.h"
#include "common/base/clock.h"
#include "common/base/mem.h"
#include "runtime/local/sandbox_ids.h"
#include "runtime/local/sandbox_setup.h"
#include "runtime/local/sandbox_tree.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

enum { READY_MS = 20000 };

static const uint64_t namespaces = CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC |
                                   CLONE_NEWUTS | CLONE_NEWCGROUP | CLONE_NEWNET;

/* ../sandboxes/<id>/<name>, for the daemon alone. */
static int listen_at(const char *id, const char *name, int type)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    AUTO_CLOSE int fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    snprintf(address.sun_path, sizeof address.sun_path, "../sandboxes/%s/%s", id, name);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) < 0 ||
        chmod(address.sun_path, 0600) < 0 || listen(fd, 4096) < 0)
        return -1;
    return take_fd(&fd);
}

/* Only root may make a process less likely to be chosen when memory runs out. */
static void prefer_alive(pid_t pid)
{
    char path[64];
    AUTO_CLOSE int fd = -1;

    snprintf(path, sizeof path, "/proc/%d/oom_score_adj", (int)pid);
    fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd >= 0 && write(fd, "-900", 4) != 4)
        return;
}

/* What can be done about it, for the failures that a machine's setup causes. */
static const char *advice(const struct sandbox_failure *failure)
{
    bool refused = failure->error == EPERM || failure->error == EACCES;

    if (strstr(failure->step, "mount /proc") && refused)
        return "; a container that hides parts of /proc does not let a new one be mounted: run it "
               "with --privileged or --security-opt systempaths=unconfined";
    if (failure->error == ENOSPC && strstr(failure->step, "namespaces"))
        return "; no more namespaces are allowed: look at user.max_user_namespaces";
    if (strstr(failure->step, "overlay"))
        return "; overlays inside user namespaces need Linux 5.11 or newer";
    if (refused)
        return "; user namespaces are restricted here: look at kernel.unprivileged_userns_clone "
               "and "
               "kernel.apparmor_restrict_unprivileged_userns, in a container at --privileged";
    return "";
}

static bool set_failure(struct status *st, const struct sandbox_failure *failure)
{
    return status_set(st, CODE_FAILED_PRECONDITION, 0, "the sandbox cannot be made: %s: %s%s",
                      failure->step, strerror(failure->error), advice(failure));
}

/* One packet, of which *ret_n is the size, and the sockets that may come with it. */
static bool receive_word(int sync_fd, int64_t end_ns, struct sandbox_failure *ret, ssize_t *ret_n,
                         struct sandbox_net_sockets *ret_net, struct status *st)
{
    struct pollfd poller = {.fd = sync_fd, .events = POLLIN};
    struct iovec part = {ret, sizeof *ret};
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(sizeof *ret_net)];
    } control;
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = &control,
                             .msg_controllen = sizeof control};
    struct cmsghdr *header;
    int ready;

    do
        ready = poll(&poller, 1, (int)((end_ns - clock_monotonic_ns()) / NS_PER_MS));
    while (ready < 0 && errno == EINTR && clock_monotonic_ns() < end_ns);
    if (ready <= 0)
        return status_set(st, CODE_DEADLINE_EXCEEDED, 0,
                          "the sandbox's agent did not start within %d s", READY_MS / 1000);
    *ret_n = recvmsg(sync_fd, &message, MSG_CMSG_CLOEXEC);
    header = *ret_n > 0 ? CMSG_FIRSTHDR(&message) : NULL;
    if (header && header->cmsg_type == SCM_RIGHTS && header->cmsg_len == CMSG_LEN(sizeof *ret_net))
        memcpy(ret_net, CMSG_DATA(header), sizeof *ret_net);
    return true;
}

/* Its network's sockets, then the agent's byte; or a failure in the place of either. */
static bool receive_ready(int sync_fd, struct sandbox_net_sockets *ret_net, struct status *st)
{
    int64_t end_ns = clock_monotonic_ns() + READY_MS * NS_PER_MS;
    struct sandbox_failure failure = {.error = 0};
    ssize_t n;

    do
        if (!receive_word(sync_fd, end_ns, &failure, &n, ret_net, st))
            return false;
    while (n == SANDBOX_NETWORK_WORD);
    if (n == (ssize_t)sizeof failure)
        return set_failure(st, &failure);
    if (n != 1 || ret_net->tcp_fd < 0)
        return status_set(st, CODE_INTERNAL, 0, "the sandbox's agent ended at its start");
    return true;
}

static bool let_go(const struct sandbox_host *host, struct sandbox *sandbox,
                   const struct zygote_limits *limits, int sync_fd, struct status *st)
{
    if (!sandbox_ids_map(host, sandbox->pid)) {
        struct sandbox_failure failure = {.step = "write its id maps", .error = errno};

        return set_failure(st, &failure);
    }
    if (!sandbox_cgroups_enter(&host->cgroups, sandbox->id, limits, sandbox->pid, st))
        return false;
    if (host->tier == ZYGOTE_TIER_A)
        prefer_alive(sandbox->pid);
    if (send(sync_fd, "", 1, MSG_NOSIGNAL) != 1)
        return status_set(st, CODE_INTERNAL, 0, "the sandbox's first process ended at once");
    return receive_ready(sync_fd, &sandbox->net, st);
}

static bool start(const struct sandbox_host *host, struct sandbox *sandbox,
                  const struct zygote_limits *limits, int config_fd, struct status *st)
{
    int sync[2];
    AUTO_CLOSE int http_fd = listen_at(sandbox->id, "agent.sock", SOCK_STREAM);
    AUTO_CLOSE int dial_fd = listen_at(sandbox->id, "dial.sock", SOCK_SEQPACKET);

    if (http_fd < 0 || dial_fd < 0 ||
        socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sync) < 0)
        return status_set(st, CODE_INTERNAL, 0, "the sandbox's sockets cannot be made: %s",
                          strerror(errno));
    AUTO_CLOSE int ours = sync[0];
    AUTO_CLOSE int theirs = sync[1];

    sandbox->pid = sandbox_ids_fork(namespaces, &sandbox->pidfd);
    if (sandbox->pid == 0) {
        struct sandbox_inside in = {host, *limits, http_fd, dial_fd, config_fd, theirs};

        close(ours); /* so that the end of the zygote is seen as such */
        sandbox_setup(&in);
    }
    if (sandbox->pid < 0) {
        struct sandbox_failure failure = {.step = "make namespaces", .error = errno};

        return set_failure(st, &failure);
    }
    close(take_fd(&theirs));
    return let_go(host, sandbox, limits, ours, st);
}

struct sandbox *sandbox_spawn(const struct sandbox_host *host, const char *id,
                              const struct zygote_limits *limits, int config_fd, struct status *st)
{
    struct sandbox *sandbox = xcalloc(1, sizeof *sandbox);
    AUTO_FREE char *dir = xasprintf("../sandboxes/%s", id);

    list_init(&sandbox->node);
    sandbox->pid = -1;
    sandbox->pidfd = -1;
    sandbox->net = (struct sandbox_net_sockets){-1, -1};
    snprintf(sandbox->id, sizeof sandbox->id, "%s", id);
    if (mkdir(dir, 0700) < 0)
        status_set(st, CODE_INTERNAL, 0, "%s cannot be made: %s", dir, strerror(errno));
    else if (start(host, sandbox, limits, config_fd, st))
        return sandbox;
    sandbox_end(sandbox);
    sandbox_free(host, sandbox);
    return NULL;
}

void sandbox_end(struct sandbox *sandbox)
{
    if (sandbox->pid <= 0 || sandbox->ended)
        return;
    syscall(SYS_pidfd_send_signal, sandbox->pidfd, SIGKILL, NULL, 0);
    while (waitpid(sandbox->pid, &sandbox->wait_status, 0) < 0 && errno == EINTR)
        ;
    sandbox->ended = true;
}

void sandbox_free(const struct sandbox_host *host, struct sandbox *sandbox)
{
    AUTO_FREE char *dir = xasprintf("../sandboxes/%s", sandbox->id);

    if (sandbox->pid > 0)
        sandbox_cgroups_remove(&host->cgroups, sandbox->id);
    sandbox_tree_remove(AT_FDCWD, dir);
    list_unlink(&sandbox->node);
    if (sandbox->pidfd >= 0)
        close(sandbox->pidfd);
    if (sandbox->net.tcp_fd >= 0) {
        close(sandbox->net.tcp_fd);
        close(sandbox->net.dns_fd);
    }
    free(sandbox);
}
