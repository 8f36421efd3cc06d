/*
 * What all sandboxes of a zygote share, found and made once at its start: the tier, the lower
 * layers of the system directories, the system call filter, the control groups, the agent program.
 */
#pragma once

#include "common/base/status.h"
#include "runtime/local/zygote/sandbox_cgroup.h"
#include "runtime/local/zygote/sandbox_layers.h"
#include "runtime/local/zygote/sandbox_net.h"
#include "runtime/local/zygote/sandbox_slots.h"
#include "runtime/local/zygote/zygote.h"

#include <linux/filter.h>
#include <stdbool.h>
#include <sys/resource.h>
#include <sys/types.h>

struct sandbox_host {
    enum zygote_tier tier;
    int agent_fd; /* borrowed: the agent program, sealed */
    uid_t uid;    /* tier B: the one id */
    gid_t gid;
    struct sandbox_slots *slots;  /* owned; tier A: the ids */
    bool idmapped;                /* tier A: the system's files belong to root inside as well */
    struct sandbox_layers system; /* owned */
    struct sandbox_cgroups cgroups;
    struct sock_fprog filter; /* owned */
    struct sandbox_net net;   /* set up behind sandbox_host_init() */
    struct rlimit files;      /* open files, as they were limited before the zygote */
};

/*
 * The working directory is the data directory, for the zygote's whole life: all paths are relative
 * to it, so that neither its length nor the modes of its parents matter. In tier A the zygote gets
 * a mount namespace of its own. cgroup_name: of the daemon's directories among the control groups.
 */
bool sandbox_host_init(struct sandbox_host *host, enum zygote_tier tier, int agent_fd,
                       const char *cgroup_name, struct status *st);
void sandbox_host_deinit(struct sandbox_host *host);

/* One line for people: what is enforced and how. */
void sandbox_host_describe(const struct sandbox_host *host, char *to, size_t size);
