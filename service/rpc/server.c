/*
 * See server.h. Life: bind the table, listen, one worker per completion queue; then drain (calls
 * are told, and new ones still come), close (core stops accepting), and end, when the last call is
 * gone.
 */
#include "service/rpc/server.h"

#include "common/base/cleanup.h"
#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "service/rpc/account.h"
#include "service/rpc/tls.h"
#include "service/rpc/worker.h"

#include <grpc/grpc_security.h>
#include <grpc/support/log.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- the method table --- */

static int by_path(const void *a, const void *b)
{
    return strcmp(((const struct binding *)a)->path, ((const struct binding *)b)->path);
}

const struct binding *server_find(const struct server *s, const grpc_slice *path)
{
    struct binding key;
    size_t len = GRPC_SLICE_LENGTH(*path);

    if (len >= sizeof(key.path))
        return NULL;
    memcpy(key.path, GRPC_SLICE_START_PTR(*path), len);
    key.path[len] = '\0';
    return bsearch(&key, s->bindings, s->config.n_methods, sizeof(key), by_path);
}

static bool bind_method(struct binding *b, const struct method *m, struct status *st)
{
    const ProtobufCMethodDescriptor *d =
        protobuf_c_service_descriptor_get_method_by_name(m->service, m->name);

    if (d == NULL)
        return status_set(st, CODE_INTERNAL, 0, "%s has no method %s", m->service->name, m->name);
    b->method = m;
    b->input = d->input;
    snprintf(b->path, sizeof(b->path), "/%s/%s", m->service->name, m->name);
    b->standard = strncmp(b->path, "/grpc.", 6) == 0;
    return true;
}

/* Every method of every service that the table names is there, and once. */
static bool check_table(const struct server *s, struct status *st)
{
    for (size_t i = 0; i < s->config.n_methods; i++) {
        const ProtobufCServiceDescriptor *service = s->config.methods[i].service;

        if (i > 0 && strcmp(s->bindings[i].path, s->bindings[i - 1].path) == 0)
            return status_set(st, CODE_INTERNAL, 0, "%s is bound twice", s->bindings[i].path);
        for (unsigned j = 0; j < service->n_methods; j++) {
            struct binding key;

            snprintf(key.path, sizeof(key.path), "/%s/%s", service->name, service->methods[j].name);
            if (bsearch(&key, s->bindings, s->config.n_methods, sizeof(key), by_path) == NULL)
                return status_set(st, CODE_INTERNAL, 0, "%s is not bound", key.path);
        }
    }
    return true;
}

static bool bind_table(struct server *s, struct status *st)
{
    s->bindings = xcalloc(s->config.n_methods, sizeof(s->bindings[0]));
    for (size_t i = 0; i < s->config.n_methods; i++) {
        if (!bind_method(&s->bindings[i], &s->config.methods[i], st))
            return false;
    }
    qsort(s->bindings, s->config.n_methods, sizeof(s->bindings[0]), by_path);
    return check_table(s, st);
}

/* --- starting --- */

static grpc_arg int_arg(const char *key, int64_t value)
{
    return (grpc_arg){
        .type = GRPC_ARG_INTEGER,
        .key = (char *)key,
        .value.integer = value > INT32_MAX ? INT32_MAX : (int)value,
    };
}

static grpc_server *create_core(const struct server_config *config)
{
    grpc_arg args[12];
    size_t n = 0;

    args[n++] = int_arg(GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH, config->max_message_bytes);
    args[n++] = int_arg(GRPC_ARG_MAX_SEND_MESSAGE_LENGTH, -1);
    args[n++] = int_arg(GRPC_ARG_ENABLE_PER_MESSAGE_DECOMPRESSION, 0); /* see incoming.c */
    /* Two servers on one port would share its calls by chance: a taken port is an error. */
    args[n++] = int_arg(GRPC_ARG_ALLOW_REUSEPORT, 0);
    /* Clients may keep idle connections alive, but not by more than a ping every ten seconds. */
    args[n++] = int_arg(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
    args[n++] = int_arg(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 10000);
    if (config->max_connection_calls > 0)
        args[n++] = int_arg(GRPC_ARG_MAX_CONCURRENT_STREAMS, config->max_connection_calls);
    if (config->keepalive_ms > 0) {
        args[n++] = int_arg(GRPC_ARG_KEEPALIVE_TIME_MS, config->keepalive_ms);
        args[n++] = int_arg(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 10000);
    }
    if (config->max_connection_age_ms > 0) {
        args[n++] = int_arg(GRPC_ARG_MAX_CONNECTION_AGE_MS, config->max_connection_age_ms);
        args[n++] =
            int_arg(GRPC_ARG_MAX_CONNECTION_AGE_GRACE_MS, config->max_connection_age_grace_ms);
    }
    return grpc_server_create(&(grpc_channel_args){.num_args = n, .args = args}, NULL);
}

static void add_workers(struct server *s)
{
    s->n_workers = s->config.workers;
    s->workers = xcalloc((size_t)s->n_workers, sizeof(s->workers[0]));
    for (int i = 0; i < s->n_workers; i++) {
        struct worker *w = &s->workers[i];

        w->server = s;
        list_init(&w->calls);
        pthread_mutex_init(&w->lock, NULL);
        w->cq = grpc_completion_queue_create_for_next(NULL);
        grpc_server_register_completion_queue(s->core, w->cq, NULL);
    }
}

static void on_core_closed(struct op *op, bool ok)
{
    struct server *s = container_of(op, struct server, closed);

    pthread_mutex_lock(&s->lock);
    s->core_closed = true;
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
}

bool server_new(const struct server_config *config, struct server **ret, struct status *st)
{
    struct server *s = xcalloc(1, sizeof(*s));

    s->config = *config;
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->changed, NULL);
    s->closed.done = on_core_closed;
    if (!bind_table(s, st)) {
        server_free(s);
        return false;
    }
    s->account = account_new(config->metrics, s->bindings, config->n_methods);
    s->core = create_core(config);
    if (config->certificate != NULL)
        s->tls = tls_new(config->certificate);
    add_workers(s);
    *ret = s;
    return true;
}

static bool listen_on(struct server *s, struct status *st)
{
    grpc_server_credentials *credentials =
        s->tls != NULL ? tls_credentials(s->tls) : grpc_insecure_server_credentials_create();
    int port = grpc_server_add_http2_port(s->core, s->config.listen, credentials);
    const char *colon = strrchr(s->config.listen, ':');
    int host_len = colon != NULL ? (int)(colon - s->config.listen) : (int)strlen(s->config.listen);

    grpc_server_credentials_release(credentials);
    if (port <= 0)
        return status_set(
            st, CODE_UNAVAILABLE, 0,
            "cannot listen on %s: the address must be HOST:PORT, of this machine, and "
            "free",
            s->config.listen);
    snprintf(s->address, sizeof(s->address), "%.*s:%d", host_len, s->config.listen, port);
    return true;
}

/* The threads come first: when one cannot be had, nothing else has happened yet. */
bool server_start(struct server *s, struct status *st)
{
    for (int i = 0; i < s->n_workers; i++) {
        if (!worker_start(&s->workers[i], st))
            return false;
    }
    if (!listen_on(s, st))
        return false;
    grpc_server_start(s->core);
    pthread_mutex_lock(&s->lock);
    s->started = true;
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
    return true;
}

void server_set_certificate(struct server *s, const struct server_certificate *c)
{
    tls_set(s->tls, c);
}

const char *server_address(const struct server *s)
{
    return s->address;
}

/* --- ending --- */

void server_drain(struct server *s)
{
    atomic_store(&s->draining, true);
    for (int i = 0; i < s->n_workers; i++) {
        struct worker *w = &s->workers[i];

        pthread_mutex_lock(&w->lock);
        LIST_FOR_EACH (node, &w->calls)
            call_post_drain(node);
        pthread_mutex_unlock(&w->lock);
    }
}

/* Waits until nothing is left, at most until the (wall clock) time given. */
static bool wait_until_empty(struct server *s, int64_t until_ns)
{
    struct timespec until = {.tv_sec = until_ns / NS_PER_S, .tv_nsec = until_ns % NS_PER_S};
    int error = 0;
    bool empty;

    pthread_mutex_lock(&s->lock);
    while ((s->n_calls > 0 || !s->core_closed) && error == 0)
        error = pthread_cond_timedwait(&s->changed, &s->lock, &until);
    empty = s->n_calls == 0 && s->core_closed;
    pthread_mutex_unlock(&s->lock);
    return empty;
}

void server_shutdown(struct server *s, int64_t budget_ms)
{
    if (!s->started || atomic_exchange(&s->closing, true))
        return;
    atomic_store(&s->draining, true);
    grpc_server_shutdown_and_notify(s->core, s->workers[0].cq, &s->closed);
    if (!wait_until_empty(s, clock_wall_ns() + budget_ms * NS_PER_MS)) {
        log_warn("calls are cut off", LOG_N("after_ms", budget_ms));
        grpc_server_cancel_all_calls(s->core);
        while (!wait_until_empty(s, clock_wall_ns() + 60 * NS_PER_S))
            log_warn("still waiting for cancelled calls");
    }
}

void server_free(struct server *s)
{
    if (s == NULL)
        return;
    pthread_mutex_lock(&s->lock);
    atomic_store(&s->closing, true); /* for workers that were never let in */
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
    if (s->core != NULL)
        grpc_server_destroy(s->core);
    for (int i = 0; i < s->n_workers; i++)
        worker_stop(&s->workers[i]);
    tls_free(s->tls);
    free(s->workers);
    account_free(s->account);
    free(s->bindings);
    pthread_cond_destroy(&s->changed);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

/* --- core as a whole --- */

static void log_core(gpr_log_func_args *args)
{
    enum log_level level = args->severity == GPR_LOG_SEVERITY_ERROR ? LOG_WARN : LOG_DEBUG;

    LOG_AT(level, args->message, LOG_S("source", "grpc"));
}

void rpc_init(void)
{
    gpr_set_log_function(log_core);
    grpc_init();
}

void rpc_deinit(void)
{
    grpc_shutdown();
}
