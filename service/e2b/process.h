/*
 * One process started through envd and followed to its end: Process/Start over Connect. The parser
 * below knows no curl; struct start puts it on an exchange.
 *
 * Output is not decoded as a message: the three tags in front of it are walked, and its bytes are
 * handed on as they arrive. Everything else is small and goes through protobuf-c.
 */
#pragma once

#include "common/connect/envelope.h"
#include "service/e2b/request.h"

enum { PROCESS_ERR_MAX = 512 };

struct process {
    struct envelope_parser envelope;
    uint8_t prefix[24]; /* the start of a payload, until it is known what it is */
    size_t prefix_len;
    enum { PROCESS_DECIDING, PROCESS_STDOUT, PROCESS_OTHER } frame_kind;
    struct buf frame; /* of PROCESS_OTHER */

    bool started; /* pid is known */
    bool ended;   /* by itself or not */
    bool exited;  /* by itself: exit_code is known */
    uint32_t pid;
    int exit_code;
    char err[PROCESS_ERR_MAX]; /* the end of stderr, as it came */
    size_t err_len;
    struct verdict *failed; /* owned; NULL: not. No process event can follow */

    void (*on_stdout)(struct process *p, const uint8_t *data, size_t len);
};

void process_init(struct process *p,
                  void (*on_stdout)(struct process *p, const uint8_t *data, size_t len));
void process_deinit(struct process *p); /* may be called twice */
/* False: what came is not the protocol; see failed. (An error told at its end is no failure of the
 * stream: then it is true, and failed is set too.) */
bool process_feed(struct process *p, const uint8_t *data, size_t len);

/* Connect's EndStreamResponse. False: v is the error that it tells, or that it is none. */
bool process_read_end(const uint8_t *data, size_t len, struct verdict *v);

/* Sends SIGKILL to a process and waits for nothing. */
void process_kill(const struct request *like, const char *sandbox_id, uint32_t pid);

/* Program and arguments; cwd NULL: the template's; with_stdin: it is to be written to. An envelope;
 * owned by the caller. */
uint8_t *process_encode_start(const char *const *argv, const char *cwd, bool with_stdin,
                              size_t *ret_len);

struct start {
    struct exchange exchange;
    struct process process;
    struct loop_timer watchdog;
    int64_t heard_ns;
    bool abandoned;
    char *authorization; /* owned */
    uint8_t *body;       /* owned */
    struct transfer_piece piece;

    /* Set before start_begin(). */
    struct request *request;
    const char *sandbox_id;  /* borrowed for the call */
    const char *const *argv; /* borrowed for the call; ends with NULL */
    const char *cwd;         /* borrowed for the call; NULL: the template's */
    const char *user;        /* borrowed for the call; NULL: the template's */
    bool with_stdin;         /* it is to be written to */
    int64_t lease_ms;        /* the process is killed then; 0: never */
    bool safe;               /* starting it twice does no harm */
    /* Before output is taken: is there room? NULL: always. start_resume() when there is again. */
    bool (*has_room)(struct start *s);
    void (*on_stdout)(struct start *s, const uint8_t *data, size_t len);
    /* Output of the attempt before is void. NULL: nothing to do. */
    void (*restart)(struct start *s);
    /* exchange.verdict: OK when the process exited by itself, with process.exit_code. */
    void (*done)(struct start *s);
};

void start_begin(struct start *s);
void start_resume(struct start *s);
/* The process was asked for, and whether it runs is not known. */
bool start_is_in_doubt(const struct start *s);
/* Nobody wants its output any more: done comes when it is known to run, and it is killed then. */
void start_abandon(struct start *s);
/* Also kills the process if it runs. May be called twice, and on a zeroed one. */
void start_deinit(struct start *s);
