/*
 * A unary RPC about files that the recorder carries out in the sandbox (its verb `file`): sends
 * what is to be done, checks the message that comes back (it comes out of the sandbox), and answers
 * with it.
 */
#pragma once

#include "recorder/v1/recorder.pb-c.h"
#include "service/handlers/operation.h"
#include "service/handlers/validate.h"

struct file_call {
    struct operation o;
    struct e2b_output output;
    char sandbox_id[VALIDATE_ID_MAX + 1];
    const ProtobufCMessageDescriptor *type; /* of the response */
    /* The message is whole and its strings are UTF-8: reply() after changing it, or finish the
     * call. NULL: it is the response as it is. */
    void (*answer)(struct file_call *f, ProtobufCMessage *m);
    void (*release)(struct file_call *f); /* frees what f is part of. NULL: it is all */
};

/* Hooks *f, zeroed but for its callbacks and type, to the call and starts the operation. */
void file_call_begin(struct file_call *f, struct call *c, const char *sandbox_id,
                     const Recorder__V1__FileSpec *spec, bool idempotent);
/* The same, alone. */
void file_call_start(struct call *c, const char *sandbox_id, const Recorder__V1__FileSpec *spec,
                     bool idempotent, const ProtobufCMessageDescriptor *type);

/* Runs the verb on o->op, with *ret as e2b_verb() has it. */
void file_verb_run(struct operation *o, const char *sandbox_id, const Recorder__V1__FileSpec *spec,
                   bool idempotent, struct e2b_output *ret);

/* The argument that says it (owned by the caller), for those who run the verb in another way. NULL:
 * it is too long for one. */
char *file_verb_argument(const Recorder__V1__FileSpec *spec);

/* What an exit code of the verb means. says: what the recorder said, or "". */
void file_result(int exit_code, const char *says, struct status *ret);

/* Whether all strings in a message are UTF-8. */
bool message_is_text(const ProtobufCMessage *m);

/* What the recorder printed is none of ours: false. */
bool file_answer_corrupt(struct status *st);
