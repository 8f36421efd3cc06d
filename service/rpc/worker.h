/*
 * A worker: one thread with one completion queue, and the calls it accepted. An event's tag is a
 * struct op embedded in what it belongs to, so the loop knows nothing of calls.
 */
#pragma once

#include "common/base/list.h"
#include "common/base/timers.h"
#include "service/rpc/server.h"

#include <grpc/grpc.h>
#include <pthread.h>
#include <stdatomic.h>

/* One thing asked of gRPC core; done is called once, on the worker's thread. */
struct op {
    void (*done)(struct op *op, bool ok);
};

struct worker {
    struct server *server; /* borrowed */
    grpc_completion_queue *cq;
    pthread_t thread;
    bool running;
    struct timers timers; /* the worker's thread only */

    pthread_mutex_t lock;
    struct list calls; /* under lock: those that a handler has, for draining */
};

/* A method as the server knows it. */
struct binding {
    const struct method *method;
    const ProtobufCMessageDescriptor *input;
    char path[160]; /* "/package.Service/Method" */
    bool standard;  /* of a service that every gRPC server has, such as health */
};

struct server {
    struct server_config config;
    grpc_server *core;
    struct tls *tls;          /* owned; NULL: no TLS */
    struct binding *bindings; /* owned, sorted by path */
    struct account *account;  /* owned */
    char address[300];
    struct worker *workers; /* owned */
    int n_workers;
    atomic_bool draining;
    atomic_bool closing; /* no new calls are asked for */

    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool started;   /* under lock */
    size_t n_calls; /* under lock: every struct call, waiting ones too */
    struct op closed;
    bool core_closed; /* under lock: core has let go of everything */
};

bool worker_start(struct worker *w, struct status *st);
/* Any thread, when no call is left. */
void worker_stop(struct worker *w);

const struct binding *server_find(const struct server *s, const grpc_slice *path);

/* Asks core for the next call. */
void call_request(struct worker *w);
/* Any thread, under w->lock: tells the call that the pod drains. */
void call_post_drain(struct list *node);
