/*
 * A unary RPC that is a verb of the recorder: runs it in the sandbox and turns what it printed into
 * the response. What it printed comes out of the sandbox: the handler checks it.
 */
#pragma once

#include "service/handlers/operation.h"
#include "service/handlers/validate.h"

struct verb {
    struct operation o;
    struct e2b_output output;
    char sandbox_id[VALIDATE_ID_MAX + 1];
    char command_id[VALIDATE_ID_MAX + 1];
    void (*answer)(struct verb *v); /* the verb went well: v->output holds what it printed */
    void (*failed)(struct verb *v, struct status *st); /* it did not, st is the answer: may add to
                                                          it. NULL: nothing to add */
    /* The sandbox is gone: asks the archive, on o.op, for the same output. NULL: it has nothing. */
    void (*ask_archive)(struct verb *v);
    bool asked_archive;
    struct status gone;              /* what was known before it was asked */
    void (*release)(struct verb *v); /* frees what v is part of. NULL: it is all */
};

/* Prepares *v, zeroed and embedded or alone on the heap, and hooks it to the call. */
void verb_begin(struct verb *v, struct call *c, const char *sandbox_id, const char *command_id,
                void (*answer)(struct verb *v));
/* The same, alone. */
struct verb *verb_new(struct call *c, const char *sandbox_id, const char *command_id,
                      void (*answer)(struct verb *v));

void verb_start(struct verb *v, const char *const *args, const uint8_t *spec, size_t spec_len,
                bool idempotent);
/* From answer(): runs one more. */
void verb_again(struct verb *v, const char *const *args);

bool verb_check_ids(const char *sandbox_id, const char *command_id, struct status *st);

/* What was printed is none of ours: ends the call. */
void verb_finish_corrupt(struct verb *v, const char *what);
