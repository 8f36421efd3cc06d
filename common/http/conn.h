/* What server.c and conn.c share: the server, and the connection behind an exchange. */
#pragma once

#include "common/base/buf.h"
#include "common/base/list.h"
#include "common/http/server.h"

#include <sys/uio.h>

enum {
    HTTP_SCRATCH = 256 << 10, /* one read; shared by all connections of a server */
    HTTP_GATHER = 16 << 10,   /* writes below it wait for the end of the loop's round */
    HTTP_OUT_MAX = 64 << 20,  /* a handler that does not heed http_write() loses the connection */
    HTTP_DRAIN_MAX = 1 << 20, /* of a body nobody wants, for the sake of the connection */
    HTTP_LINGER_MS = 2000,
    HTTP_RETRY_MS = 100, /* after running out of descriptors */
};

struct http_listener {
    struct http_server *server; /* borrowed: the owner */
    struct list node;
    struct loop_fd io;
    struct loop_timer retry;
};

struct http_server {
    struct loop *loop; /* borrowed */
    struct http_server_config config;
    struct list listeners;
    struct list connections;
    size_t n_connections;
    bool freed; /* the last connection takes the server with it */
    uint8_t scratch[HTTP_SCRATCH];
};

enum http_conn_state {
    CONN_IDLE,   /* no exchange; reading the next head */
    CONN_BUSY,   /* an exchange */
    CONN_DRAIN,  /* the response is complete, the request's body is not: thrown away */
    CONN_LINGER, /* the last response is out: waiting for the peer to have read it */
    CONN_CLOSED, /* the descriptor is gone; freed by its task */
};

/* A connection; the exchange on it is the same object, because there is one at a time. */
struct http_exchange {
    struct http_server *server; /* borrowed */
    struct list node;
    struct loop_fd io;
    struct loop_timer timer; /* idle, head and linger limits */
    struct task task;        /* what must not happen inside a call of the handler */
    enum http_conn_state state;
    struct http_parser parser;
    struct buf in;                       /* read, not yet parsed */
    struct buf out;                      /* not yet sent */
    struct buf preset;                   /* fields of the response to come */
    const struct http_exchange_ops *ops; /* borrowed */
    void *user;                          /* borrowed: the handler's */
    uint64_t out_left;                   /* of a response of fixed length */
    uint64_t drained;
    struct http_slice rest; /* while parsing: input behind what is being dealt with */
    bool posted;            /* the task */
    bool parsing;           /* inside conn_parse() */
    bool paused;            /* by the handler */
    bool body_done;         /* the request is complete */
    bool started;           /* the response head is written */
    bool chunked;           /* the response body is */
    bool until_close;       /* the response body ends with the connection */
    bool bodyless;          /* the response has no body, whatever is written */
    bool close_after;       /* no further exchange */
    bool want_writable;     /* http_write() has returned false */
    bool shut;              /* our side is closed */
    bool eof;               /* the peer will send nothing more */
    bool broken;            /* the connection failed */
};

void http_conn_new(struct http_server *s, int fd);
/* Cuts it; tells the handler if there is an exchange. */
void http_conn_drop(struct http_exchange *x);

/* For exchange.c. */

/* Has the loop do whatever has become possible. */
void http_conn_kick(struct http_exchange *x);
/* Sends what it can of x->out and, behind it, the vector (of up to 3); keeps the rest. */
void http_conn_send(struct http_exchange *x, const struct iovec *more, int n_more);
void http_conn_flush(struct http_exchange *x);
/* The response is complete: on to the next request, if the connection may carry one. */
void http_conn_finish(struct http_exchange *x);
/* The end, without a word to the handler; the descriptor is closed or somebody else's now. */
void http_conn_detach(struct http_exchange *x, bool close_it);

/* In server.c: the connection is about to be freed. */
void http_server_forget(struct http_server *s);
