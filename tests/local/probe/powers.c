/* Powers over processes, users, devices and limits. */
#include "tests/local/probe/probe.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/ioprio.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

enum { PROC_MAGIC = 0x9fa0 };

static pid_t pid_of(const char *argument)
{
    return (pid_t)strtol(argument, NULL, 10);
}

static int attach(const char *argument)
{
    return outcome(ptrace(PTRACE_ATTACH, pid_of(argument), 0, 0));
}

static int seize(const char *argument)
{
    return outcome(ptrace(PTRACE_SEIZE, pid_of(argument), 0, 0));
}

static int read_memory(const char *argument)
{
    char byte;
    struct iovec here = {&byte, 1}, there = {(void *)0x400000, 1};
    long n = syscall(SYS_process_vm_readv, pid_of(argument), &here, 1UL, &there, 1UL, 0UL);

    return n < 0 && errno == EFAULT ? 0 : outcome(n); /* nothing there, but we may look */
}

static int take_descriptor(const char *argument)
{
    long fd = syscall(SYS_pidfd_open, pid_of(argument), 0);

    return fd < 0 ? errno : outcome(syscall(SYS_pidfd_getfd, fd, 2, 0));
}

static int signal_it(const char *argument)
{
    return outcome(kill(pid_of(argument), 0));
}

static int change_its_limits(const char *argument)
{
    struct rlimit limit;

    return outcome(prlimit(pid_of(argument), RLIMIT_NOFILE, NULL, &limit));
}

/* Below /proc something else may have been put in its place. */
static int check_kind(int fd, const char *path)
{
    struct statfs info;

    if (strncmp(path, "/proc/", 6) != 0 || (fstatfs(fd, &info) == 0 && info.f_type == PROC_MAGIC))
        return 0;
    return ENOMEDIUM;
}

/* Opens a file as "HOW,PATH" says: r, w or d for a directory; l reads where a link leads. */
static int open_file(const char *argument)
{
    char to[256];
    int flags = *argument == 'w' ? O_WRONLY : *argument == 'd' ? O_RDONLY | O_DIRECTORY : O_RDONLY;
    int fd = -1;

    if (*argument == 'l')
        return outcome(readlink(argument + 2, to, sizeof to));
    fd = open(argument + 2, flags | O_NONBLOCK);
    /* The directories behind links of /proc are anything. */
    return fd < 0 || *argument == 'd' ? outcome(fd) : check_kind(fd, argument + 2);
}

/* Reads a byte of it, too: some may be opened by all. */
static int read_file(const char *argument)
{
    char text[8192]; /* the kernel's log gives whole entries only */
    int fd = open(argument, O_RDONLY | O_NONBLOCK);
    ssize_t n;

    if (fd < 0)
        return errno;
    n = read(fd, text, sizeof text);
    if (n < 0 && errno == EIO)
        return 0; /* memory: nothing is there, but we may look */
    return n == 0 ? ENODATA : outcome(n);
}

/* "PATH,TEXT" */
static int write_file(const char *argument)
{
    const char *comma = strchr(argument, ',');
    char path[256];
    int fd;

    snprintf(path, sizeof path, "%.*s", (int)(comma - argument), argument);
    fd = open(path, O_WRONLY);
    if (fd < 0)
        return errno;
    return check_kind(fd, path) ? check_kind(fd, path)
                                : outcome(write(fd, comma + 1, strlen(comma + 1)));
}

static int become_user(const char *argument)
{
    uid_t uid = (uid_t)strtoul(argument, NULL, 10);

    return outcome(setresuid(uid, uid, uid));
}

static int become_group(const char *argument)
{
    gid_t gid = (gid_t)strtoul(argument, NULL, 10);

    return outcome(setresgid(gid, gid, gid));
}

static int join_group(const char *argument)
{
    gid_t gid = (gid_t)strtoul(argument, NULL, 10);

    return outcome(syscall(SYS_setgroups, 1, &gid));
}

static int give_away(const char *argument)
{
    uid_t uid = (uid_t)strtoul(argument, NULL, 10);
    char path[] = "/tmp/probe-XXXXXX";
    int fd = mkstemp(path);

    unlink(path);
    return outcome(fchown(fd, uid, uid));
}

static int take_capability(const char *argument)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct sets[2];
    unsigned long cap = strtoul(argument, NULL, 10);

    if (syscall(SYS_capget, &header, sets) < 0)
        return errno;
    sets[cap / 32].permitted |= 1U << cap % 32;
    sets[cap / 32].effective |= 1U << cap % 32;
    return outcome(syscall(SYS_capset, &header, sets));
}

/* A capability for whoever runs the file. */
static int give_file_capability(const char *argument)
{
    struct {
        uint32_t magic, permitted, inheritable, permitted_high, inheritable_high;
    } caps = {0x02000001, 1U << CAP_SYS_ADMIN, 0, 0, 0};
    char path[] = "/tmp/probe-XXXXXX";
    int fd = mkstemp(path), error;

    error = outcome(fsetxattr(fd, "security.capability", &caps, sizeof caps, 0));
    unlink(path);
    return error;
}

/* "b,MAJOR,MINOR" or "c,...": made and opened. */
static int make_device(const char *argument)
{
    unsigned major_number, minor_number;
    char path[] = "/tmp/probe-XXXXXX";
    int error;

    if (sscanf(argument + 2, "%u,%u", &major_number, &minor_number) != 2)
        return EINVAL;
    close(mkstemp(path));
    unlink(path);
    if (mknod(path, (*argument == 'b' ? S_IFBLK : S_IFCHR) | 0666,
              makedev(major_number, minor_number)) < 0)
        return errno;
    error = outcome(open(path, O_RDONLY | O_NONBLOCK));
    unlink(path);
    return error;
}

static int raise_limit(const char *argument)
{
    struct rlimit limit;

    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_max++;
    return outcome(setrlimit(RLIMIT_NOFILE, &limit));
}

static int run_in_real_time(const char *argument)
{
    struct sched_param param = {.sched_priority = 1};

    return outcome(sched_setscheduler(0, SCHED_FIFO, &param));
}

static int be_less_nice(const char *argument)
{
    return outcome(setpriority(PRIO_PROCESS, 0, -20));
}

static int have_the_disk_first(const char *argument)
{
    return outcome(
        syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, IOPRIO_PRIO_VALUE(IOPRIO_CLASS_RT, 0)));
}

const struct attempt power_attempts[] = {
    {"attach", attach},
    {"seize", seize},
    {"read_memory", read_memory},
    {"take_descriptor", take_descriptor},
    {"signal", signal_it},
    {"prlimit", change_its_limits},
    {"open", open_file},
    {"read", read_file},
    {"write", write_file},
    {"become_user", become_user},
    {"become_group", become_group},
    {"join_group", join_group},
    {"give_away", give_away},
    {"take_capability", take_capability},
    {"give_file_capability", give_file_capability},
    {"make_device", make_device},
    {"raise_limit", raise_limit},
    {"run_in_real_time", run_in_real_time},
    {"be_less_nice", be_less_nice},
    {"have_the_disk_first", have_the_disk_first},
    {NULL, NULL},
};
