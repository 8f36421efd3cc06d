/*
 * See sandbox_root.h.
 *
 * One file system of a certain size, in memory or on disk, holds mnt/root (the root directory
 * itself, with home, tmp, var, ... as plain directories) and, out of the sandbox's reach beside it,
 * the upper and work directories of the overlays. What is not named here does not exist inside: an
 * allowlist by construction.
 */
#include "runtime/local/zygote/sandbox_root.h"

#include "common/base/cleanup.h"
#include "common/base/fd.h"
#include "common/base/mem.h"
#include "runtime/local/agent/handover.h"
#include "runtime/local/sudo/sudo_program.h"
#include "runtime/local/zygote/sandbox_rootfs.h"
#include "runtime/local/zygote/sandbox_save.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define ROOT "mnt/root"

static void must(bool done, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void must(bool done, const char *fmt, ...)
{
    int error = errno;
    char step[96];
    va_list args;

    if (done)
        return;
    va_start(args, fmt);
    vsnprintf(step, sizeof step, fmt, args);
    va_end(args);
    errno = error;
    sandbox_fail(step);
}

/*
 * A directory that was saved stays as it is. What a sandbox put in the place of one goes: nothing
 * here may follow a link of its making.
 */
static void make_directory(const char *path, mode_t mode)
{
    struct stat info;

    if (lstat(path, &info) == 0 && S_ISDIR(info.st_mode))
        return;
    must((unlink(path) == 0 || errno == ENOENT) && mkdir(path, mode) == 0 && chmod(path, mode) == 0,
         "make %s", path);
}

static void make_link(const char *to, const char *path)
{
    struct stat info;

    if (lstat(path, &info) == 0 && S_ISDIR(info.st_mode))
        return;
    must((unlink(path) == 0 || errno == ENOENT) && symlink(to, path) == 0, "link %s", path);
}

/* In tier A set-user-id programs work: who becomes root there is nobody outside. */
static unsigned long without_suid(const struct sandbox_host *host)
{
    return host->tier == ZYGOTE_TIER_A ? 0 : MS_NOSUID;
}

static void mount_in_memory(const struct sandbox_host *host, const struct zygote_limits *limits)
{
    char options[96];

    snprintf(options, sizeof options, "size=%" PRId64 ",nr_inodes=%" PRId64 ",mode=0755",
             limits->disk_bytes, limits->files);
    must(mount("sandbox", "mnt", "tmpfs", without_suid(host) | MS_NODEV, options) == 0,
         "mount the writable layer");
}

static void mount_store(const struct sandbox_inside *in)
{
    must(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0, "make mounts private");
    if (in->disk_fd < 0)
        mount_in_memory(in->host, &in->limits);
    else
        must(syscall(SYS_move_mount, in->disk_fd, "", AT_FDCWD, "mnt", MOVE_MOUNT_F_EMPTY_PATH) ==
                 0,
             "mount the disk");
    make_directory("mnt/upper", 0755);
    make_directory("mnt/workdir", 0755);
    make_directory("mnt/lower", 0755);
    make_directory(ROOT, 0755);
    /* A mount of its own: the way up from the root directory ends here. */
    must(mount(ROOT, ROOT, NULL, MS_BIND, NULL) == 0, "bind the root directory");
}

/* What the system brings itself comes with its layers. */
static void make_skeleton(const struct sandbox_host *host, const struct sandbox_layers *layers)
{
    static const struct {
        const char *path;
        mode_t mode;
    } directories[] = {
        {"dev", 0755},      {"dev/pts", 0755},   {"dev/shm", 01777},  {"proc", 0555},
        {"sys", 0555},      {"tmp", 01777},      {"run", 0755},       {"run/lock", 01777},
        {"var", 0755},      {"var/lib", 0755},   {"var/cache", 0755}, {"var/log", 0755},
        {"var/tmp", 01777}, {"var/spool", 0755}, {"home", 0755},      {"home/user", 0755},
        {"root", 0700},     {"srv", 0755},       {"mnt", 0755},       {"media", 0755},
    };
    char path[64];

    for (size_t i = 0; i < sizeof directories / sizeof *directories; i++) {
        if (sandbox_layers_find(layers, directories[i].path))
            continue;
        snprintf(path, sizeof path, ROOT "/%s", directories[i].path);
        make_directory(path, directories[i].mode);
    }
    if (!sandbox_layers_find(layers, "var")) {
        make_link("/run", ROOT "/var/run");
        make_link("/run/lock", ROOT "/var/lock");
    }
    if (host->tier == ZYGOTE_TIER_A && !sandbox_layers_find(layers, "home"))
        must(chown(ROOT AGENT_USER_HOME, AGENT_USER_ID, AGENT_USER_ID) == 0, "give the home away");
}

/* A directory with mounts of its own below it cannot be a lower layer: it is bound, read-only. */
static void bind_read_only(const char *source, const char *target)
{
    must(mount(source, target, NULL, MS_BIND | MS_REC, NULL) == 0, "bind %s", source);
    must(mount(NULL, target, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV, NULL) ==
             0,
         "make %s read-only", source);
}

/*
 * Our own in place of the host's, which would need what /etc here does not have. A file of the
 * upper layer, and so saved with it; directories on the way to it merge with those below.
 */
static void place_sudo(const struct sandbox_host *host, const char *lower)
{
    static const char path[] = "mnt/upper/usr/bin/sudo";
    AUTO_FREE char *bin = xasprintf("%s/bin", lower);
    AUTO_CLOSE int fd = -1;
    struct stat info;

    if (lstat(bin, &info) < 0 || !S_ISDIR(info.st_mode))
        return; /* a template's link: a directory would hide where it leads */
    make_directory("mnt/upper/usr/bin", 0755);
    fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0755);
    must(fd >= 0, "make %s", path);
    must(fd_write_all(fd, sudo_program_start, (size_t)(sudo_program_end - sudo_program_start)),
         "write %s", path);
    if (host->tier == ZYGOTE_TIER_A)
        must(fchmod(fd, 04755) == 0, "make %s set-user-id", path);
}

/*
 * Where the overlay can find it: the overlay keeps it, so nobody else needs to. A template's path,
 * which may have any characters, is bound there too.
 */
static void attach_lower(const struct sandbox_layer *layer, int clone_fd, const char *path)
{
    make_directory(path, 0755);
    if (clone_fd >= 0)
        must(syscall(SYS_move_mount, clone_fd, "", AT_FDCWD, path, MOVE_MOUNT_F_EMPTY_PATH) == 0,
             "attach %s", path);
    else
        must(mount(layer->lower, path, NULL, MS_BIND | MS_REC, NULL) == 0, "bind %s", path);
}

/* The upper directory is the one that is seen: it is as the template has it. */
static void make_upper(const struct sandbox_inside *in, const struct sandbox_layer *layer,
                       const char *upper)
{
    bool is_there = access(upper, F_OK) == 0;

    make_directory(upper, in->layers->foreign ? layer->mode : 0755);
    if (in->layers->foreign && !is_there && in->host->tier == ZYGOTE_TIER_A &&
        layer->uid < SANDBOX_SLOT_IDS && layer->gid < SANDBOX_SLOT_IDS)
        must(chown(upper, layer->uid, layer->gid) == 0, "give %s its owner", upper);
}

static void dress(const struct sandbox_inside *in, const struct sandbox_layer *layer,
                  const char *lower, const char *upper)
{
    if (strcmp(layer->name, "usr") == 0)
        place_sudo(in->host, lower);
    else if (in->layers->foreign && strcmp(layer->name, "etc") == 0)
        sandbox_rootfs_dress_etc(lower, upper);
    else if (in->layers->foreign && strcmp(layer->name, "home") == 0)
        sandbox_rootfs_dress_home(in->host, lower, upper);
}

static void mount_layer(const struct sandbox_inside *in, const struct sandbox_layer *layer,
                        int clone_fd)
{
    AUTO_FREE char *target = xasprintf(ROOT "/%s", layer->name);
    AUTO_FREE char *upper = xasprintf("mnt/upper/%s", layer->name);
    AUTO_FREE char *work = xasprintf("mnt/workdir/%s", layer->name);
    bool attached = clone_fd >= 0 || in->layers->foreign;
    AUTO_FREE char *lower =
        attached ? xasprintf("mnt/lower/%s", layer->name) : xstrdup(layer->lower);
    AUTO_FREE char *options =
        xasprintf("lowerdir=%s,upperdir=%s,workdir=%s,userxattr", lower, upper, work);

    if (layer->link) {
        make_link(layer->link, target);
        return;
    }
    make_directory(target, 0755);
    make_upper(in, layer, upper);
    make_directory(work, 0755);
    if (attached)
        attach_lower(layer, clone_fd, lower);
    if (in->files_fd < 0)
        dress(in, layer, lower, upper);
    if (mount("overlay", target, "overlay", without_suid(in->host) | MS_NODEV, options) == 0)
        return;
    must(errno == EINVAL, "mount the overlay of /%s", layer->name);
    bind_read_only(lower, target);
}

static void bind_file(const char *source, const char *target)
{
    int fd = open(target, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);

    must(fd >= 0, "make %s", target);
    close(fd);
    must(mount(source, target, NULL, MS_BIND, NULL) == 0, "bind %s", source);
}

static void fill_dev(const struct sandbox_host *host)
{
    static const char *const devices[] = {"null", "zero", "full", "random", "urandom", "tty"};
    static const char *const links[][2] = {
        {"/proc/self/fd", "fd"},       {"/proc/self/fd/0", "stdin"}, {"/proc/self/fd/1", "stdout"},
        {"/proc/self/fd/2", "stderr"}, {"pts/ptmx", "ptmx"},
    };
    char source[32], target[64];
    const char *options = host->tier == ZYGOTE_TIER_A
                              ? "newinstance,ptmxmode=0666,mode=0620,gid=5"
                              : "newinstance,ptmxmode=0666,mode=0620"; /* no group tty there */

    for (size_t i = 0; i < sizeof devices / sizeof *devices; i++) {
        snprintf(source, sizeof source, "/dev/%s", devices[i]);
        snprintf(target, sizeof target, ROOT "/dev/%s", devices[i]);
        bind_file(source, target);
    }
    for (size_t i = 0; i < sizeof links / sizeof *links; i++) {
        snprintf(target, sizeof target, ROOT "/dev/%s", links[i][1]);
        must(symlink(links[i][0], target) == 0, "link %s", target);
    }
    must(mount("devpts", ROOT "/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, options) == 0,
         "mount /dev/pts");
}

/* No further user namespaces: a second lock behind the system call filter. Best effort. */
static void forbid_namespaces(void)
{
    AUTO_CLOSE int fd = open(ROOT "/proc/sys/user/max_user_namespaces", O_WRONLY | O_CLOEXEC);

    if (fd >= 0 && write(fd, "0", 1) != 1)
        return;
}

static void mount_proc(void)
{
    static const char *const masked[] = {
        "keys",          "key-users",   "kcore",      "timer_list", "sched_debug",
        "latency_stats", "timer_stats", "kallsyms",   "kmsg",       "sysrq-trigger",
        "vmallocinfo",   "slabinfo",    "kpagecount", "kpageflags",
    };
    char target[64];

    must(mount("proc", ROOT "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) == 0,
         "mount /proc");
    forbid_namespaces();
    for (size_t i = 0; i < sizeof masked / sizeof *masked; i++) {
        snprintf(target, sizeof target, ROOT "/proc/%s", masked[i]);
        if (access(target, F_OK) == 0)
            must(mount("/dev/null", target, NULL, MS_BIND, NULL) == 0, "hide /proc/%s", masked[i]);
    }
    must(mount(ROOT "/proc/sys", ROOT "/proc/sys", NULL, MS_BIND, NULL) == 0 &&
             mount(NULL, ROOT "/proc/sys", NULL,
                   MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) == 0,
         "make /proc/sys read-only");
}

/* Where a start can be told from another: each has an id of its own, as a machine's boot has. */
static void mount_boot_id(void)
{
    uint8_t r[16];
    char text[40];
    int len, fd;

    must(getrandom(r, sizeof r, 0) == sizeof r, "draw a boot id");
    r[6] = (r[6] & 0x0f) | 0x40;
    r[8] = (r[8] & 0x3f) | 0x80;
    len = snprintf(text, sizeof text,
                   "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x\n", r[0],
                   r[1], r[2], r[3], r[4], r[5], r[6], r[7], r[8], r[9], r[10], r[11], r[12], r[13],
                   r[14], r[15]);
    fd = open("mnt/boot_id", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0444);
    must(fd >= 0 && write(fd, text, (size_t)len) == len && close(fd) == 0, "write the boot id");
    must(mount("mnt/boot_id", ROOT "/proc/sys/kernel/random/boot_id", NULL, MS_BIND, NULL) == 0 &&
             mount(NULL, ROOT "/proc/sys/kernel/random/boot_id", NULL,
                   MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) == 0,
         "bind the boot id");
}

int sandbox_root_open_store(void)
{
    return open("mnt", O_PATH | O_DIRECTORY | O_CLOEXEC);
}

void sandbox_root_build(const struct sandbox_inside *in, const int layer_fd[SANDBOX_LAYERS])
{
    bool is_new = in->files_fd < 0;

    mount_store(in);
    if (!is_new)
        must(sandbox_restore(in->host, "mnt", in->files_fd), "bring back its files");
    make_skeleton(in->host, in->layers);
    for (int i = 0; i < in->layers->n; i++)
        mount_layer(in, &in->layers->layer[i], layer_fd[i]);
    if (is_new && !sandbox_layers_find(in->layers, "etc")) {
        make_directory(ROOT "/etc", 0755);
        sandbox_rootfs_dress_etc(NULL, ROOT "/etc");
    }
    fill_dev(in->host);
    mount_proc();
    mount_boot_id();
}

/* The old root is stacked below the new one for a moment, then goes with everything in it. */
void sandbox_root_enter(void)
{
    must(chdir(ROOT) == 0, "enter the root directory");
    must(syscall(SYS_pivot_root, ".", ".") == 0, "change the root directory");
    must(umount2(".", MNT_DETACH) == 0, "leave the host's file system");
    must(chdir("/") == 0, "enter the new root directory");
}
