/*
 * Commands: started, followed, fed, and remembered for a while after their end.
 *
 * A process passes on what it prints to everyone who follows it, and to nobody when there is
 * nobody. When no follower keeps up, the reading of this one process stops (its pipe fills, it
 * waits), and of no other. Of several followers the slowest sets the pace, within what may wait for
 * it; but one that takes nothing at all any more is let go, for the sake of the others. Losing
 * followers never ends a process.
 */
#pragma once

#include "common/base/list.h"
#include "common/http/loop.h"
#include "envd/process/process.pb-c.h"
#include "runtime/local/agent/rpc.h"

#include <stdbool.h>
#include <sys/ioctl.h>
#include <sys/types.h>

struct processes {
    struct agent *agent; /* borrowed */
    struct list all;
};

/* A process has the first two, or the terminal alone. */
enum { PROCESS_STDOUT, PROCESS_STDERR, PROCESS_TERMINAL, PROCESS_OUTPUTS };

struct process_output {
    struct process *process; /* borrowed: the owner */
    struct loop_fd io;       /* fd -1: closed */
};

struct process {
    struct processes *table; /* borrowed */
    struct list node;
    pid_t pid;
    Process__ProcessConfig *config; /* owned: as requested */
    char *tag;                      /* owned; NULL: none */
    bool has_terminal;
    int terminal; /* owned; hangs up when it is closed, so it is open to the end; -1: closed */
    struct process_output out[PROCESS_OUTPUTS];
    struct loop_fd in;     /* fd -1: none, or closed */
    struct list inputs;    /* struct process_input, in order */
    size_t input_len;      /* of all of them */
    bool close_in;         /* when the inputs are written */
    struct loop_fd exec;   /* closed by a successful exec(); carries a struct spawn_failure else */
    struct list followers; /* struct follower */
    struct loop_timer deadline; /* kills it */
    struct loop_timer memory;   /* forgets it */
    bool started;               /* exec() succeeded */
    bool killed;                /* by request: its pipes are not waited for */
    bool reaped;
    bool ended; /* everyone was told; only remembered */
    int wait_status;
};

/* One stream of events: of the call that started it, or of one that attached. */
struct follower {
    struct list node;
    struct process *process; /* borrowed */
    struct rpc_call *call;   /* borrowed */
    bool full;
    struct loop_timer patience; /* set while others wait for it */
    size_t pending;             /* what it had yet to take when it was last looked at */
    int stalled;                /* looks since it took something */
};

void processes_init(struct processes *table, struct agent *agent);
/* A child of the agent has ended. */
void processes_reaped(struct processes *table, pid_t pid, int wait_status);

/* One that can be found by requests; NULL when there is none. Ended ones only where said so. */
struct process *processes_find(struct processes *table, const Process__ProcessSelector *selector,
                               bool ended_too, struct status *st);

/* How a command is started. */
struct process_start {
    Process__ProcessConfig *config;
    struct user user;
    char *tag; /* NULL: none */
    bool with_stdin;
    const struct winsize *terminal; /* NULL: pipes instead */
};

/* Starts a command, which the call follows, if there is one. Takes config and tag. NULL: it failed.
 */
struct process *process_start(struct processes *table, struct rpc_call *call,
                              const struct process_start *start, struct status *st);
/* False: it has no terminal. */
bool process_resize(struct process *p, const struct winsize *size, struct status *st);
/* Lets a call follow it: it gets `start`, then what is printed from now on, then the end. */
void process_follow(struct process *p, struct rpc_call *call);
void process_signal(struct process *p, int sig);

/* In process.c: an output was closed; may end and even free what nobody remembers. */
void process_output_closed(struct process *p);

/* ---- process_output.c ---- */

void process_output_open(struct process_output *out, int fd); /* takes fd; not read yet */
struct follower *process_follower_new(struct process *p, struct rpc_call *call);

/* Begins, goes on with, or stops reading, as followers can take it. */
void process_output_update(struct process *p);
/* Reads what is there, at most a pipe full, whether or not anyone keeps up, and closes. */
void process_output_drain(struct process *p);
bool process_output_is_closed(const struct process *p);
void process_output_close(struct process *p);
/* Sends an event to every follower. */
void process_broadcast(struct process *p, Process__ProcessEvent *event);
/* Ends every follower's stream. */
void process_finish_followers(struct process *p, const struct status *failure);

/* ---- process_input.c ---- */

/* done is called once the data is written (0) or cannot be (errno). */
struct process_input {
    struct list node;
    uint8_t *data; /* owned */
    size_t len;
    size_t written;
    void (*done)(struct process_input *in, int error); /* then it is freed */
    void *ctx;                                         /* of done */
};

/* Takes data. False: more is waiting than a process may have; data is freed, done not called. */
bool process_input_add(struct process *p, uint8_t *data, size_t len,
                       void (*done)(struct process_input *in, int error), void *ctx);
void process_input_close(struct process *p);
/* The process is gone: what waits fails with EPIPE. */
void process_input_end(struct process *p);
void process_input_ready(struct loop_fd *io, uint32_t events);
