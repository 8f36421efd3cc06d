/*
 * What a copy of a sandbox is made of, for the files that make it: copy.c (what there is to copy,
 * and the threads that do it), copy_command.c (one command), copy_lane.c (asking the sandbox).
 */
#pragma once

#include "service/archive/copy.h"

#include "sandbox/v1/commands.pb-c.h"
#include "sandbox/v1/errors.pb-c.h"
#include "service/archive/copy_journal.h"
#include "service/archive/jobs.h"
#include "service/archive/record.h"

#define REASON(name) SANDBOX__V1__ERROR_REASON__ERROR_REASON_##name

struct copier {
    const struct copy_args *a;
    Sandbox__V1__Command **commands; /* owned */
    size_t n_commands;
    struct record_name *have; /* owned; by age */
    size_t n_have;
    atomic_size_t next; /* command to be copied */
    atomic_bool failed;
    pthread_mutex_t lock; /* guards what follows */
    struct copy_result result;
    struct status st; /* of the first that failed */
};

/* A thread that copies. */
struct lane {
    struct copier *c;
    pthread_t thread;
    struct mailbox mailbox;
    struct e2b_op op;
    struct e2b_output output;
    bool woken, ended;
    struct copy_journal journal;
    Archive__V1__Record record; /* of the command at hand; its pieces are owned, not the command */
};

/* --- copy.c --- */

/* One lane failed, or the pod stops. */
bool copier_is_over(const struct copier *c);
/* What the archive has of a command; NULL: nothing. */
const struct record_name *copier_find(const struct copier *c, const char *command_id);

/* --- copy_command.c --- */

/* *command may be replaced by one that tells more. */
bool copy_command(struct lane *l, Sandbox__V1__Command **command, struct status *st);
void lane_drop_pieces(struct lane *l);

/* --- copy_lane.c --- */

void lane_init(struct lane *l, struct copier *c);
void lane_deinit(struct lane *l);
/* Readies l->op for an operation; lane_wait() with &l->ended then waits for its end. */
void lane_prepare(struct lane *l);
void lane_wait(struct lane *l, const bool *flag);
/* A verb that only looks; what it printed is in l->output. */
bool lane_look(struct lane *l, const char *const *args, struct status *st);
/* The verb ran, and l->output says that it could not do it. Always false. */
bool lane_recorder_failed(const struct lane *l, struct status *st);
