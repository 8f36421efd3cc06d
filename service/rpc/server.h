/*
 * The gRPC server: listens, binds methods to their handlers, and spreads calls over workers. Each
 * worker is one thread with one completion queue; a call stays with the worker that accepted it.
 * The only code that calls gRPC core is in this folder.
 */
#pragma once

#include "common/base/status.h"
#include "service/rpc/call.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct metrics;
struct server;
struct tracer;

/* PEM texts that belong together and have been checked. */
struct server_certificate {
    const char *chain_pem; /* its own certificate first */
    const char *key_pem;
    const char *client_ca_pem; /* clients are asked for a certificate that one of these signed, and
                                  the gate judges what they bring; NULL: they are not asked */
};

struct server_config {
    const char *listen;                           /* HOST:PORT; port 0 takes a free one */
    const struct server_certificate *certificate; /* borrowed for server_new(); NULL: no TLS */
    int workers;                                  /* 1 or more */
    int64_t max_message_bytes;
    int64_t max_connection_age_ms;       /* 0: connections live on */
    int64_t max_connection_age_grace_ms; /* then calls have so long to end */
    int64_t keepalive_ms;                /* our own pings; 0: none */
    int64_t max_connection_calls;        /* on one connection; 0: any number */
    const struct method *methods; /* borrowed for the server's life; every method of every service
                                     in it exactly once */
    size_t n_methods;
    struct gate *gate;       /* borrowed; NULL: everybody may come in */
    struct metrics *metrics; /* borrowed; NULL: nothing is counted */
    struct tracer *tracer;   /* borrowed; NULL: traces are passed on, and no span is recorded */
    void *app;               /* call_app() */
};

/* Starts nothing yet. False when the table has a hole or a double entry. */
bool server_new(const struct server_config *config, struct server **ret, struct status *st);

/* Binds the address and starts the workers. After a failure only server_free() is left. */
bool server_start(struct server *s, struct status *st);

/* Any thread. For connections from now on; only where the server began with one. Whether clients
 * need certificates stays as it was. */
void server_set_certificate(struct server *s, const struct server_certificate *c);

/* HOST:PORT with the real port. */
const char *server_address(const struct server *s);

/* Any thread. Tells every live call (on_drain), and every later one as it starts. Calls are still
 * accepted: the load balancer needs time to notice. */
void server_drain(struct server *s);

/* Any thread; blocks. No new calls from now on; waits up to budget_ms for those there are, then
 * cancels them and waits for their end. The second time it does nothing. */
void server_shutdown(struct server *s, int64_t budget_ms);

/* After server_shutdown(), or when server_start() was not called or failed. NULL is fine. */
void server_free(struct server *s);

/*
 * What core tells of its servers (kind ""), of one server's connections ("server" and its number),
 * or of one connection ("socket"): JSON in the form of channelz, to be released with free(). NULL:
 * there is none such. Any thread, between rpc_init() and rpc_deinit().
 */
char *rpc_channelz(const char *kind, long number);

/* Once per process, around everything else. Core's own messages go to the log. */
void rpc_init(void);
void rpc_deinit(void);
