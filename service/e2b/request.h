/*
 * An operation on its way: from the caller's thread to a loop, there through any number of
 * exchanges, and back. The operation's own struct embeds a struct request. On the loop's thread all
 * but request_submit().
 *
 * request_finish() ends it, from wherever: exchanges still running are dropped. The request may be
 * gone when it returns, so it is always the last thing a function does.
 */
#pragma once

#include "service/e2b/errors.h"
#include "service/e2b/private.h"
#include "service/e2b/scope.h"
#include "service/trace/trace.h"

struct request {
    struct e2b *e2b;
    struct loop *loop;
    unsigned loop_index;
    struct e2b_op *op;   /* NULL: detached, nobody waits */
    struct scope *scope; /* owned; for whom it is done */
    struct trace *trace; /* owned: a reference; what it is part of; NULL: nothing that is traced */
    int64_t deadline_ns;
    bool lets_sleep, aside;  /* as of struct e2b_op */
    struct list exchanges;   /* running */
    struct loop_timer timer; /* the deadline */
    struct task start_task, cancel_task;
    struct list node; /* detached: in the e2b's list */
    bool over;
    bool cancel_posted; /* the caller's thread only */
    atomic_int refs;

    /* Set before request_submit() or request_detach(). */
    void (*start)(struct request *r);
    /* Cancelled or too late, while exchanges still stand: undo what must be undone. True: it called
     * request_let_go(), because that takes a while. May be NULL. */
    bool (*aborted)(struct request *r, const struct status *st);
    /* Any thread, last; frees the memory. Nothing runs any more. */
    void (*destroy)(struct request *r);
};

/* The loop is chosen by sandbox_id (NULL: in turn), so that connections are found again. */
void request_submit(struct request *r, struct e2b *e, struct e2b_op *op, const char *sandbox_id);
/* The same in two steps: between them, references can be taken. */
void request_prepare(struct request *r, struct e2b *e, struct e2b_op *op, const char *sandbox_id);
void request_post(struct request *r);

/* Starts work that nobody waits for, on the loop of `like`. */
void request_detach(struct request *r, const struct request *like, int64_t timeout_ms);

/* The caller hears the outcome now; the request goes on, detached, for at most so long. */
void request_let_go(struct request *r, const struct status *st, int64_t timeout_ms);

/* Any thread. Whoever shares the memory of a request holds a reference. */
void request_ref(struct request *r);
void request_unref(struct request *r);

/* st: CODE_OK or what is wrong. */
void request_finish(struct request *r, const struct status *st);

/* As a cancel or the deadline does. */
void request_abort(struct request *r, const struct status *st);

/* --- exchanges: HTTP with retries and, for a sandbox, finding it --- */

struct exchange {
    /* Set before exchange_start(); strings are owned by the exchange, the rest is borrowed. */
    struct request *request;
    const char *method;
    char *path;       /* below the base URL, with the query */
    char *sandbox_id; /* NULL: the control plane */
    /* The control plane is asked about this sandbox, but not what it is like: whose it is is found
     * out first. Owned; NULL: nothing to find out. */
    char *owner_of;
    enum source source;
    const struct transfer_piece *pieces;
    size_t n_pieces;
    const char *content_type;
    int64_t timeout_ms;  /* 0: none (streams) */
    size_t max_response; /* 0: E2B_RESPONSE_MAX */
    bool safe;           /* repeating does no harm; may change while it runs */
    bool bulk, accept_gzip;
    enum transfer_taken (*on_data)(struct transfer *t, const uint8_t *data, size_t len);
    ssize_t (*on_need)(struct transfer *t, uint8_t *to, size_t room); /* instead of pieces */
    /* Before each attempt: more headers, and back to the start. May be NULL. */
    void (*prepare)(struct exchange *x);
    /* Whether an answer without an HTTP error is the one that was asked for; fills v if not. May be
     * NULL. Also asked when the connection broke (t->result) behind a status of 200. */
    bool (*judge)(struct exchange *x, struct verdict *v);
    /* Once: x->verdict says how it ended. */
    void (*done)(struct exchange *x);

    struct list node;
    struct transfer transfer; /* of the last attempt; stays until the next or exchange_deinit() */
    struct address address;   /* of the sandbox */
    struct retry retry;
    unsigned times_sent; /* by all attempts */
    struct loop_timer timer;
    enum { EXCHANGE_LOOKING, EXCHANGE_CALLING } phase;
    size_t operation; /* of the attempt that runs; upstream.c */
    int64_t began_ns; /* 0: none runs, or it is accounted for */
    uint8_t span[TRACE_SPAN_LEN];
    bool running, failed_before;
    bool is_ours;  /* owner_of was found out */
    bool is_awake; /* the sandbox was seen running */
    int looks, resumes;
    struct transfer_piece resume_piece;
    char resume_body[40];
    int64_t use_noted_until_ns; /* monotonic; idle.c */
    struct verdict verdict;
};

void exchange_start(struct exchange *x);
/* Stops it if it runs (done does not come). May be called twice, and on a zeroed one. */
void exchange_deinit(struct exchange *x);

/*
 * What GET /sandboxes/{id} tells: the sandbox, whose address is put into the cache. Shared with
 * api.c. False: no such answer, or a sandbox of another tenant; v says which, and nothing is to be
 * freed.
 */
bool exchange_learn(struct exchange *x, const char *sandbox_id, struct e2b_sandbox *ret,
                    struct verdict *v);
