/* See sandbox_ids.h. Runs in the zygote and, for one function, in the sandbox's first process. */
#include "runtime/local/zygote/sandbox_ids.h"

#include "common/base/cleanup.h"
#include "runtime/local/agent/handover.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

pid_t sandbox_ids_fork(uint64_t namespaces, int cgroup_fd, int *ret_pidfd)
{
    struct clone_args args = {
        .flags = namespaces | CLONE_PIDFD,
        .pidfd = (uint64_t)(uintptr_t)ret_pidfd,
        .exit_signal = SIGCHLD,
    };

    if (cgroup_fd >= 0) {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = (uint64_t)cgroup_fd;
    }
    return (pid_t)syscall(SYS_clone3, &args, sizeof args);
}

static bool write_proc(pid_t pid, const char *file, const char *text)
{
    char path[64];
    AUTO_CLOSE int fd = -1;

    snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, file);
    fd = open(path, O_WRONLY | O_CLOEXEC);
    return fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
}

bool sandbox_ids_map(const struct sandbox_host *host, pid_t child, uint32_t first)
{
    char map[64];

    if (host->tier == ZYGOTE_TIER_A) {
        snprintf(map, sizeof map, "0 %u %d", (unsigned)first, SANDBOX_SLOT_IDS);
        return write_proc(child, "uid_map", map) && write_proc(child, "gid_map", map);
    }
    if (!write_proc(child, "setgroups", "deny")) /* the price of mapping one's own group */
        return false;
    snprintf(map, sizeof map, "%d %u 1", AGENT_USER_ID, host->uid);
    if (!write_proc(child, "uid_map", map))
        return false;
    snprintf(map, sizeof map, "%d %u 1", AGENT_USER_ID, host->gid);
    return write_proc(child, "gid_map", map);
}

bool sandbox_ids_take(const struct sandbox_host *host)
{
    if (host->tier == ZYGOTE_TIER_B)
        return true;
    return setgroups(0, NULL) == 0 && setresgid(0, 0, 0) == 0 && setresuid(0, 0, 0) == 0;
}

int sandbox_ids_namespace(const struct sandbox_host *host)
{
    AUTO_CLOSE int pidfd = -1;
    char path[64];
    pid_t child = sandbox_ids_fork(CLONE_NEWUSER, -1, &pidfd);
    int fd = -1;

    if (child == 0) {
        pause();
        _exit(0);
    }
    if (child < 0)
        return -1;
    if (sandbox_ids_map(host, child, host->slots->first)) {
        snprintf(path, sizeof path, "/proc/%d/ns/user", (int)child);
        fd = open(path, O_RDONLY | O_CLOEXEC);
    }
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    return fd;
}
