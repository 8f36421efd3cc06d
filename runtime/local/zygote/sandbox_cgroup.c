/*
 * See sandbox_cgroup.h. Runs in the zygote, as root only: an ordinary user's delegated groups are
 * rare and tier B does with process limits.
 */
#include "runtime/local/zygote/sandbox_cgroup.h"

#include "common/base/cleanup.h"
#include "common/base/mem.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

static const char *const names[CONTROLLERS] = {"memory", "pids", "cpu", "freezer"};

enum { SWEEP_TRIES = 500, SWEEP_WAIT_MS = 4 };

static bool write_text(const char *dir, const char *file, const char *text)
{
    AUTO_FREE char *path = xasprintf("%s/%s", dir, file);
    AUTO_CLOSE int fd = open(path, O_WRONLY | O_CLOEXEC);

    return fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
}

static bool write_number(const char *dir, const char *file, int64_t number)
{
    char text[24];

    snprintf(text, sizeof text, "%" PRId64, number);
    return write_text(dir, file, text);
}

/* Whether word is in a list whose words are separated by one of separators. */
static bool has_word(const char *text, const char *separators, const char *word)
{
    size_t len = strlen(word);

    while (*text) {
        size_t n = strcspn(text, separators);

        if (n == len && memcmp(text, word, n) == 0)
            return true;
        text += n;
        text += strspn(text, separators);
    }
    return false;
}

/* False: one is still in use. */
static bool remove_groups_in(const char *base)
{
    DIR *dir = opendir(base);
    struct dirent *entry;
    bool gone = true;

    if (!dir)
        return true;
    while ((entry = readdir(dir)) != NULL) {
        AUTO_FREE char *path = NULL;

        if (entry->d_type != DT_DIR || entry->d_name[0] == '.')
            continue;
        path = xasprintf("%s/%s", base, entry->d_name);
        /* Processes that were killed while they were frozen do not die before they move again. */
        write_text(path, "freezer.state", "THAWED");
        gone = (rmdir(path) == 0 || errno != EBUSY) && gone;
    }
    closedir(dir);
    return gone;
}

static char *make_base(const char *parent, const char *name)
{
    AUTO_FREE char *base = xasprintf("%s/%s", parent, name);

    if (mkdir(base, 0755) < 0 && errno != EEXIST)
        return NULL;
    return TAKE(base);
}

/*
 * Version 2 gives a controller to the children of a group that lists it in subtree_control, which a
 * group with processes of its own may not (the root may). So: our own group, else the root.
 */
static char *make_base_v2(const char *root, const char *own, const char *name,
                          const char *controller)
{
    const char *parents[] = {own, ""};
    char enable[32];

    snprintf(enable, sizeof enable, "+%s", controller);
    for (size_t i = 0; i < 2; i++) {
        AUTO_FREE char *parent = xasprintf("%s%s", root, parents[i]);
        AUTO_FREE char *base = NULL;

        if (!write_text(parent, "cgroup.subtree_control", enable))
            continue;
        base = make_base(parent, name);
        if (base && write_text(base, "cgroup.subtree_control", enable))
            return TAKE(base);
        if (base)
            rmdir(base);
    }
    return NULL;
}

static bool v2_offers(const char *root, const char *controller)
{
    AUTO_FREE char *path = xasprintf("%s/cgroup.controllers", root);
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
    char text[512];
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);

    if (n < 0)
        return false;
    text[n] = '\0';
    return has_word(text, " \n", controller);
}

/* One line of /proc/self/cgroup: "4:memory:/path", or "0::/path" for version 2. */
static void use_line(struct sandbox_cgroups *cgroups, const char *root, const char *line,
                     const char *name)
{
    AUTO_FREE char *copy = xstrdup(line);
    char *list = strchr(copy, ':');
    char *own = list ? strchr(list + 1, ':') : NULL;

    if (!own)
        return;
    *list++ = '\0';
    *own++ = '\0';
    if (strcmp(own, "/") == 0)
        *own = '\0';
    for (int i = 0; i < CONTROLLERS; i++) {
        if (cgroups->controller[i].base)
            continue;
        if (*list && has_word(list, ",", names[i])) {
            AUTO_FREE char *parent = xasprintf("%s/%s%s", root, list, own);

            cgroups->controller[i].version = 1;
            cgroups->controller[i].base = make_base(parent, name);
        } else if (strcmp(copy, "0") == 0) {
            AUTO_FREE char *unified = xasprintf("%s/unified", root);
            const char *top = access(unified, F_OK) == 0 ? unified : root;

            if (!v2_offers(top, names[i]))
                continue;
            cgroups->controller[i].version = 2;
            cgroups->controller[i].base = make_base_v2(top, own, name, names[i]);
        }
        if (!cgroups->controller[i].base)
            cgroups->controller[i].version = 0;
    }
}

/* What there still is, also of a zygote that was killed: its sandboxes may still be dying. */
static void sweep(const struct sandbox_cgroups *cgroups)
{
    bool gone = false;

    for (int tries = 0; !gone && tries < SWEEP_TRIES; tries++) {
        if (tries > 0)
            nanosleep(&(struct timespec){.tv_nsec = SWEEP_WAIT_MS * 1000000}, NULL);
        gone = true;
        for (int i = 0; i < CONTROLLERS; i++)
            if (cgroups->controller[i].base)
                gone = remove_groups_in(cgroups->controller[i].base) && gone;
    }
}

void sandbox_cgroups_find(struct sandbox_cgroups *cgroups, const char *root, const char *self,
                          const char *name)
{
    AUTO_FREE char *text = xstrdup(self);
    char *rest = text;

    *cgroups = (struct sandbox_cgroups){0};
    for (char *line; (line = strsep(&rest, "\n")) != NULL;)
        use_line(cgroups, root, line, name);
    sweep(cgroups);
}

void sandbox_cgroups_deinit(struct sandbox_cgroups *cgroups)
{
    sweep(cgroups);
    for (int i = 0; i < CONTROLLERS; i++) {
        if (!cgroups->controller[i].base)
            continue;
        rmdir(cgroups->controller[i].base);
        free(cgroups->controller[i].base);
    }
    *cgroups = (struct sandbox_cgroups){0};
}

enum { CPU_PERIOD_US = 100000, FREEZE_TRIES = 500, FREEZE_WAIT_MS = 1 };

static bool set_cpu(const char *dir, int version, int64_t millis)
{
    int64_t quota = millis * CPU_PERIOD_US / 1000;
    char text[64];

    if (version == 1)
        return write_number(dir, "cpu.cfs_period_us", CPU_PERIOD_US) &&
               write_number(dir, "cpu.cfs_quota_us", quota);
    snprintf(text, sizeof text, "%" PRId64 " %d", quota, CPU_PERIOD_US);
    return write_text(dir, "cpu.max", text);
}

static bool set_memory(const char *dir, int version, int64_t bytes)
{
    if (version == 1) {
        if (!write_number(dir, "memory.limit_in_bytes", bytes))
            return false;
        write_number(dir, "memory.memsw.limit_in_bytes", bytes); /* where swap is counted */
        return true;
    }
    write_text(dir, "memory.swap.max", "0");
    return write_number(dir, "memory.max", bytes);
}

static bool set_limit(const char *dir, enum sandbox_controller controller, int version,
                      const struct zygote_limits *limits)
{
    switch (controller) {
    case CONTROLLER_MEMORY:
        /* A writable layer in memory is charged to the group. */
        return set_memory(dir, version,
                          limits->memory_bytes + (limits->on_disk ? 0 : limits->disk_bytes));
    case CONTROLLER_PIDS:
        return write_number(dir, "pids.max", limits->pids);
    case CONTROLLER_CPU:
        return set_cpu(dir, version, limits->cpu_millis);
    case CONTROLLER_FREEZER:
        return true;
    case CONTROLLERS:
        break;
    }
    return false;
}

static bool open_way(const char *dir, enum sandbox_controller controller, int version,
                     struct sandbox_cgroup_ways *ways)
{
    AUTO_FREE char *tasks = xasprintf("%s/tasks", dir);

    if (version == 1)
        return (ways->tasks_fd[controller] = open(tasks, O_WRONLY | O_CLOEXEC)) >= 0;
    if (ways->group_fd >= 0)
        return true; /* one group of version 2 has all its controllers */
    return (ways->group_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) >= 0;
}

/* Two controllers may share one hierarchy, and then one directory: the second mkdir finds it. */
bool sandbox_cgroups_make(const struct sandbox_cgroups *cgroups, const char *id,
                          const struct zygote_limits *limits, struct sandbox_cgroup_ways *ret,
                          struct status *st)
{
    *ret = (struct sandbox_cgroup_ways){{-1, -1, -1, -1}, -1};
    for (int i = 0; i < CONTROLLERS; i++) {
        int version = cgroups->controller[i].version;
        AUTO_FREE char *dir = NULL;

        if (!version)
            continue;
        dir = xasprintf("%s/%s", cgroups->controller[i].base, id);
        if ((mkdir(dir, 0755) < 0 && errno != EEXIST) ||
            !set_limit(dir, (enum sandbox_controller)i, version, limits) ||
            !open_way(dir, (enum sandbox_controller)i, version, ret)) {
            status_set(st, CODE_INTERNAL, 0, "the %s limit cannot be set in %s: %s", names[i], dir,
                       strerror(errno));
            sandbox_cgroup_ways_deinit(ret);
            return false;
        }
    }
    return true;
}

bool sandbox_cgroups_join(const struct sandbox_cgroup_ways *ways)
{
    for (int i = 0; i < CONTROLLERS; i++) {
        if (ways->tasks_fd[i] >= 0 && write(ways->tasks_fd[i], "0", 1) != 1)
            return false;
    }
    return true;
}

void sandbox_cgroup_ways_deinit(struct sandbox_cgroup_ways *ways)
{
    for (int i = 0; i < CONTROLLERS; i++)
        cleanup_close(&(int){take_fd(&ways->tasks_fd[i])});
    cleanup_close(&(int){take_fd(&ways->group_fd)});
}

/* Any group of version 2 will do. */
static const char *freezer_base(const struct sandbox_cgroups *cgroups, int *ret_version)
{
    for (int i = CONTROLLERS - 1; i >= 0; i--) {
        *ret_version = cgroups->controller[i].version;
        if (i == CONTROLLER_FREEZER ? *ret_version == 1 : *ret_version == 2)
            return cgroups->controller[i].base;
    }
    return NULL;
}

bool sandbox_cgroups_can_freeze(const struct sandbox_cgroups *cgroups)
{
    int version;

    return freezer_base(cgroups, &version) != NULL;
}

static bool reads(const char *dir, const char *file, const char *text)
{
    AUTO_FREE char *path = xasprintf("%s/%s", dir, file);
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
    char got[256];
    ssize_t n = fd < 0 ? -1 : read(fd, got, sizeof got - 1);

    if (n < 0)
        return false;
    got[n] = '\0';
    return strstr(got, text) != NULL;
}

/* Processes stop when they next pass through the kernel: ask until all did. */
bool sandbox_cgroups_freeze(const struct sandbox_cgroups *cgroups, const char *id, bool frozen)
{
    int version;
    const char *base = freezer_base(cgroups, &version);
    AUTO_FREE char *dir = base != NULL ? xasprintf("%s/%s", base, id) : NULL;
    bool done = false;

    for (int tries = 0; base != NULL && !done && tries < FREEZE_TRIES; tries++) {
        if (tries > 0)
            nanosleep(&(struct timespec){.tv_nsec = FREEZE_WAIT_MS * 1000000}, NULL);
        if (version == 1)
            done = write_text(dir, "freezer.state", frozen ? "FROZEN" : "THAWED") &&
                   reads(dir, "freezer.state", frozen ? "FROZEN" : "THAWED");
        else
            done = write_text(dir, "cgroup.freeze", frozen ? "1" : "0") &&
                   reads(dir, "cgroup.events", frozen ? "frozen 1" : "frozen 0");
    }
    return done;
}

bool sandbox_cgroups_remove(const struct sandbox_cgroups *cgroups, const char *id)
{
    bool busy = false;

    for (int i = 0; i < CONTROLLERS; i++) {
        AUTO_FREE char *dir = NULL;

        if (!cgroups->controller[i].version)
            continue;
        dir = xasprintf("%s/%s", cgroups->controller[i].base, id);
        busy = (rmdir(dir) < 0 && errno == EBUSY) || busy;
    }
    return !busy;
}
