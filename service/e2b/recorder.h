/*
 * A verb of the recorder on its way through a sandbox: finding out whether the recorder is there,
 * installing it, sending the spec along, and starting the verb. The ordinary case is one Start.
 */
#pragma once

#include "common/base/buf.h"
#include "service/e2b/process.h"

struct recorder_upload;

struct recorder_run {
    /* Set before recorder_begin(); what is owned is freed by recorder_deinit(). */
    struct request *request;
    char *sandbox_id; /* owned */
    char **args;      /* owned; the verb and its options, ends with NULL */
    uint8_t *spec;    /* owned; NULL: none */
    size_t spec_len;
    bool idempotent;
    bool only_look;  /* a sandbox without commands stays as it is */
    bool with_stdin; /* of the verb */
    int64_t lease_ms;
    bool (*has_room)(struct recorder_run *run); /* as struct start has them */
    void (*on_stdout)(struct recorder_run *run, const uint8_t *data, size_t len);
    void (*restart)(struct recorder_run *run);
    /* v: OK when the verb ran to its end; then start.process has the exit code. */
    void (*done)(struct recorder_run *run, const struct verdict *v);

    enum {
        RECORDER_LOOK,   /* it is not there (only_look): are there commands all the same? */
        RECORDER_PROBE,  /* is it there? asked before a spec is sent where its directory may not be
                          */
        RECORDER_ASK,    /* it is not: what machine is this, who runs commands here, and where? */
        RECORDER_UPLOAD, /* the program, under a name of its own */
        RECORDER_SETUP,  /* run once, then given its right name */
        RECORDER_VERB,
    } step;
    bool has_recorder, no_root, installed, looked;
    bool committed; /* output was handed on: no second try */
    struct start start;
    struct recorder_upload *upload; /* owned; NULL: none was needed yet */
    struct loop_timer timer;
    struct retry retry;
    char nonce[33];
    struct buf answer;                  /* what RECORDER_ASK printed */
    const struct e2b_recorder *program; /* borrowed; the one that fits */
};

/* Copies of what the caller of e2b.h passes. */
void recorder_init(struct recorder_run *run, struct request *request, const char *sandbox_id,
                   const char *const *args, const uint8_t *spec, size_t spec_len);
void recorder_begin(struct recorder_run *run);
/* For request.aborted. */
bool recorder_abort(struct recorder_run *run, const struct status *st);
/* Exit code and stderr. */
void recorder_output(const struct recorder_run *run, struct e2b_output *ret);
/* On the loop's thread once, before the request finishes; frees nothing that destroy needs. */
void recorder_stop(struct recorder_run *run);
void recorder_deinit(struct recorder_run *run);
