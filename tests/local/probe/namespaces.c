/* Mounts, roots and namespaces: what would show another file system, or other powers. */
#include "tests/local/probe/probe.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* A directory to mount on. */
static const char *place(void)
{
    static char path[] = "/tmp/probe-XXXXXX";

    return mkdtemp(path);
}

static int mount_tmpfs(const char *argument)
{
    return outcome(mount("none", place(), "tmpfs", 0, NULL));
}

static int mount_bind(const char *argument)
{
    return outcome(mount("/", place(), NULL, MS_BIND, NULL));
}

static int mount_proc(const char *argument)
{
    return outcome(mount("proc", place(), "proc", 0, NULL));
}

static int remount(const char *argument)
{
    return outcome(mount(NULL, argument, NULL, MS_REMOUNT | MS_BIND, NULL));
}

static int unmount(const char *argument)
{
    return outcome(umount2(argument, MNT_DETACH));
}

static int try_fsopen(const char *argument)
{
    return outcome(syscall(SYS_fsopen, "tmpfs", 0));
}

static int try_open_tree(const char *argument)
{
    return outcome(syscall(SYS_open_tree, AT_FDCWD, "/", OPEN_TREE_CLONE));
}

static int try_mount_setattr(const char *argument)
{
    struct mount_attr attr = {.attr_clr = MOUNT_ATTR_RDONLY};

    return outcome(syscall(SYS_mount_setattr, AT_FDCWD, argument, 0, &attr, sizeof attr));
}

static int try_pivot_root(const char *argument)
{
    int error = outcome(syscall(SYS_pivot_root, "/", "/"));

    return error == EBUSY ? 0 : error; /* who may hears that it is the root already */
}

static int try_chroot(const char *argument)
{
    return outcome(chroot("/"));
}

static int try_unshare(const char *argument)
{
    return outcome(unshare((int)strtol(argument, NULL, 0)));
}

static int try_clone(const char *argument)
{
    long flags = strtol(argument, NULL, 0);
    long pid = syscall(SYS_clone, flags | SIGCHLD, 0, 0, 0, 0);

    if (pid == 0)
        _exit(0);
    return outcome(pid);
}

static int try_clone3(const char *argument)
{
    struct clone_args args = {.flags = CLONE_NEWUSER, .exit_signal = SIGCHLD};
    long pid = syscall(SYS_clone3, &args, sizeof args);

    if (pid == 0)
        _exit(0);
    return outcome(pid);
}

/* Joining one's own network namespace is the least one can ask for. */
static int try_setns(const char *argument)
{
    int fd = open(argument, O_RDONLY);

    return fd < 0 ? errno : outcome(setns(fd, 0));
}

const struct attempt namespace_attempts[] = {
    {"mount_tmpfs", mount_tmpfs},
    {"mount_bind", mount_bind},
    {"mount_proc", mount_proc},
    {"remount", remount},
    {"unmount", unmount},
    {"fsopen", try_fsopen},
    {"open_tree", try_open_tree},
    {"mount_setattr", try_mount_setattr},
    {"pivot_root", try_pivot_root},
    {"chroot", try_chroot},
    {"unshare", try_unshare},
    {"clone", try_clone},
    {"clone3", try_clone3},
    {"setns", try_setns},
    {NULL, NULL},
};
