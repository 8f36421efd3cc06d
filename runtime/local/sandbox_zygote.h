/*
 * The zygote process itself, and what is said between it and zygote.c. Two SOCK_SEQPACKET pairs:
 * requests with their replies, one at a time, and exits, which come by themselves.
 */
#pragma once

#include "runtime/local/zygote.h"

enum zygote_op { ZYGOTE_CREATE, ZYGOTE_KILL };

/*
 * A create carries the agent's configuration as a descriptor. The reply is a struct status; that of
 * a create carries the two sockets of sandbox_net.h.
 */
struct zygote_request {
    enum zygote_op op;
    char id[ZYGOTE_ID_MAX + 1];
    struct zygote_limits limits;
};

/* The first reply, after the probe. */
struct zygote_hello {
    struct status status;
    enum zygote_tier tier;
    bool redirects; /* see zygote_net_redirects() */
    char summary[1024];
};

struct zygote_process {
    const char *data_dir;
    int agent_fd;
    int request_fd;
    int exit_fd;
    bool net_proxy; /* as of zygote_config */
};

/* Serves until the daemon's end of request_fd is closed. */
_Noreturn void sandbox_zygote_run(const struct zygote_process *process);
