/*
 * The sentence on what is enforced (see sandbox_host.h), for the ready line and GET /. What a
 * machine does not bound is said as plainly as what it does.
 */
#include "common/base/buf.h"
#include "common/base/cleanup.h"
#include "runtime/local/zygote/sandbox_host.h"

#include <stdio.h>

static void add_controllers(struct buf *text, const struct sandbox_cgroups *cgroups)
{
    static const char *const what[CONTROLLERS] = {[CONTROLLER_MEMORY] = "memory",
                                                  [CONTROLLER_PIDS] = "processes",
                                                  [CONTROLLER_CPU] = "CPU time"};

    for (int i = 0; i < CONTROLLERS; i++)
        if (what[i] && cgroups->controller[i].version)
            buf_printf(text, ", %s (cgroup v%d)", what[i], cgroups->controller[i].version);
}

static void add_what_is_missing(struct buf *text, const struct sandbox_cgroups *cgroups)
{
    if (!cgroups->controller[CONTROLLER_MEMORY].version)
        buf_printf(text, "; NO bound on a sandbox's memory, only on each process's");
    if (!cgroups->controller[CONTROLLER_CPU].version)
        buf_printf(text, "; NO bound on CPU time");
}

void sandbox_host_describe(const struct sandbox_host *host, char *to, size_t size)
{
    AUTO(buf_deinit) struct buf text = BUF_INIT(size);
    const struct sandbox_cgroups *cgroups = &host->cgroups;

    if (host->tier == ZYGOTE_TIER_A)
        buf_printf(&text, "tier A (root): %d ids %s, %s system files", SANDBOX_SLOT_IDS,
                   host->slots->shared ? "for all sandboxes" : "of its own for each sandbox",
                   host->idmapped ? "id-mapped" : "unmapped");
    else
        buf_printf(&text, "tier B (user namespaces): one id per sandbox");
    buf_printf(&text, "; bounds of each sandbox: disk, inodes");
    if (!cgroups->controller[CONTROLLER_PIDS].version)
        buf_printf(&text, ", processes");
    add_controllers(&text, cgroups);
    add_what_is_missing(&text, cgroups);
    buf_printf(&text, "; network: %s",
               host->net.redirects ? "connections are redirected"
                                   : "through a proxy, which programs have to use");
    snprintf(to, size, "%s", buf_str(&text));
}
