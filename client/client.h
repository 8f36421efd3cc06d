/* The client's inside: its endpoints, and what the files that make calls share. */
#pragma once

#include "client/include/sandbox.h"
#include "client/resume.h"
#include "client/rpc.h"
#include "common/base/list.h"

#include <pthread.h>
#include <stdatomic.h>

enum { CLIENT_MAX_ADDRESSES = 16, CLIENT_MAX_METADATA = 32 };

struct sandbox_client {
    struct endpoint *endpoints[CLIENT_MAX_ADDRESSES];      /* owned */
    struct sandbox_pair metadata[CLIENT_MAX_METADATA + 1]; /* owned copies; and a token's */
    size_t n_metadata;
    struct resume_policy policy;
    int64_t call_timeout_ms;
    int64_t connect_timeout_ms;
    int64_t heartbeat_interval_ms;

    atomic_uint preferred; /* the address that served last */

    pthread_mutex_t lock;
    pthread_cond_t changed; /* stopping was set */
    bool stopping;          /* under lock */
    struct list calls;      /* of client_call, in flight; under lock */
};

/* A call that sandbox_client_stop() can reach. */
struct client_call {
    struct list link;
    struct rpc *rpc; /* owned */
};

/* Starts a call at an address. False (STOPPED): nothing was started. */
bool client_call_start(struct sandbox_client *client, struct client_call *call, unsigned address,
                       const char *service, const char *method, enum rpc_requests requests,
                       const ProtobufCMessage *request, int64_t deadline_ns,
                       struct sandbox_error *err);
/* Ends it. `why` is how it failed, NULL when it did not: that may be the connection's fault. */
void client_call_end(struct sandbox_client *client, struct client_call *call,
                     const struct sandbox_error *why);

/* Sleeps, for a backoff. False (STOPPED): the client was stopped. */
bool client_wait(struct sandbox_client *client, int64_t wait_ms, struct sandbox_error *err);
bool client_is_stopped(struct sandbox_client *client, struct sandbox_error *err);

/*
 * Moves on to the next address after an attempt that failed for a passing reason, tells on_break
 * (NULL: nobody), and waits as r says. False: there is no other attempt; err stands.
 */
bool client_try_next(struct sandbox_client *client, struct resume *r,
                     void (*on_break)(void *user, const struct sandbox_error *why, const char *next,
                                      int64_t wait_ms),
                     void *user, struct sandbox_error *err);

/* Copies a call's error and completes it: who said it, and STOPPED where that is the reason. */
void client_error(struct sandbox_client *client, unsigned address, const struct sandbox_error *from,
                  struct sandbox_error *ret);

uint32_t client_chance(void);
int64_t client_now_ms(void);
