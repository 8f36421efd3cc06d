/*
 * A sandbox from outside: made, ended, and cleaned up after. Runs in the zygote. Nothing waits but
 * sandbox_await() and sandbox_end().
 */
#pragma once

#include "common/base/list.h"
#include "common/http/loop.h"
#include "runtime/local/zygote/sandbox_host.h"

#include <stdbool.h>
#include <sys/types.h>

enum sandbox_phase {
    SANDBOX_STARTING, /* sync_fd will tell */
    SANDBOX_RUNNING,
    SANDBOX_ENDING, /* killed: its processes go, then what they left */
};

struct sandbox {
    struct list node;
    char id[ZYGOTE_ID_MAX + 1];
    enum sandbox_phase phase;
    pid_t pid;                      /* of its agent; everything inside dies with it */
    int pidfd;                      /* owned; readable when all its processes are gone */
    struct sandbox_slots *slots;    /* borrowed */
    uint32_t first_id;              /* owned, of the slots; tier B: 0 */
    int sync_fd;                    /* owned; readable when there is something to hear */
    struct sandbox_net_sockets net; /* owned; the daemon has its own copies */
    int store_fd;                   /* owned; its writable layer, as it is below the overlays */
    int namespace_fd;               /* owned; of its users */
    bool frozen;
    pid_t *stopped; /* owned; frozen without a control group: those that we stopped */
    size_t n_stopped;
    bool reaped;
    int wait_status; /* once reaped */

    /* What follows is sandbox_lives.c's. */
    struct sandbox_lives *lives; /* borrowed */
    uint64_t serial;             /* from 1, in the order of their making */
    int record_fd;               /* owned; -1: none */
    int64_t deadline_ns;
    enum zygote_at_deadline at_deadline;
    int64_t began_ns;        /* boottime; when it was asked for */
    bool expired;            /* it ends because its time is over */
    bool silent;             /* its end is not told */
    struct loop_fd sync_io;  /* while it starts */
    struct loop_fd exit_io;  /* until it is reaped */
    struct loop_timer timer; /* how long it may take to start; when to try again to clear */
    int clearings;           /* tried */
    int64_t start_ms;        /* how long it may take until it serves */
};

/* What a sandbox is made of. All is borrowed for the call. */
struct sandbox_order {
    struct zygote_limits limits; /* all given */
    int config_fd;               /* the text of runtime/local/agent/handover.h */
    int files_fd;                /* what it starts with (sandbox_save.h); -1: nothing */
    const char *rootfs;          /* the system it sees; NULL: the host's */
    int64_t start_ms;            /* how long it may take until it serves; 0: the usual time */
};

/* Begins to make one. The caller owns the result. NULL: nothing is left of it. */
struct sandbox *sandbox_spawn(const struct sandbox_host *host, const char *id,
                              const struct sandbox_order *order, struct status *st);

enum sandbox_word {
    SANDBOX_WAITS,
    SANDBOX_SERVES, /* its sockets take connections; it is running now */
    SANDBOX_FAILED, /* st says why; it is still to be ended */
};

/* What a starting sandbox has to say. */
enum sandbox_word sandbox_hear(struct sandbox *s, struct status *st);
/* Waits for it to serve. False: it is still to be ended. */
bool sandbox_await(struct sandbox *s, struct status *st);

void sandbox_kill(struct sandbox *s);
/* Behind it: one that is frozen has to move once more. */
void sandbox_let_die(const struct sandbox_host *host, struct sandbox *s);
/* Whether all its processes are gone. */
bool sandbox_reap(struct sandbox *s);
/* Removes what it left on the host. False: the kernel is not done with it; try again. */
bool sandbox_clear(const struct sandbox_host *host, const struct sandbox *s);
/* Frees; it is reaped, or never had a process. */
void sandbox_free(struct sandbox *s);

/* All of this, waiting. */
void sandbox_end(const struct sandbox_host *host, struct sandbox *s);

enum { SANDBOX_START_MS = 20000, SANDBOX_CLEAR_MS = 2, SANDBOX_CLEARINGS = 500 };
