/*
 * The writer: the one process that runs a command and keeps its journal. It holds the command's
 * lock as long as it lives, and lives until nothing can follow.
 */
#pragma once

#include "common/base/utf8.h"
#include "runtime/recorder/claim.h"
#include "runtime/recorder/clients.h"
#include "runtime/recorder/command.h"
#include "runtime/recorder/input.h"
#include "runtime/recorder/journal_file.h"

#include <sys/resource.h>

struct stream {
    struct source source;
    struct writer *writer; /* borrowed */
    enum journal_kind kind;
    bool open;
    bool unfinished;       /* the last event of it does not end a line */
    struct utf8_tail tail; /* of what was read */
};

enum { STREAMS = 2 };

struct writer {
    int dir;                   /* borrowed */
    int epoll;                 /* owned */
    struct command_spec *spec; /* borrowed */
    struct journal_file journal;
    struct command command;
    struct source signals;
    struct stream streams[STREAMS]; /* stdout and stderr, or the terminal alone */
    struct source stdin_source;
    struct input_queue input;
    struct clients clients;
    uint64_t acked_seq;
    struct end_record end;

    bool blocked;                 /* streams are not read: the journal has no room */
    bool dead;                    /* the command ended: `exited` is due, or written */
    bool exited;                  /* `exited` is written */
    bool closed;                  /* `closed` is written */
    uint32_t timed_out;           /* which limit of time passed: an Exited.Reason; 0: none */
    int sent_signal;              /* the last one that a verb asked for */
    struct start_failure failure; /* code is 0 when it started */
    int wait_status;
    struct rusage usage;
    uint64_t oom_kills; /* before it started */

    int64_t timeout_ns, grace_ns; /* monotonic deadlines; 0: none */
    int64_t idle_ns;              /* the same, put off by output */
    int64_t unread_ns;            /* put off by readers */
    int64_t retry_ns;             /* when to try again what failed; 0: nothing did */

    /* Output that was read and is not in the journal yet. */
    struct stream *pending_of;
    size_t pending_len;
    uint8_t batch[BATCH_BYTES];
};

/* Runs the command to its end. In a process of its own: see writer_start(). */
void writer_run(const struct claim *c, struct command_spec *s);

/* Starts that process, which keeps nothing of the caller's but the claim. */
bool writer_start(const struct claim *c, struct command_spec *s, struct status *st);

/* For clients.c: what a verb asks. Returns an enum recorder_exit. */
int writer_signal(struct writer *w, int signal, int target);
int writer_ack(struct writer *w, uint64_t seq);
int writer_resize(struct writer *w, struct terminal_size size);

/* For streams.c. */
void writer_retry_soon(struct writer *w);
/* The command wrote, or could not have. */
void writer_put_off_idle(struct writer *w);
