/*
 * Claiming a command's id. A directory with everything in it, its lock held, is made under a
 * private name and published by one rename: exactly one caller wins, and whoever sees the directory
 * sees it whole.
 */
#pragma once

#include "runtime/recorder/spec.h"
#include "runtime/recorder/state.h"

struct claim {
    int dir;      /* owned */
    int lock;     /* owned; the lock is held as long as it is open, in any process */
    int listener; /* owned; the `control` socket */
};

#define CLAIM_INIT ((struct claim){.dir = -1, .lock = -1, .listener = -1})

enum claim_result {
    CLAIM_WON,    /* *ret is the caller's: start the writer */
    CLAIM_EXISTS, /* somebody has it: ret->dir alone is open */
    CLAIM_FAILED,
};

enum claim_result claim_make(const struct state *s, const struct command_spec *spec,
                             struct claim *ret, struct status *st);
void claim_deinit(struct claim *c);

/* Whether the command in dir is the one that the specification means: MISMATCH and FOREIGN. */
bool claim_matches(int dir, const struct command_spec *spec, struct status *st);

/* Refuses a command of another sandbox (FOREIGN). sandbox_id: NULL or empty for any. */
bool claim_is_native(int dir, const char *sandbox_id, struct status *st);

/* Whether somebody holds the lock. Only looks. */
bool lock_is_held(int dir);
/* Takes it; -1 when it is held. */
int lock_take(int dir);
