/*
 * The kernel's own interfaces. What would change the machine is asked for with arguments that no
 * kernel takes: who may, hears that they are wrong, and who may not, hears just that.
 */
#include "tests/local/probe/probe.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/keyctl.h>
#include <linux/perf_event.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timex.h>
#include <sys/xattr.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

/* Said by a kernel that got as far as looking at the nonsense. */
static int nonsense(long result)
{
    int error = outcome(result);

    return error == EINVAL || error == EFAULT || error == EBADF || error == ENOENT ||
                   error == ENOEXEC || error == ESRCH || error == ENOTBLK
               ? 0
               : error;
}

static int try_bpf(const char *argument)
{
    union bpf_attr attr = {
        .map_type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = 4, .max_entries = 1};

    return outcome(syscall(SYS_bpf, BPF_MAP_CREATE, &attr, sizeof attr));
}

static int try_perf(const char *argument)
{
    struct perf_event_attr attr = {
        .type = PERF_TYPE_SOFTWARE, .size = sizeof attr, .config = PERF_COUNT_SW_CPU_CLOCK};

    return outcome(syscall(SYS_perf_event_open, &attr, 0, -1, -1, 0));
}

static int try_add_key(const char *argument)
{
    return outcome(syscall(SYS_add_key, "user", "probe", "x", 1, KEY_SPEC_PROCESS_KEYRING));
}

static int try_keyctl(const char *argument)
{
    return outcome(syscall(SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_PROCESS_KEYRING, 1));
}

static int try_request_key(const char *argument)
{
    int error = outcome(syscall(SYS_request_key, "user", "no-such-probe", NULL, 0));

    return error == ENOKEY ? 0 : error;
}

static int try_userfaultfd(const char *argument)
{
    return outcome(syscall(SYS_userfaultfd, O_CLOEXEC));
}

static int try_io_uring(const char *argument)
{
    uint64_t params[16] = {0};

    return outcome(syscall(SYS_io_uring_setup, 1, params));
}

static int load_module(const char *argument)
{
    return nonsense(syscall(SYS_init_module, "", 0UL, ""));
}

static int load_module_file(const char *argument)
{
    return nonsense(syscall(SYS_finit_module, -1, "", 0));
}

static int unload_module(const char *argument)
{
    return nonsense(syscall(SYS_delete_module, "no_such_probe", 0));
}

static int try_kexec(const char *argument)
{
    return nonsense(syscall(SYS_kexec_load, 0UL, 17UL, NULL, 0xffffUL));
}

/* Neither of the two numbers that it takes. */
static int try_reboot(const char *argument)
{
    return nonsense(syscall(SYS_reboot, 1, 2, 3, NULL));
}

static int try_swapon(const char *argument)
{
    return nonsense(syscall(SYS_swapon, "/no/such/probe", 0));
}

static int try_acct(const char *argument)
{
    return nonsense(syscall(SYS_acct, "/no/such/probe"));
}

static int try_quotactl(const char *argument)
{
    return nonsense(syscall(SYS_quotactl, 0x80000200, "/no/such/probe", 0, NULL)); /* Q_QUOTAON */
}

static int set_time(const char *argument)
{
    struct timespec never = {.tv_nsec = -1};

    return nonsense(syscall(SYS_clock_settime, CLOCK_REALTIME, &never));
}

static int set_time_of_day(const char *argument)
{
    struct timeval never = {.tv_usec = -1};

    return nonsense(syscall(SYS_settimeofday, &never, NULL));
}

static int adjust_time(const char *argument)
{
    struct timex change = {.modes = ADJ_TICK, .tick = 1};

    return nonsense(syscall(SYS_adjtimex, &change));
}

static int read_kernel_log(const char *argument)
{
    char text[64];

    return outcome(syscall(SYS_syslog, 3, text, sizeof text));
}

static int try_iopl(const char *argument)
{
#ifdef SYS_iopl
    return outcome(syscall(SYS_iopl, 3));
#else
    return ENOSYS;
#endif
}

static int try_modify_ldt(const char *argument)
{
#ifdef SYS_modify_ldt
    char table[64];

    return outcome(syscall(SYS_modify_ldt, 0, table, sizeof table));
#else
    return ENOSYS;
#endif
}

static int set_host_name(const char *argument)
{
    char name[64];

    gethostname(name, sizeof name);
    return outcome(sethostname(name, strlen(name)));
}

static int try_fanotify(const char *argument)
{
    return outcome(syscall(SYS_fanotify_init, 0, O_RDONLY));
}

static int open_by_handle(const char *argument)
{
    struct {
        struct file_handle head;
        unsigned char room[128];
    } handle = {.head = {.handle_bytes = 128}};
    int mount, root = open("/", O_RDONLY | O_DIRECTORY);

    if (name_to_handle_at(AT_FDCWD, argument, &handle.head, &mount, 0) < 0)
        return errno;
    return outcome(open_by_handle_at(root, &handle.head, O_RDONLY));
}

/* The handle made by hand: there is no asking for one. */
static int open_by_made_up_handle(const char *argument)
{
    struct {
        struct file_handle head;
        unsigned char room[8];
    } handle = {.head = {.handle_bytes = 8, .handle_type = 1}, .room = {2}};
    int root = open("/", O_RDONLY | O_DIRECTORY);
    int error = outcome(open_by_handle_at(root, &handle.head, O_RDONLY));

    return error == ESTALE || error == EOPNOTSUPP ? 0 : error;
}

static int compare(const char *argument)
{
    return outcome(syscall(SYS_kcmp, getpid(), (pid_t)strtol(argument, NULL, 10), 0, 0, 0));
}

static int set_memory_policy(const char *argument)
{
    return outcome(syscall(SYS_set_mempolicy, 0, NULL, 0));
}

/* A terminal that is the caller's, to be typed into: a classic of sudo and su. */
static int push_input_by(unsigned long request)
{
    int master = posix_openpt(O_RDWR | O_NOCTTY), terminal, number, unlocked = 0;
    char path[32], key = 'x';

    if (ioctl(master, TIOCSPTLCK, &unlocked) < 0 || ioctl(master, TIOCGPTN, &number) < 0)
        return errno;
    snprintf(path, sizeof path, "/dev/pts/%d", number);
    setsid();
    terminal = open(path, O_RDWR);
    if (terminal < 0 || ioctl(terminal, TIOCSCTTY, 0) < 0)
        return errno;
    return outcome(syscall(SYS_ioctl, terminal, request, &key));
}

static int push_input(const char *argument)
{
    return push_input_by(TIOCSTI);
}

/* The high half of the number: the kernel takes an unsigned int of it. */
static int push_input_in_disguise(const char *argument)
{
    return push_input_by(TIOCSTI | 0x7700000000UL);
}

static int use_console(const char *argument)
{
    char subcode = 6; /* shift state */
    int terminal = posix_openpt(O_RDWR | O_NOCTTY);
    int error = outcome(ioctl(terminal, TIOCLINUX, &subcode));

    return error == ENOTTY || error == EINVAL ? 0 : error;
}

/* getpid() as 32-bit programs call it: numbers that the filter does not know. */
static int call_in_32_bits(const char *argument)
{
#ifdef __x86_64__
    long result;

    __asm__ volatile("int $0x80" : "=a"(result) : "a"(20L) : "memory", "r8", "r9", "r10", "r11");
    if (result < 0)
        errno = (int)-result;
    return outcome(result < 0 ? -1 : 0);
#else
    return ENOSYS;
#endif
}

/* mount() in the numbers of x32, which a 64-bit filter may overlook. */
static int call_in_x32(const char *argument)
{
#ifdef __x86_64__
    long result = syscall(0x40000000 + SYS_mount, NULL, NULL, NULL, 0, NULL);

    return result < 0 && errno == ENOSYS ? 0 : nonsense(result); /* few kernels have them */
#else
    return ENOSYS;
#endif
}

const struct attempt kernel_attempts[] = {
    {"bpf", try_bpf},
    {"perf", try_perf},
    {"add_key", try_add_key},
    {"keyctl", try_keyctl},
    {"request_key", try_request_key},
    {"userfaultfd", try_userfaultfd},
    {"io_uring", try_io_uring},
    {"load_module", load_module},
    {"load_module_file", load_module_file},
    {"unload_module", unload_module},
    {"kexec", try_kexec},
    {"reboot", try_reboot},
    {"swapon", try_swapon},
    {"acct", try_acct},
    {"quotactl", try_quotactl},
    {"set_time", set_time},
    {"set_time_of_day", set_time_of_day},
    {"adjust_time", adjust_time},
    {"read_kernel_log", read_kernel_log},
    {"iopl", try_iopl},
    {"modify_ldt", try_modify_ldt},
    {"set_host_name", set_host_name},
    {"fanotify", try_fanotify},
    {"open_by_handle", open_by_handle},
    {"open_by_made_up_handle", open_by_made_up_handle},
    {"compare", compare},
    {"set_memory_policy", set_memory_policy},
    {"push_input", push_input},
    {"push_input_in_disguise", push_input_in_disguise},
    {"use_console", use_console},
    {"call_in_32_bits", call_in_32_bits},
    {"call_in_x32", call_in_x32},
    {NULL, NULL},
};
