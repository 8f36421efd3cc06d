/*
 * See sandbox_spawn.h.
 *
 * Order that matters: the sockets exist before the process does, so that a client can never come
 * too early; id maps are written while the child waits for the word to go on, and it joins its
 * control groups before it does anything else, so that nothing of it runs without them.
 */
#include "runtime/local/zygote/sandbox_spawn.h"

#include "common/base/cleanup.h"
#include "common/base/clock.h"
#include "common/base/mem.h"
#include "runtime/local/agent/handover.h"
#include "runtime/local/zygote/oom_score.h"
#include "runtime/local/zygote/sandbox_disk.h"
#include "runtime/local/zygote/sandbox_ids.h"
#include "runtime/local/zygote/sandbox_layers.h"
#include "runtime/local/zygote/sandbox_setup.h"
#include "runtime/local/zygote/sandbox_tree.h"

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
#include <time.h>
#include <unistd.h>

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

/* The sockets of its network come first, then the agent's byte; or a failure in their place. */
enum sandbox_word sandbox_hear(struct sandbox *s, struct status *st)
{
    union {
        struct sandbox_failure sandbox;
        struct agent_failure agent;
    } failure;
    struct iovec part = {&failure, sizeof failure};
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(sizeof s->net)];
    } control;
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = &control,
                             .msg_controllen = sizeof control};
    ssize_t n = recvmsg(s->sync_fd, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    struct cmsghdr *header = n > 0 ? CMSG_FIRSTHDR(&message) : NULL;

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return SANDBOX_WAITS;
    if (header && n == SANDBOX_NETWORK_WORD && header->cmsg_len == CMSG_LEN(sizeof s->net))
        memcpy(&s->net, CMSG_DATA(header), sizeof s->net);
    if (header && n == SANDBOX_STORE_WORD && header->cmsg_len == CMSG_LEN(sizeof s->store_fd))
        memcpy(&s->store_fd, CMSG_DATA(header), sizeof s->store_fd);
    if (n == SANDBOX_STORE_WORD)
        return SANDBOX_WAITS;
    if (n == SANDBOX_NETWORK_WORD)
        return SANDBOX_WAITS;
    if (n == 1 && s->net.tcp_fd >= 0) {
        s->phase = SANDBOX_RUNNING;
        return SANDBOX_SERVES;
    }
    failure.agent.message[sizeof failure.agent.message - 1] = '\0';
    if (n == (ssize_t)sizeof failure.agent)
        status_set(st, CODE_FAILED_PRECONDITION, 0, "%s", failure.agent.message);
    else if (n == (ssize_t)sizeof failure.sandbox)
        set_failure(st, &failure.sandbox);
    else
        status_set(st, CODE_INTERNAL, 0, "the sandbox's agent ended at its start");
    return SANDBOX_FAILED;
}

bool sandbox_await(struct sandbox *s, struct status *st)
{
    int64_t end_ns = clock_monotonic_ns() + s->start_ms * NS_PER_MS;
    struct pollfd poller = {.fd = s->sync_fd, .events = POLLIN};
    enum sandbox_word word = SANDBOX_WAITS;

    while (word == SANDBOX_WAITS) {
        int left_ms = (int)((end_ns - clock_monotonic_ns()) / NS_PER_MS);

        if (left_ms <= 0)
            return status_set(st, CODE_DEADLINE_EXCEEDED, 0,
                              "the sandbox was not ready within %d s", (int)(s->start_ms / 1000));
        if (poll(&poller, 1, left_ms) > 0)
            word = sandbox_hear(s, st);
    }
    return word == SANDBOX_SERVES;
}

static bool let_go(const struct sandbox_host *host, const struct sandbox_layers *layers,
                   const struct sandbox *sandbox, struct status *st)
{
    if (!sandbox_ids_map(host, sandbox->pid, sandbox->first_id)) {
        struct sandbox_failure failure = {.step = "write its id maps", .error = errno};

        return set_failure(st, &failure);
    }
    oom_score_set(sandbox->pid, OOM_SCORE_SANDBOX); /* only root may, and only root had less */
    if (!sandbox_layers_send(layers, sandbox->sync_fd, sandbox->namespace_fd))
        return status_set(st, CODE_INTERNAL, 0,
                          "the sandbox's first process cannot be given the system's files: %s",
                          strerror(errno));
    return true;
}

/* While its first process waits: the agent will not let itself be looked at. */
static int open_namespace(pid_t pid)
{
    char path[64];

    snprintf(path, sizeof path, "/proc/%d/ns/user", (int)pid);
    return open(path, O_RDONLY | O_CLOEXEC);
}

static bool make_disk(const struct sandbox_host *host, const struct sandbox *sandbox,
                      const struct zygote_limits *limits, int *ret_fd, struct status *st)
{
    AUTO_FREE char *path = xasprintf("../sandboxes/%s/disk", sandbox->id);

    if (!limits->on_disk)
        return true;
    if (host->tier == ZYGOTE_TIER_B)
        return sandbox_disk_try(host, st);
    *ret_fd = sandbox_disk_make(limits, sandbox->first_id, path, st);
    return *ret_fd >= 0;
}

static bool start(const struct sandbox_host *host, struct sandbox *sandbox,
                  const struct sandbox_order *order, const struct sandbox_layers *layers,
                  struct status *st)
{
    int sync[2];
    AUTO_CLOSE int http_fd = listen_at(sandbox->id, "agent.sock", SOCK_STREAM);
    AUTO_CLOSE int dial_fd = listen_at(sandbox->id, "dial.sock", SOCK_SEQPACKET);

    if (http_fd < 0 || dial_fd < 0 ||
        socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sync) < 0)
        return status_set(st, CODE_INTERNAL, 0, "the sandbox's sockets cannot be made: %s",
                          strerror(errno));
    sandbox->sync_fd = sync[0];
    AUTO_CLOSE int theirs = sync[1], disk_fd = -1;
    AUTO(sandbox_cgroup_ways_deinit) struct sandbox_cgroup_ways ways;

    if (!make_disk(host, sandbox, &order->limits, &disk_fd, st) ||
        !sandbox_cgroups_make(&host->cgroups, sandbox->id, &order->limits, &ways, st))
        return false;
    sandbox->pid = sandbox_ids_fork(namespaces, ways.group_fd, &sandbox->pidfd);
    if (sandbox->pid == 0) {
        struct sandbox_inside in = {.host = host,
                                    .layers = layers,
                                    .limits = order->limits,
                                    .disk_fd = disk_fd,
                                    .http_fd = http_fd,
                                    .dial_fd = dial_fd,
                                    .config_fd = order->config_fd,
                                    .files_fd = order->files_fd,
                                    .cgroups = ways,
                                    .sync_fd = theirs};

        close(sandbox->sync_fd); /* so that the end of the zygote is seen as such */
        sandbox_setup(&in);
    }
    if (sandbox->pid < 0) {
        struct sandbox_failure failure = {.step = "make namespaces", .error = errno};

        return set_failure(st, &failure);
    }
    close(take_fd(&theirs));
    sandbox->namespace_fd = open_namespace(sandbox->pid);
    if (sandbox->namespace_fd < 0)
        return status_set(st, CODE_INTERNAL, 0, "the sandbox's namespace cannot be opened: %s",
                          strerror(errno));
    return let_go(host, layers, sandbox, st);
}

static bool start_in_system(const struct sandbox_host *host, struct sandbox *sandbox,
                            const struct sandbox_order *order, struct status *st)
{
    AUTO(sandbox_layers_deinit) struct sandbox_layers own = {.n = 0};

    if (!order->rootfs)
        return start(host, sandbox, order, &host->system, st);
    return sandbox_layers_read(&own, order->rootfs, host->tier == ZYGOTE_TIER_A, st) &&
           start(host, sandbox, order, &own, st);
}

struct sandbox *sandbox_spawn(const struct sandbox_host *host, const char *id,
                              const struct sandbox_order *order, struct status *st)
{
    struct sandbox *sandbox = xcalloc(1, sizeof *sandbox);
    AUTO_FREE char *dir = xasprintf("../sandboxes/%s", id);

    list_init(&sandbox->node);
    sandbox->pid = -1;
    sandbox->pidfd = sandbox->sync_fd = sandbox->record_fd = -1;
    sandbox->store_fd = sandbox->namespace_fd = -1;
    sandbox->net = (struct sandbox_net_sockets){-1, -1};
    snprintf(sandbox->id, sizeof sandbox->id, "%s", id);
    sandbox->slots = host->slots;
    sandbox->start_ms = order->start_ms > 0 ? order->start_ms : SANDBOX_START_MS;
    if (host->slots)
        sandbox->first_id = sandbox_slots_take(host->slots);
    if (host->slots && sandbox->first_id == 0)
        status_set(st, CODE_RESOURCE_EXHAUSTED, 0, "all %d ranges of ids are in use",
                   host->slots->n);
    else if (mkdir(dir, 0700) < 0)
        status_set(st, CODE_INTERNAL, 0, "%s cannot be made: %s", dir, strerror(errno));
    else if (start_in_system(host, sandbox, order, st))
        return sandbox;
    sandbox_end(host, sandbox);
    return NULL;
}

void sandbox_kill(struct sandbox *s)
{
    s->phase = SANDBOX_ENDING;
    if (s->pid > 0 && !s->reaped)
        syscall(SYS_pidfd_send_signal, s->pidfd, SIGKILL, NULL, 0);
}

/* The first version's freezer holds even those that were killed. */
void sandbox_let_die(const struct sandbox_host *host, struct sandbox *s)
{
    if (s->frozen && sandbox_cgroups_can_freeze(&host->cgroups))
        sandbox_cgroups_freeze(&host->cgroups, s->id, false);
    s->frozen = false;
}

static bool reap(struct sandbox *s, int flags)
{
    pid_t pid = s->pid;

    while (pid > 0 && !s->reaped && (pid = waitpid(s->pid, &s->wait_status, flags)) < 0 &&
           errno == EINTR)
        pid = s->pid;
    s->reaped = s->reaped || pid != 0;
    return s->reaped;
}

bool sandbox_reap(struct sandbox *s)
{
    return reap(s, WNOHANG);
}

bool sandbox_clear(const struct sandbox_host *host, const struct sandbox *s)
{
    AUTO_FREE char *dir = xasprintf("../sandboxes/%s", s->id);
    bool groups_gone = sandbox_cgroups_remove(&host->cgroups, s->id);

    return sandbox_tree_remove(AT_FDCWD, dir) && groups_gone;
}

static void close_if_open(int fd)
{
    if (fd >= 0)
        close(fd);
}

void sandbox_free(struct sandbox *s)
{
    list_unlink(&s->node);
    if (s->slots)
        sandbox_slots_give(s->slots, s->first_id);
    close_if_open(s->pidfd);
    close_if_open(s->sync_fd);
    close_if_open(s->record_fd);
    close_if_open(s->net.tcp_fd);
    close_if_open(s->net.dns_fd);
    close_if_open(s->store_fd);
    close_if_open(s->namespace_fd);
    free(s->stopped);
    free(s);
}

void sandbox_end(const struct sandbox_host *host, struct sandbox *s)
{
    sandbox_kill(s);
    sandbox_let_die(host, s);
    reap(s, 0);
    for (int tries = 0; !sandbox_clear(host, s) && tries < SANDBOX_CLEARINGS; tries++)
        nanosleep(&(struct timespec){.tv_nsec = SANDBOX_CLEAR_MS * NS_PER_MS}, NULL);
    sandbox_free(s);
}
