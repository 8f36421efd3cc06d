/*
 * What a followed stream is made of, for the files that make it: follow.c (its life and the one
 * function that decides), follow_start.c (the two requests it comes from), follow_connect.c (a
 * follower in the sandbox, or the archive), follow_send.c (from it to the client), follow_retry.c
 * (what comes after it), and follow_leave.c (the client or the pod goes away).
 * Everything runs on the call's worker.
 */
#pragma once

#include "service/handlers/follow.h"

#include "common/base/clock.h"
#include "common/base/list.h"
#include "common/base/mem.h"
#include "sandbox/v1/errors.pb-c.h"
#include "service/app.h"
#include "service/e2b/e2b.h"
#include "service/handlers/command_spec.h"
#include "service/handlers/log_view.h"
#include "service/handlers/relay_all.h"
#include "service/handlers/validate.h"

#define REASON(name) SANDBOX__V1__ERROR_REASON__ERROR_REASON_##name

enum follow_state {
    FOLLOW_OPEN,     /* a follower runs, or is being started */
    FOLLOW_WAITING,  /* for the next attempt, or for a paused sandbox */
    FOLLOW_PROBING,  /* the control plane is asked for the sandbox's state */
    FOLLOW_KILLING,  /* the client is gone and wanted the command to go with it */
    FOLLOW_FINISHED, /* the client has its answer; operations may still come back */
};

struct follow {
    struct call *call; /* borrowed: it owns this */
    const struct app *app;
    enum follow_state state;
    char sandbox_id[VALIDATE_ID_MAX + 1];
    char command_id[VALIDATE_ID_MAX + 1];

    /* What each follower is asked for. */
    uint8_t *spec; /* owned; until an event proves that the command exists; NULL for Logs */
    size_t spec_len;
    uint8_t digest[COMMAND_DIGEST_LEN];
    const char *until; /* exited, closed or now */
    struct log_view view;
    bool kill_on_disconnect;

    struct relay relay;
    struct relay_all *all; /* owned; instead of relay, for all commands; NULL: for one */
    bool announced;        /* a message with the command's id was sent */
    bool delivered;        /* an event was */
    bool opened;           /* a follower was started */
    uint64_t gaps;         /* that were counted */
    uint64_t from;         /* last_seq before anything came */

    struct e2b_stream *stream;       /* owned; of the present follower */
    struct archive_stream *archived; /* owned; instead of it */
    bool may_read_archive;           /* Logs */
    bool may_wake;                   /* Logs that were asked to */
    bool watches;                    /* WatchDirectory: the id is a watch's */
    struct status gone;              /* before the archive was asked: what the control plane said */
    bool stream_done;                /* its op came back; bytes may be left to take */
    struct e2b_op op;                /* of the stream, the probe or the kill: one at a time */
    bool op_running;
    struct e2b_output output;
    struct e2b_sandbox sandbox; /* the probe's answer */

    int failures;            /* since the last event */
    int64_t broken_since_ns; /* monotonic; 0: not broken */
    bool paused;             /* said by the last probe */
    int kills;               /* tried so far */
    struct call_timer heartbeat;
    struct call_timer again;
    struct call_timer leave; /* the pod drains, and it is this stream's turn */

    const struct follow_owner *owner; /* NULL: the call is the view's alone */
    void *owner_ctx;
};

/* --- follow.c --- */

struct follow *follow_new(struct call *c, const char *sandbox_id, const char *command_id,
                          uint64_t from_seq);
/* The call is the view's alone. announce: say the command's id before anything happens. */
void follow_begin(struct follow *f, bool announce);
/* The only writer of the state; nothing leads out of FOLLOW_FINISHED. */
void follow_enter(struct follow *f, enum follow_state state);
void follow_finish(struct follow *f, const struct status *st);
/* Readies f->op and f->output for an operation, and holds the call: done drops it, at its end. */
void follow_op_start(struct follow *f, void (*done)(struct e2b_op *op), int64_t deadline_ns);
/* For done, first of all. */
struct follow *follow_op_back(struct e2b_op *op);

/* --- follow_connect.c --- */

/* Starts a follower behind the last delivered event. */
void follow_connect(struct follow *f);
/* gone: what the control plane said of the sandbox. */
void follow_connect_archive(struct follow *f, const struct status *gone);
void follow_disconnect(struct follow *f);

/* --- follow_send.c --- */

/* Sends what the follower wrote next. Returns false when there is nothing to send now. */
bool follow_send_next(struct follow *f);
void follow_send_heartbeat(struct follow *f);
void follow_restart_heartbeat(struct follow *f);
void follow_on_heartbeat(struct call_timer *timer);

/* --- follow_retry.c --- */

/* The follower ended and everything it wrote was taken. */
void follow_conclude(struct follow *f);
void follow_wait(struct follow *f, int64_t ms);
void follow_on_again(struct call_timer *timer);

/* --- follow_leave.c --- */

/* Kills the command of a client that is gone. */
void follow_kill(struct follow *f);
void follow_on_leave(struct call_timer *timer);
