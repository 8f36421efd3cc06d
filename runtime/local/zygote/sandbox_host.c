/*
 * See sandbox_host.h. Runs in the zygote at its start, before there is any sandbox.
 *
 * In tier A the host's system directories belong to ids that no sandbox has. Id-mapped clones of
 * their mounts (sandbox_layers.h) show them as root's inside, so that root there can change them
 * (in the sandbox's own upper layer). Kernels before 5.19 do without.
 */
#include "runtime/local/zygote/sandbox_host.h"

#include "common/base/cleanup.h"
#include "common/base/mem.h"
#include "runtime/local/zygote/sandbox_etc.h"
#include "runtime/local/zygote/sandbox_filter.h"
#include "runtime/local/zygote/sandbox_ids.h"
#include "runtime/local/zygote/sandbox_layers.h"

#include <errno.h>
#include <fcntl.h>
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

static void add_layer(struct sandbox_host *host, const char *name, int userns)
{
    AUTO_FREE char *source = xasprintf("/%s", name);
    struct sandbox_layer *layer =
        sandbox_layers_add(&host->system, name, strcmp(name, "etc") == 0 ? "etc" : source);

    if (!layer || layer->link)
        return;
    layer->cloned = userns >= 0 && sandbox_layers_can_map(layer->lower, userns);
    host->idmapped = host->idmapped && layer->cloned;
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

static void read_file(const char *path, char *to, size_t size)
{
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? 0 : read(fd, to, size - 1);

    to[n > 0 ? n : 0] = '\0';
}

/* In a user namespace root may have fewer ids than a range takes. */
static bool find_ids(struct sandbox_host *host, struct status *st)
{
    char users[4096], groups[4096];

    read_file("/proc/self/uid_map", users, sizeof users);
    read_file("/proc/self/gid_map", groups, sizeof groups);
    host->slots = xmalloc(sizeof *host->slots);
    if (!sandbox_slots_init(host->slots, users, groups))
        return status_set(st, CODE_FAILED_PRECONDITION, 0,
                          "%d ids from %d or from %d on are not to be had, as in a user namespace",
                          SANDBOX_SLOT_IDS, SANDBOX_SLOTS_FIRST, SANDBOX_SLOTS_LOW);
    return true;
}

/*
 * Our copy of /etc is root's and mapped like the rest. Where it cannot be, because of the file
 * system that the data directory is on, it belongs to one range, and all sandboxes have that.
 */
static bool make_etc(struct sandbox_host *host, int userns, struct status *st)
{
    if (host->tier == ZYGOTE_TIER_B)
        return sandbox_etc_make("/etc", "etc", host->uid, host->gid, st);
    if (!sandbox_etc_make("/etc", "etc", 0, 0, st))
        return false;
    if (userns >= 0 && sandbox_layers_can_map("etc", userns))
        return true;
    host->slots->shared = true;
    return sandbox_etc_make("/etc", "etc", host->slots->first, host->slots->first, st);
}

static bool make_directories(struct status *st)
{
    if (mkdir("mnt", 0755) < 0 && errno != EEXIST)
        return status_set(st, CODE_FAILED_PRECONDITION, 0,
                          "directories cannot be made in the data directory: %s", strerror(errno));
    return true;
}

static void find_cgroups(struct sandbox_host *host, const char *name)
{
    char self[4096];

    read_file("/proc/self/cgroup", self, sizeof self);
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
        if (!find_ids(host, st) || !own_mounts(st))
            return false;
        userns = sandbox_ids_namespace(host);
        find_cgroups(host, cgroup_name);
    }
    if (!make_etc(host, userns, st))
        return false;
    for (size_t i = 0; i < sizeof system_directories / sizeof *system_directories; i++)
        add_layer(host, system_directories[i], userns);
    return true;
}

void sandbox_host_deinit(struct sandbox_host *host)
{
    sandbox_layers_deinit(&host->system);
    free(host->slots);
    host->slots = NULL;
    sandbox_cgroups_deinit(&host->cgroups);
    free(host->filter.filter);
    host->filter.filter = NULL;
}
