/*
 * One HTTP exchange on a loop: a request whose body is pieces of memory, and a response that is
 * collected up to a cap or handed on as it comes. It knows HTTP, not E2B. Everything on the loop's
 * thread.
 */
#pragma once

#include "common/base/buf.h"
#include "service/e2b/loop.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct transfer_piece {
    const uint8_t *data; /* borrowed until done */
    size_t len;
};

enum transfer_taken {
    TRANSFER_TAKEN,
    TRANSFER_PAUSE, /* nothing was taken: the same bytes come again after transfer_resume() */
    TRANSFER_ABORT, /* ends the exchange with CURLE_WRITE_ERROR */
};

enum { TRANSFER_END = -1, TRANSFER_NOT_YET = -2 }; /* of on_need */

struct transfer {
    struct loop_handle handle;
    struct loop *loop;
    struct curl_slist *headers;          /* owned */
    const struct transfer_piece *pieces; /* borrowed until done */
    size_t n_pieces, piece, offset;      /* what curl reads next */
    bool may_repeat;
    bool running;
    bool paused;
    bool starving; /* on_need had nothing */

    /* The body of a request whose length is not known: fills `to` and says how much. TRANSFER_END:
     * that was all. TRANSFER_NOT_YET: it is asked again after transfer_feed(). NULL: the pieces. */
    ssize_t (*on_need)(struct transfer *t, uint8_t *to, size_t room);
    /* The response's body where the status is 200; NULL: it is collected as all others are. */
    enum transfer_taken (*on_data)(struct transfer *t, const uint8_t *data, size_t len);
    /* Once, unless cancelled; the transfer stays until transfer_deinit(). */
    void (*done)(struct transfer *t);

    /* The outcome. */
    CURLcode result;
    long status;         /* HTTP; 0: no response */
    unsigned times_sent; /* or begun to be; more than once: curl repeated it by itself */
    bool too_long;       /* the response was longer than the cap */
    struct buf body;
};

struct transfer_request {
    const char *method;
    const char *url;
    const struct transfer_piece *pieces; /* borrowed until done; NULL: no body */
    size_t n_pieces;
    int64_t timeout_ms;  /* of the whole exchange; 0: none */
    size_t max_response; /* cap of what is collected */
    bool may_repeat;     /* curl may send it a second time when a kept connection turns out dead */
    bool accept_gzip;
    bool bulk; /* large bodies: larger buffers */
};

/* transfer_header() any number of times, then transfer_start(), then done, then transfer_deinit().
 */
void transfer_init(struct transfer *t, struct loop *l);
void transfer_header(struct transfer *t, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
void transfer_start(struct transfer *t, const struct transfer_request *request);
void transfer_resume(struct transfer *t);
void transfer_feed(struct transfer *t);

/* Ends it now, with done, as if this had happened. Not from on_data. */
void transfer_give_up(struct transfer *t, CURLcode result);

/* Cancels when it is running (done does not come). May be called twice. Not from on_data. */
void transfer_deinit(struct transfer *t);

/* A header of the response, or NULL; valid until deinit. */
const char *transfer_response_header(const struct transfer *t, const char *name);
/* Content-Length of the response; -1: not said. */
int64_t transfer_response_length(const struct transfer *t);
/* curl's own words about result. */
const char *transfer_error(const struct transfer *t);
