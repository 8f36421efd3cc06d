/* See sandbox_save.h. */
#include "runtime/local/zygote/sandbox_save.h"

#include "common/base/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *const environment[] = {"PATH=/usr/bin:/bin", "LC_ALL=C", NULL};

/* An ordinary user's tar would not read what its owner may not: it gets what it takes along. */
static bool keep_capabilities(void)
{
    static const int kept[] = {CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER,
                               CAP_CHOWN,        CAP_FSETID,          CAP_SETFCAP};
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct sets[2];

    if (syscall(SYS_capget, &header, sets) < 0)
        return false;
    for (int i = 0; i < 2; i++)
        sets[i].inheritable = sets[i].permitted;
    if (syscall(SYS_capset, &header, sets) < 0)
        return false;
    for (size_t i = 0; i < sizeof kept / sizeof *kept; i++) {
        if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, kept[i], 0, 0) < 0)
            return false;
    }
    return true;
}

/* Into the sandbox's user namespace, as its root where it has one. */
static bool enter_namespace(const struct sandbox_host *host, int namespace_fd)
{
    if (setns(namespace_fd, CLONE_NEWUSER) < 0)
        return false;
    if (host->tier == ZYGOTE_TIER_B)
        return keep_capabilities();
    return setgroups(0, NULL) == 0 && setresgid(0, 0, 0) == 0 && setresuid(0, 0, 0) == 0;
}

/* execve() takes its arguments as they were once declared. */
static _Noreturn void run_tar(const char *const *argv)
{
    execve("/usr/bin/tar", (char *const *)argv, (char *const *)environment);
    execve("/bin/tar", (char *const *)argv, (char *const *)environment);
    _exit(SAVE_NO_TAR);
}

static void unblock_signals(void)
{
    sigset_t none;

    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
}

static _Noreturn void save(const struct sandbox_host *host, const struct sandbox *s, int to_fd,
                           int namespace_fd)
{
    /* What is mounted or made anew at each start is left out. */
    const char *const argv[] = {"tar",
                                "--create",
                                "--file=-",
                                "--numeric-owner",
                                "--xattrs",
                                "--xattrs-include=*",
                                "--sparse",
                                "--warning=no-file-ignored",
                                "--exclude=./root/dev",
                                "--exclude=./root/proc",
                                "--exclude=./root/sys",
                                "--anchored",
                                "./upper",
                                "./root",
                                NULL};

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    unblock_signals();
    if (dup2(to_fd, STDOUT_FILENO) < 0 || fchdir(s->store_fd) < 0 ||
        !enter_namespace(host, namespace_fd))
        _exit(SAVE_NOT_READY);
    run_tar(argv);
}

pid_t sandbox_save_start(const struct sandbox_host *host, const struct sandbox *s, int to_fd,
                         int *ret_pidfd)
{
    struct clone_args args = {
        .flags = CLONE_PIDFD, .pidfd = (uint64_t)(uintptr_t)ret_pidfd, .exit_signal = SIGCHLD};
    pid_t pid = (pid_t)syscall(SYS_clone3, &args, sizeof args);

    if (pid == 0)
        save(host, s, to_fd, s->namespace_fd);
    return pid;
}

static _Noreturn void restore(const struct sandbox_host *host, const char *path, int from_fd)
{
    const char *const argv[] = {"tar",
                                "--extract",
                                "--file=-",
                                "--numeric-owner",
                                host->tier == ZYGOTE_TIER_A ? "--same-owner" : "--no-same-owner",
                                "--preserve-permissions",
                                "--xattrs",
                                "--xattrs-include=*",
                                "--sparse",
                                NULL};

    unblock_signals();
    if (dup2(from_fd, STDIN_FILENO) < 0 || lseek(STDIN_FILENO, 0, SEEK_SET) < 0 ||
        chdir(path) < 0 || (host->tier == ZYGOTE_TIER_B && !keep_capabilities()))
        _exit(SAVE_NOT_READY);
    run_tar(argv);
}

bool sandbox_restore(const struct sandbox_host *host, const char *path, int from_fd)
{
    pid_t pid = fork();
    int status = 0;

    if (pid == 0)
        restore(host, path, from_fd);
    while (pid > 0 && waitpid(pid, &status, 0) < 0) {
        if (errno != EINTR)
            return false;
    }
    if (pid > 0 && status == 0)
        return true;
    if (pid > 0)
        errno = WIFEXITED(status) && WEXITSTATUS(status) == SAVE_NO_TAR ? ENOENT : EIO;
    return false;
}
