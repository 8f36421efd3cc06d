/*
 * The inside of a sandbox: what its first process does between clone3() and becoming the agent.
 */
#pragma once

#include "runtime/local/zygote/sandbox_host.h"

/* Why a sandbox could not be made: the step and its errno. Sent on the sync socket. */
struct sandbox_failure {
    char step[96];
    int error;
};

/* How much is sent on the sync socket before the agent's byte: with the writable layer, and then
 * with the sockets of sandbox_net.h. */
enum { SANDBOX_STORE_WORD = 5, SANDBOX_NETWORK_WORD = 3 };

/* What the first process needs besides what it shares; the descriptors are its own copies. */
struct sandbox_inside {
    const struct sandbox_host *host;
    const struct sandbox_layers *layers; /* the system it sees */
    struct zygote_limits limits;         /* all given */
    int disk_fd; /* the mount of its writable layer; -1: that is in memory */
    int http_fd;
    int dial_fd;
    int config_fd;
    int files_fd; /* what to start with; -1: nothing */
    struct sandbox_cgroup_ways cgroups;
    int sync_fd; /* SOCK_SEQPACKET: receives the word to go on; sends a failure or the agent's byte
                  */
};

/* Becomes the agent. Returns only by _exit() after a failure was sent. */
_Noreturn void sandbox_setup(const struct sandbox_inside *in);
