/*
 * See sandbox_host.h. Runs in the zygote at its start, before there is any sandbox.
 *
 * In tier A the host's system directories belong to ids that no sandbox has. Id-mapped clones of
 * their mounts, made here once and inherited by every sandbox's mount namespace, show them as
 * root's inside, so that root there can change them (in the sandbox's own upper layer). Kernels
 * before 5.19 do without.
 */
#include "runtime/local/sandbox_host.h"

#include "common/base/cleanup.h"
#include "common/base/mem.h"
#include "runtime/local/sandbox_etc.h"
#include "runtime/local/sandbox_filter.h"
#include "runtime/local/sandbox_ids.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static const char *const system_directories[] = {
    "usr", "opt", "etc", "bin", "sbin", "lib", "lib32", "lib64", "libx32",
};

/* An id-mapped clone of the mount that holds source, attached at target. */
static bool attach_idmapped(const char *source, const char *target, int userns)
{
    struct mount_attr attr = {
        .attr_set = MOUNT_ATTR_IDMAP | MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV,
        .userns_fd = (uint64_t)userns,
    };
    AUTO_CLOSE int tree =
        (int)syscall(SYS_open_tree, AT_FDCWD, source, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);

    if (tree < 0)
        return false;
    if (syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH, &attr, sizeof attr) < 0)
        return false;
    return (mkdir(target, 0755) == 0 || errno == EEXIST) &&
           syscall(SYS_move_mount, tree, "", AT_FDCWD, target, MOVE_MOUNT_F_EMPTY_PATH) == 0;
}

static void add_layer(struct sandbox_host *host, const char *name, int userns)
{
    struct sandbox_layer *layer = &host->layer[host->n_layers];
    char source[32], target[32];
    struct stat info;
    ssize_t n;

    snprintf(source, sizeof source, "/%s", name);
    snprintf(target, sizeof target, "lower/%s", name);
    if (lstat(source, &info) < 0)
        return;
    *layer = (struct sandbox_layer){.name = name};
    if (S_ISLNK(info.st_mode)) {
        n = readlink(source, layer->link, sizeof layer->link - 1);
        layer->link[n > 0 ? n : 0] = '\0';
    } else if (strcmp(name, "etc") == 0) {
        strcpy(layer->lower, "etc"); /* the copy has the right owner already */
    } else if (userns >= 0 && attach_idmapped(source, target, userns)) {
        strcpy(layer->lower, target);
    } else {
        strcpy(layer->lower, source);
        host->idmapped = false;
    }
    host->n_layers++;
}

/* Nothing that the zygote or a sandbox mounts is to reach the host, nor the other way round. */
static bool own_mounts(struct status *st)
{
    if (unshare(CLONE_NEWNS) < 0)
        return status_set(st, CODE_FAILED_PRECONDITION, 0,
                          "a mount namespace of its own is refused (%s): CAP_SYS_ADMIN is missing, "
                          "as in a container without --privileged",
                          strerror(errno));
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        return status_set(st, CODE_FAILED_PRECONDITION, 0, "mounts cannot be made private: %s",
                          strerror(errno));
    return true;
}

/* In a user namespace root may have fewer ids than the range takes. */
static bool check_ids(struct status *st)
{
    FILE *file = fopen("/proc/self/uid_map", "re");
    unsigned long inside, count;
    bool found = false;

    while (file && !found && fscanf(file, "%lu %*u %lu", &inside, &count) == 2)
        found = inside <= SANDBOX_ID_BASE && SANDBOX_ID_BASE - inside + SANDBOX_ID_RANGE <= count;
    if (file)
        fclose(file);
    if (!found)
        return status_set(st, CODE_FAILED_PRECONDITION, 0,
                          "the ids %d to %d are not to be had, as in a user namespace",
                          SANDBOX_ID_BASE, SANDBOX_ID_BASE + SANDBOX_ID_RANGE - 1);
    return true;
}

static bool make_directories(struct status *st)
{
    if ((mkdir("mnt", 0755) < 0 && errno != EEXIST) ||
        (mkdir("lower", 0755) < 0 && errno != EEXIST))
        return status_set(st, CODE_FAILED_PRECONDITION, 0,
                          "directories cannot be made in the data directory: %s", strerror(errno));
    return true;
}

static void find_cgroups(struct sandbox_host *host, const char *name)
{
    char self[4096];
    AUTO_CLOSE int fd = open("/proc/self/cgroup", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? 0 : read(fd, self, sizeof self - 1);

    self[n > 0 ? n : 0] = '\0';
    sandbox_cgroups_find(&host->cgroups, "/sys/fs/cgroup", self, name);
}

bool sandbox_host_init(struct sandbox_host *host, enum zygote_tier tier, int agent_fd,
                       const char *cgroup_name, struct status *st)
{
    bool range = tier == ZYGOTE_TIER_A;
    AUTO_CLOSE int userns = -1;

    *host = (struct sandbox_host){
        .tier = tier, .agent_fd = agent_fd, .uid = geteuid(), .gid = getegid(), .idmapped = range};
    if (!make_directories(st) || !sandbox_filter_make(&host->filter, st))
        return false;
    if (range) {
        if (!check_ids(st) || !own_mounts(st))
            return false;
        userns = sandbox_ids_namespace(host);
        find_cgroups(host, cgroup_name);
    }
    if (!sandbox_etc_make("/etc", "etc", range ? SANDBOX_ID_BASE : host->uid,
                          range ? SANDBOX_ID_BASE : host->gid, st))
        return false;
    for (size_t i = 0; i < sizeof system_directories / sizeof *system_directories; i++)
        add_layer(host, system_directories[i], userns);
    return true;
}

void sandbox_host_deinit(struct sandbox_host *host)
{
    /* Or removing the data directory would come upon the system's own. */
    for (int i = 0; i < host->n_layers; i++)
        if (strncmp(host->layer[i].lower, "lower/", 6) == 0)
            umount2(host->layer[i].lower, MNT_DETACH);
    host->n_layers = 0;
    sandbox_cgroups_deinit(&host->cgroups);
    free(host->filter.filter);
    host->filter.filter = NULL;
}
