/*
 * See sandbox_filter.h. Runs in the zygote at its start (make) and in the sandbox's first process
 * before it becomes the agent (load).
 *
 * An allow-by-default filter: the namespaces, the missing capabilities and the mount table already
 * confine; this removes kernel surface that they do not cover and that ordinary programs do not
 * use.
 */
#include "runtime/local/zygote/sandbox_filter.h"

#include "common/base/cleanup.h"
#include "common/base/mem.h"

#include <errno.h>
#include <linux/seccomp.h>
#include <linux/tiocl.h>
#include <sched.h>
#include <seccomp.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>

/* By name: a call the machine's libseccomp or architecture does not know is left out. */
static const char *const refused[] = {
    /* mounts and roots */
    "mount",
    "umount",
    "umount2",
    "mount_setattr",
    "move_mount",
    "open_tree",
    "open_tree_attr",
    "fsopen",
    "fsconfig",
    "fsmount",
    "fspick",
    "pivot_root",
    "chroot",
    "statmount",
    "listmount",
    /* namespaces */
    "unshare",
    "setns",
    /* the kernel's own things */
    "bpf",
    "perf_event_open",
    "add_key",
    "request_key",
    "keyctl",
    "userfaultfd",
    "kexec_load",
    "kexec_file_load",
    "init_module",
    "finit_module",
    "delete_module",
    "create_module",
    "io_uring_setup",
    "io_uring_enter",
    "io_uring_register",
    "lookup_dcookie",
    "fanotify_init",
    "quotactl",
    "quotactl_fd",
    "nfsservctl",
    "swapon",
    "swapoff",
    "acct",
    "reboot",
    "syslog",
    "vhangup",
    "ioperm",
    "iopl",
    "uselib",
    "ustat",
    "sysfs",
    "_sysctl",
    "vm86",
    "vm86old",
    "modify_ldt",
    /* the machine's state */
    "settimeofday",
    "stime",
    "clock_settime",
    "clock_settime64",
    "clock_adjtime",
    "clock_adjtime64",
    "adjtimex",
    "sethostname",
    "setdomainname",
    /* around permission checks */
    "open_by_handle_at",
    "name_to_handle_at",
    "process_vm_writev",
    "process_vm_readv",
    "process_madvise",
    "pidfd_getfd",
    "kcmp",
    "move_pages",
    "migrate_pages",
    "mbind",
    "set_mempolicy",
    "set_mempolicy_home_node",
};

/* Not confined by a network namespace, or kernel surface that nothing here uses. */
static const int refused_families[] = {
    AF_VSOCK, AF_PACKET, AF_ALG,        AF_KEY, AF_TIPC, AF_RDS, AF_XDP,     AF_BLUETOOTH,
    AF_CAN,   AF_NFC,    AF_IEEE802154, AF_IB,  AF_KCM,  AF_SMC, AF_QIPCRTR,
};

static const uint64_t refused_ioctls[] = {TIOCSTI, TIOCLINUX};

static bool refuse_names(scmp_filter_ctx ctx)
{
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        int nr = seccomp_syscall_resolve_name(refused[i]);

        if (nr == __NR_SCMP_ERROR)
            continue;
        if (seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EPERM), nr, 0) < 0)
            return false;
    }
    return true;
}

/* clone() may make threads and processes but no namespaces. */
static bool refuse_namespaces(scmp_filter_ctx ctx)
{
    static const uint64_t flags[] = {
        CLONE_NEWUSER, CLONE_NEWNS,  CLONE_NEWPID,    CLONE_NEWNET,
        CLONE_NEWIPC,  CLONE_NEWUTS, CLONE_NEWCGROUP,
    };

    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++)
        if (seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(clone), 1,
                             SCMP_A0(SCMP_CMP_MASKED_EQ, flags[i], flags[i])) < 0)
            return false;
    /* A filter cannot look into clone3's struct; with ENOSYS every libc falls back to clone. */
    return seccomp_rule_add(ctx, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0) >= 0;
}

static bool refuse_arguments(scmp_filter_ctx ctx)
{
    /* Comparing the low 32 bits: the kernel takes an int, the register may hold more. */
    for (size_t i = 0; i < sizeof refused_families / sizeof *refused_families; i++)
        for (int pair = 0; pair < 2; pair++)
            if (seccomp_rule_add(
                    ctx, SCMP_ACT_ERRNO(EAFNOSUPPORT),
                    pair ? SCMP_SYS(socketpair) : SCMP_SYS(socket), 1,
                    SCMP_A0(SCMP_CMP_MASKED_EQ, UINT32_MAX, (uint64_t)refused_families[i])) < 0)
                return false;
    for (size_t i = 0; i < sizeof refused_ioctls / sizeof *refused_ioctls; i++)
        if (seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(ioctl), 1,
                             SCMP_A1(SCMP_CMP_MASKED_EQ, UINT32_MAX, refused_ioctls[i])) < 0)
            return false;
    return true;
}

/* libseccomp 2.5 exports to a file only. */
static bool export_filter(scmp_filter_ctx ctx, struct sock_fprog *ret)
{
    AUTO_CLOSE int fd = memfd_create("filter", MFD_CLOEXEC);
    struct stat info;

    if (fd < 0 || seccomp_export_bpf(ctx, fd) < 0 || fstat(fd, &info) < 0)
        return false;
    ret->len = (unsigned short)((size_t)info.st_size / sizeof *ret->filter);
    ret->filter = xmalloc((size_t)info.st_size);
    return pread(fd, ret->filter, (size_t)info.st_size, 0) == info.st_size;
}

bool sandbox_filter_make(struct sock_fprog *ret, struct status *st)
{
    /* Another architecture's calls (32-bit ones on x86-64) end the process: the default bad-arch.
     */
    scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ALLOW);
    bool made = ctx && seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2) >= 0 &&
                refuse_names(ctx) && refuse_namespaces(ctx) && refuse_arguments(ctx) &&
                export_filter(ctx, ret);

    seccomp_release(ctx);
    if (!made)
        return status_set(st, CODE_INTERNAL, 0, "the system call filter cannot be made");
    return true;
}

bool sandbox_filter_load(const struct sock_fprog *filter)
{
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, filter, 0, 0) == 0;
}
