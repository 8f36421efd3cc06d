/* See sandbox_disk.h. Runs in the zygote, which waits for mkfs.ext4: 10 ms at most. */
#include "runtime/local/zygote/sandbox_disk.h"

#include "common/base/cleanup.h"
#include "common/base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/loop.h>
#include <linux/mount.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { INODE_SIZE = 256, LOOP_TRIES = 64, NO_MKFS = 101 };

static const char *const environment[] = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin", NULL};

/* What ext4 has for itself comes on top: a sandbox is to have what it was promised. */
static int64_t file_size(const struct zygote_limits *limits)
{
    int64_t size = limits->disk_bytes + limits->files * INODE_SIZE + limits->disk_bytes / 64 +
                   (INT64_C(2) << 20);

    return (size + 4095) & ~INT64_C(4095);
}

static _Noreturn void exec_mkfs(const struct zygote_limits *limits, uid_t owner, const char *path)
{
    AUTO_FREE char *inodes = xasprintf("%" PRId64, limits->files);
    AUTO_FREE char *more = xasprintf("nodiscard,lazy_itable_init=1,root_owner=%u:%u",
                                     (unsigned)owner, (unsigned)owner);
    const char *const argv[] = {
        "mkfs.ext4", "-q",  "-F", "-b",   "4096", "-m", "0",  "-O", "^has_journal,^resize_inode",
        "-I",        "256", "-N", inodes, "-E",   more, path, NULL};
    sigset_t none;

    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    execve("/usr/sbin/mkfs.ext4", (char *const *)argv, (char *const *)environment);
    execve("/sbin/mkfs.ext4", (char *const *)argv, (char *const *)environment);
    _exit(NO_MKFS);
}

static bool run_mkfs(const struct zygote_limits *limits, uid_t owner, const char *path,
                     struct status *st)
{
    pid_t pid = fork();
    int status = -1;

    if (pid == 0)
        exec_mkfs(limits, owner, path);
    while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (status == 0)
        return true;
    if (pid > 0 && WIFEXITED(status) && WEXITSTATUS(status) == NO_MKFS)
        return status_set(st, CODE_FAILED_PRECONDITION, 0,
                          "a disk needs mkfs.ext4 (e2fsprogs), which is not on this machine");
    return status_set(st, CODE_FAILED_PRECONDITION, 0,
                      "no file system fits into a disk of %" PRId64 " bytes and %" PRId64 " inodes",
                      limits->disk_bytes, limits->files);
}

/* Another program may take the free one before us. */
static int attach(int file_fd, char *device, size_t size)
{
    const struct loop_config config = {.fd = (unsigned)file_fd,
                                       .info = {.lo_flags = LO_FLAGS_AUTOCLEAR}};
    AUTO_CLOSE int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);

    for (int i = 0; control >= 0 && i < LOOP_TRIES; i++) {
        AUTO_CLOSE int fd = -1;
        int n = ioctl(control, LOOP_CTL_GET_FREE);

        if (n < 0)
            return -1;
        snprintf(device, size, "/dev/loop%d", n);
        fd = open(device, O_RDWR | O_CLOEXEC);
        if (fd < 0)
            return -1;
        if (ioctl(fd, LOOP_CONFIGURE, &config) == 0)
            return take_fd(&fd);
        if (errno != EBUSY)
            return -1;
    }
    return -1;
}

static bool set(int fs, unsigned command, const char *key, const char *value)
{
    return syscall(SYS_fsconfig, fs, command, key, value, 0) == 0;
}

/* Its tables are written when they are used, and what is deleted is given back to the host. */
static int mount_device(const char *device)
{
    AUTO_CLOSE int fs = (int)syscall(SYS_fsopen, "ext4", FSOPEN_CLOEXEC);

    if (fs < 0 || !set(fs, FSCONFIG_SET_STRING, "source", device) ||
        !set(fs, FSCONFIG_SET_FLAG, "noinit_itable", NULL) ||
        !set(fs, FSCONFIG_SET_FLAG, "discard", NULL) || !set(fs, FSCONFIG_CMD_CREATE, NULL, NULL))
        return -1;
    return (int)syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC, MOUNT_ATTR_NODEV);
}

static int mount_file(int file_fd, struct status *st)
{
    char device[32] = "/dev/loop-control";
    AUTO_CLOSE int loop_fd = attach(file_fd, device, sizeof device);
    int mount_fd = -1;

    if (loop_fd < 0) {
        status_set(st, CODE_FAILED_PRECONDITION, 0, "a disk needs a loop device: %s: %s", device,
                   strerror(errno));
        return -1;
    }
    mount_fd = mount_device(device);
    if (mount_fd < 0)
        status_set(st, CODE_FAILED_PRECONDITION, 0, "a disk cannot be mounted: ext4 on %s: %s",
                   device, strerror(errno));
    return mount_fd;
}

int sandbox_disk_make(const struct zygote_limits *limits, uid_t owner, const char *path,
                      struct status *st)
{
    AUTO_CLOSE int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    bool made;

    if (fd < 0 || ftruncate(fd, file_size(limits)) < 0) {
        status_set(st, CODE_FAILED_PRECONDITION, 0,
                   "a disk of %" PRId64 " bytes cannot be made: %s", limits->disk_bytes,
                   strerror(errno));
        unlink(path);
        return -1;
    }
    made = run_mkfs(limits, owner, path, st);
    unlink(path);
    return made ? mount_file(fd, st) : -1;
}

bool sandbox_disk_try(const struct sandbox_host *host, struct status *st)
{
    const struct zygote_limits small = {.disk_bytes = 1 << 20, .files = 1000};
    AUTO_CLOSE int fd = -1;

    if (host->tier == ZYGOTE_TIER_B)
        return status_set(st, CODE_FAILED_PRECONDITION, 0,
                          "only root can bound a sandbox's disk that is not in memory");
    fd = sandbox_disk_make(&small, 0, "disk", st);
    return fd >= 0;
}
