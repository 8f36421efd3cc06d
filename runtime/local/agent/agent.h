/* The agent as a whole: what its parts find each other through. */
#pragma once

#include "common/base/status.h"
#include "common/http/server.h"
#include "runtime/local/agent/config.h"
#include "runtime/local/agent/dial.h"
#include "runtime/local/agent/events.h"
#include "runtime/local/agent/metrics.h"
#include "runtime/local/agent/process.h"

struct agent {
    struct config config;
    struct loop loop;
    struct loop_fd signals;
    struct http_server *server; /* owned */
    struct dial dial;
    struct processes processes;
    struct list watchers; /* of watch_rpc.c */
    size_t n_watchers;
    struct metrics metrics;
    struct events events;
    pid_t start_pid;                  /* startup.c's: until all is ready; 0: it is not there, */
    pid_t ready_pid;                  /* nor what tells that all is */
    int64_t init_ns;                  /* the time of the newest /init; 0: none had one */
    const struct rpc_method *methods; /* static */
};

/* Begins to serve on the descriptors of handover.h. config and loop are set. */
bool agent_init(struct agent *a, struct status *st);

/* Children have ended: collects all of them. */
void agent_reap(struct agent *a);
