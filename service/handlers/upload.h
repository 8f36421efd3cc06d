/*
 * A stream of bytes from the client into the sandbox, which goes on after a cut and becomes
 * something at its commit: what UploadFile and UploadTree have in common.
 */
#pragma once

#include "recorder/v1/recorder.pb-c.h"
#include "sandbox/v1/files.pb-c.h"
#include "service/e2b/e2b.h"
#include "service/handlers/validate.h"
#include "service/rpc/call.h"

enum { UPLOAD_SHA256_LEN = 32, UPLOAD_STAGED_MAX = VALIDATE_PATH_MAX + 128 };

enum upload_state {
    UPLOAD_NEW,       /* the client has not said what it is */
    UPLOAD_RECEIVING, /* bytes come and go */
    UPLOAD_ENDING,    /* all that came is on its way */
    UPLOAD_ASKING,    /* the recorder counts, or commits */
    UPLOAD_OVER,
};

struct upload;

/* Besides, the requests, commits and responses of all kinds have the same fields in front. */
struct upload_kind {
    const ProtobufCMessageDescriptor *response;
    bool is_directory; /* what path names */
    /* Checks what only this kind has, and keeps a copy. */
    bool (*take_commit)(struct upload *u, const ProtobufCMessage *commit, struct status *st);
    /* Says to the recorder what the commit does; size and digest are there. */
    void (*commit)(struct upload *u, Recorder__V1__FileSpec *spec,
                   Recorder__V1__FileContent *content);
    void (*destroy)(struct upload *u); /* what it keeps, not itself. NULL: nothing */
};

/* The first member of a kind's own. */
struct upload {
    const struct upload_kind *kind;
    struct call *call; /* borrowed: it owns this */
    enum upload_state state;
    struct e2b_op op;
    bool running;           /* op is */
    struct e2b_upload *out; /* NULL: nothing is to be sent (yet) */
    struct e2b_output output;
    bool held;
    struct status verdict; /* what the call ends with when op has ended; OK: go on */

    char sandbox_id[VALIDATE_ID_MAX + 1];
    char user[VALIDATE_USER_MAX + 1];
    char path[VALIDATE_PATH_MAX + 1];
    char staged[UPLOAD_STAGED_MAX]; /* how the names of the parts begin */
    uint64_t offset;

    bool committing;
    uint64_t size;
    uint8_t sha256[UPLOAD_SHA256_LEN];
};

/* u: zeroed, from malloc; the call's from now on. */
void upload_begin(struct upload *u, const struct upload_kind *kind, struct call *c);
