/* A sandbox from outside: made, and cleaned up after. Runs in the zygote. */
#pragma once

#include "common/base/list.h"
#include "runtime/local/sandbox_host.h"

#include <stdbool.h>
#include <sys/types.h>

struct sandbox {
    struct list node; /* of the zygote's list */
    char id[ZYGOTE_ID_MAX + 1];
    pid_t pid;                      /* of its agent; everything inside dies with it */
    int pidfd;                      /* owned */
    struct sandbox_net_sockets net; /* owned; the daemon has its own copies */
    bool ended;
    int wait_status; /* once ended */
};

/*
 * Makes a sandbox; when this returns true its agent serves. config_fd is the text of
 * runtime/local/agent/handover.h. The caller owns the result.
 */
struct sandbox *sandbox_spawn(const struct sandbox_host *host, const char *id,
                              const struct zygote_limits *limits, int config_fd, struct status *st);

/* Ends its processes and waits for them, unless it has ended already. */
void sandbox_end(struct sandbox *sandbox);

/* Removes what an ended sandbox left on the host, and frees it. */
void sandbox_free(const struct sandbox_host *host, struct sandbox *sandbox);
