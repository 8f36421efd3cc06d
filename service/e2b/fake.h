/*
 * For tests: an HTTP server on a free port of the loopback whose every answer is the test's own
 * code, so that it can misbehave in any way. One thread per connection.
 */
#pragma once

#include "common/base/buf.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct fake;

struct fake_call {
    struct fake *fake;
    int fd;
    int connection; /* 0, 1, 2 … in the order accepted */
    int nth;        /* request on this connection: 0, 1, 2 … */
    const char *method;
    const char *path;    /* with the query */
    const char *head;    /* all of it, for fake_header() */
    const uint8_t *body; /* Content-Length only */
    size_t body_len;
    const uint8_t *more; /* what follows of a body without Content-Length, as far as it was read */
    size_t more_len;
    bool close; /* set by the test: close the connection after this */
};

/* serve may run on several threads at the same time. */
struct fake *fake_new(void (*serve)(struct fake_call *c, void *arg), void *arg);
/* Cuts all connections. */
void fake_free(struct fake *f);
/* "http://127.0.0.1:PORT"; lives as long as f. */
const char *fake_url(const struct fake *f);
int fake_connections(struct fake *f);

bool fake_is(const struct fake_call *c, const char *method, const char *path_prefix);
/* Whether a header line, name and value, is there. */
bool fake_has(const struct fake_call *c, const char *line);

/* A whole answer. headers: lines ended by \r\n, or "". */
void fake_reply(struct fake_call *c, int status, const char *headers, const char *body);
void fake_reply_bytes(struct fake_call *c, int status, const char *headers, const void *body,
                      size_t len);
/* The head of an answer of unknown length (chunked), then pieces of it, then its end. */
void fake_stream(struct fake_call *c, const char *content_type);
bool fake_chunk(struct fake_call *c, const void *data, size_t len); /* false: the peer is gone */
void fake_end(struct fake_call *c);
void fake_raw(struct fake_call *c, const void *data, size_t len);
/* Waits until the peer closes. */
void fake_wait_gone(struct fake_call *c);

/* What envd says of a process, as envelopes. */
void fake_add_start(struct buf *b, uint32_t pid);
void fake_add_data(struct buf *b, bool is_err, const void *data, size_t len);
void fake_add_keepalive(struct buf *b);
void fake_add_exit(struct buf *b, int code, bool exited);
