/*
 * See sandbox_setup.h. Runs in the new process, in its new namespaces, with all capabilities over
 * them and none over the host; gives up one thing after the other and ends as the agent. The
 * zygote's memory is still there (it holds no secrets), so plain C may be used.
 *
 * Paths are relative to the working directory until the root is changed.
 */
#include "runtime/local/zygote/sandbox_setup.h"

#include "common/base/signals.h"
#include "runtime/local/agent/handover.h"
#include "runtime/local/zygote/sandbox_filter.h"
#include "runtime/local/zygote/sandbox_ids.h"
#include "runtime/local/zygote/sandbox_layers.h"
#include "runtime/local/zygote/sandbox_root.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/close_range.h>
#include <linux/keyctl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* A sanitizer's shadow memory would count against the limit of the agent, which has it too. */
#ifdef __SANITIZE_ADDRESS__
#define SANITIZED true
#else
#define SANITIZED false
#endif

static int sync_fd;

_Noreturn void sandbox_fail(const char *step)
{
    struct sandbox_failure failure = {.error = errno};

    snprintf(failure.step, sizeof failure.step, "%s", step);
    send(sync_fd, &failure, sizeof failure, MSG_NOSIGNAL);
    _exit(1);
}

static void must(bool done, const char *step)
{
    if (!done)
        sandbox_fail(step);
}

/* A word for the zygote, with descriptors, of which there are at most two. */
static bool hand_over(const char *word, size_t len, const int *fds, size_t n)
{
    struct iovec part = {(char *)word, len};
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(2 * sizeof *fds)];
    } control = {.header = {.cmsg_len = CMSG_LEN(n * sizeof *fds),
                            .cmsg_level = SOL_SOCKET,
                            .cmsg_type = SCM_RIGHTS}};
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = &control,
                             .msg_controllen = CMSG_SPACE(n * sizeof *fds)};

    memcpy(CMSG_DATA(&control.header), fds, n * sizeof *fds);
    return sendmsg(sync_fd, &message, MSG_NOSIGNAL) == (ssize_t)len;
}

/* The zygote can save what is written there, once this process has left the host's files. */
static void hand_over_store(void)
{
    int fd = sandbox_root_open_store();

    must(fd >= 0 && hand_over("store", SANDBOX_STORE_WORD, &fd, 1), "hand over the writable layer");
    close(fd);
}

/* The sockets are for the daemon: nobody inside keeps them. */
static void enter_network(const struct sandbox_net *net)
{
    struct sandbox_net_sockets sockets;
    const char *step;

    if (!sandbox_net_enter(net, &sockets, &step))
        sandbox_fail(step);
    must(hand_over("net", SANDBOX_NETWORK_WORD, (int[]){sockets.tcp_fd, sockets.dns_fd}, 2),
         "hand over the sockets of its network");
    close(sockets.tcp_fd);
    close(sockets.dns_fd);
}

static void limit(__rlimit_resource_t resource, rlim_t value, const char *step)
{
    struct rlimit old, wanted = {value, value};

    getrlimit(resource, &old);
    if (old.rlim_max < value)
        wanted = (struct rlimit){old.rlim_max, old.rlim_max};
    must(setrlimit(resource, &wanted) == 0, step);
}

static void set_limits(const struct sandbox_inside *in)
{
    const struct sandbox_cgroups *cgroups = &in->host->cgroups;

    limit(RLIMIT_CORE, 0, "forbid core files");
    /* Not more than the zygote had before it raised its own. */
    must(setrlimit(RLIMIT_NOFILE, &in->host->files) == 0, "limit open files");
    limit(RLIMIT_NOFILE, (rlim_t)in->limits.open_files, "limit open files");
    /* Counted per user namespace since Linux 5.14; a group counts better where there is one. */
    if (!cgroups->controller[CONTROLLER_PIDS].version)
        limit(RLIMIT_NPROC, (rlim_t)in->limits.pids, "limit the number of processes");
    /* Not RLIMIT_AS: runtimes reserve far more address space than they use. */
    if (!cgroups->controller[CONTROLLER_MEMORY].version && !SANITIZED)
        limit(RLIMIT_DATA, (rlim_t)in->limits.memory_bytes, "limit memory");
}

/*
 * Puts the agent's descriptors into their places. Of all others only stderr stays, for what the
 * agent has to say to the daemon's log; no command gets it.
 */
static void arrange_descriptors(const struct sandbox_inside *in)
{
    const int wanted[] = {in->http_fd, in->dial_fd, in->config_fd, in->sync_fd};
    int moved[4], agent;

    /* First out of the way: dup2() onto a descriptor still needed would lose it. */
    for (int i = 0; i < 4; i++)
        must((moved[i] = fcntl(wanted[i], F_DUPFD_CLOEXEC, 100)) >= 0, "move a descriptor");
    must((agent = fcntl(in->host->agent_fd, F_DUPFD_CLOEXEC, 100)) >= 0, "move the agent program");
    for (int i = 0; i < 4; i++)
        must(dup2(moved[i], AGENT_FD_HTTP + i) >= 0, "place a descriptor");
    sync_fd = AGENT_FD_READY;
    must(dup3(agent, AGENT_FD_END, O_CLOEXEC) >= 0, "place the agent program");
    must(syscall(SYS_close_range, AGENT_FD_END + 1, ~0U, 0) == 0, "close all other descriptors");
    for (int fd = 0; fd < 2; fd++) {
        int null = open("/dev/null", O_RDWR);

        must(null >= 0 && (null == fd || (dup2(null, fd) == fd && close(null) == 0)),
             "open /dev/null");
    }
}

/*
 * Tier A: the agent is root of its own namespaces, with what it takes to act for other users there;
 * root's commands have the same. Everyone else has none, and can get these and no more, by sudo.
 * Tier B: nobody has any.
 */
static void drop_capabilities(const struct sandbox_host *host)
{
    static const int kept[] = {CAP_CHOWN,  CAP_DAC_OVERRIDE, CAP_FOWNER,
                               CAP_FSETID, CAP_KILL,         CAP_SETGID,
                               CAP_SETUID, CAP_SETPCAP,      CAP_NET_BIND_SERVICE};
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[2] = {{0}};

    for (int cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++) {
        bool keep = false;

        for (size_t i = 0; i < sizeof kept / sizeof *kept; i++)
            keep = keep || (host->tier == ZYGOTE_TIER_A && kept[i] == cap);
        must(keep || prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) == 0, "drop a capability");
    }
    /* Root's exec() takes what the bounding set leaves; an ordinary user's must have nothing. */
    if (host->tier == ZYGOTE_TIER_B)
        must(syscall(SYS_capset, &header, none) == 0, "drop all capabilities");
}

static _Noreturn void become_agent(const struct sandbox_host *host)
{
    const char *const argv[] = {"agent", NULL};
    const char *const envp[] = {"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                                "LANG=C.UTF-8", NULL};

    /* Without capabilities over the namespace the filter could not be loaded before exec(). */
    if (host->tier == ZYGOTE_TIER_B)
        must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0, "set no_new_privs");
    must(sandbox_filter_load(&host->filter), "load the system call filter");
    /* A change of ids clears it, hence not earlier. */
    must(prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) == 0, "tie the sandbox to the zygote");
    drop_capabilities(host);
    syscall(SYS_execveat, AGENT_FD_END, "", argv, envp, AT_EMPTY_PATH);
    sandbox_fail("start the agent");
}

_Noreturn void sandbox_setup(const struct sandbox_inside *in)
{
    int layers[SANDBOX_LAYERS];

    sync_fd = in->sync_fd;
    signals_reset();
    if (!sandbox_layers_receive(in->layers, sync_fd, layers)) /* and the maps are written */
        _exit(1);                                             /* the zygote is gone */
    must(sandbox_cgroups_join(&in->cgroups), "join its control groups");
    must(sandbox_ids_take(in->host), "take the ids of the sandbox");
    must(setsid() >= 0, "start a session");
    umask(022);
    /* The daemon's session keyring would be inherited. */
    if (syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL) < 0 && errno != ENOSYS)
        must(errno == EPERM || errno == EDQUOT, "leave the session's keyring");
    sandbox_root_build(in, layers);
    hand_over_store();
    must(sethostname("e2b.local", 9) == 0, "set the host name");
    enter_network(&in->host->net);
    sandbox_root_enter();
    arrange_descriptors(in);
    set_limits(in);
    become_agent(in->host);
}
