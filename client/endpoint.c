/*
 * See endpoint.h. One channel serves all calls at an address, from any thread; when it served one
 * of them badly the next call has a new one made, and the old one goes with its last call.
 */
#include "client/endpoint.h"

#include "client/connection.h"
#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/base/version.h"

#include <grpc/grpc_security.h>
#include <grpc/support/time.h>
#include <pthread.h>
#include <stdlib.h>

enum {
    MAX_MESSAGE_BYTES = 64 << 20, /* servers send 4 MiB unless set otherwise */
    MAX_METADATA_BYTES = 64 << 10,
};

struct endpoint {
    char *address;                         /* owned */
    char *user_agent;                      /* owned */
    char *server_name;                     /* owned; NULL: the address's own */
    grpc_channel_credentials *credentials; /* owned */
    int64_t connect_timeout_ms;
    pthread_mutex_t lock;
    struct connection *current; /* what new calls use; under lock; NULL until needed */
};

gpr_timespec grpc_deadline(int64_t ns)
{
    if (ns == INT64_MAX)
        return gpr_inf_future(GPR_CLOCK_MONOTONIC);
    return gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC),
                        gpr_time_from_nanos(ns - clock_monotonic_ns(), GPR_TIMESPAN));
}

void grpc_queue_destroy(grpc_completion_queue *cq)
{
    grpc_completion_queue_shutdown(cq);
    while (grpc_completion_queue_next(cq, gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL).type !=
           GRPC_QUEUE_SHUTDOWN)
        ;
    grpc_completion_queue_destroy(cq);
}

static grpc_arg int_arg(const char *key, int value)
{
    return (grpc_arg){.type = GRPC_ARG_INTEGER, .key = (char *)key, .value.integer = value};
}

static grpc_channel *make_channel(const struct endpoint *e)
{
    grpc_arg args[6] = {
        int_arg(GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH, MAX_MESSAGE_BYTES),
        int_arg(GRPC_ARG_MAX_METADATA_SIZE, MAX_METADATA_BYTES),
        /* gRPC bounds an attempt to connect by the shortest time between two of them. */
        int_arg(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, (int)e->connect_timeout_ms),
        /* Shared subchannels would hand a new channel the old one's failure and its backoff. */
        int_arg(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1),
        {.type = GRPC_ARG_STRING,
         .key = (char *)GRPC_ARG_PRIMARY_USER_AGENT_STRING,
         .value.string = e->user_agent},
    };
    grpc_channel_args all = {.num_args = 5, .args = args};

    if (e->server_name != NULL)
        args[all.num_args++] = (grpc_arg){.type = GRPC_ARG_STRING,
                                          .key = (char *)GRPC_SSL_TARGET_NAME_OVERRIDE_ARG,
                                          .value.string = e->server_name};
    return grpc_channel_create(e->address, e->credentials, &all);
}

struct connection *connection_get(struct endpoint *e)
{
    struct connection *c;

    pthread_mutex_lock(&e->lock);
    if (e->current == NULL) {
        e->current = xcalloc(1, sizeof(*e->current));
        e->current->channel = make_channel(e);
        e->current->refs = 1;
    }
    c = e->current;
    c->refs++;
    pthread_mutex_unlock(&e->lock);
    return c;
}

void connection_put(struct endpoint *e, struct connection *c)
{
    bool last;

    pthread_mutex_lock(&e->lock);
    last = --c->refs == 0;
    pthread_mutex_unlock(&e->lock);
    if (!last)
        return;
    grpc_channel_destroy(c->channel);
    free(c);
}

void connection_abandon(struct endpoint *e, struct connection *c)
{
    bool was_current;

    pthread_mutex_lock(&e->lock);
    was_current = c != NULL && e->current == c;
    if (was_current)
        e->current = NULL;
    pthread_mutex_unlock(&e->lock);
    if (was_current)
        connection_put(e, c);
}

static grpc_channel_credentials *make_credentials(const struct endpoint_tls *tls)
{
    grpc_ssl_pem_key_cert_pair own;

    if (tls == NULL)
        return grpc_insecure_credentials_create();
    own = (grpc_ssl_pem_key_cert_pair){.private_key = tls->key, .cert_chain = tls->cert};
    return grpc_ssl_credentials_create_ex(tls->ca, tls->cert != NULL ? &own : NULL, NULL, NULL);
}

struct endpoint *endpoint_new(const char *address, int64_t connect_timeout_ms,
                              const char *user_agent, const struct endpoint_tls *tls)
{
    struct endpoint *e = xcalloc(1, sizeof(*e));

    e->address = xstrdup(address);
    e->user_agent = xasprintf("%s%slibsandbox/%s", user_agent != NULL ? user_agent : "",
                              user_agent != NULL ? " " : "", SANDBOXD_VERSION);
    e->connect_timeout_ms = connect_timeout_ms;
    e->credentials = make_credentials(tls);
    if (tls != NULL && tls->server_name != NULL)
        e->server_name = xstrdup(tls->server_name);
    pthread_mutex_init(&e->lock, NULL);
    return e;
}

void endpoint_free(struct endpoint *e)
{
    if (e == NULL)
        return;
    connection_abandon(e, e->current);
    pthread_mutex_destroy(&e->lock);
    free(e->address);
    grpc_channel_credentials_release(e->credentials);
    free(e->user_agent);
    free(e->server_name);
    free(e);
}

const char *endpoint_address(const struct endpoint *e)
{
    return e->address;
}

static bool is_moving(grpc_connectivity_state state)
{
    return state == GRPC_CHANNEL_IDLE || state == GRPC_CHANNEL_CONNECTING;
}

bool endpoint_connect(struct endpoint *e, int64_t until_ns)
{
    struct connection *c = connection_get(e);
    grpc_completion_queue *cq = grpc_completion_queue_create_for_next(NULL);
    grpc_connectivity_state state = grpc_channel_check_connectivity_state(c->channel, 1);

    while (is_moving(state) && clock_monotonic_ns() < until_ns) {
        grpc_channel_watch_connectivity_state(c->channel, state, grpc_deadline(until_ns), cq, NULL);
        grpc_completion_queue_next(cq, gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL);
        state = grpc_channel_check_connectivity_state(c->channel, 1);
    }
    grpc_queue_destroy(cq);
    if (state != GRPC_CHANNEL_READY && !is_moving(state))
        connection_abandon(e, c);
    connection_put(e, c);
    return state == GRPC_CHANNEL_READY;
}
