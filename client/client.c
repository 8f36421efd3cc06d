/*
 * The client object: options made into endpoints, and the one thing that threads share, the list of
 * calls that sandbox_client_stop() ends. What calls do is in unary.c, follow.c,
 * upload.c and download.c.
 */
#include "client/client.h"

#include "client/error.h"
#include "common/base/clock.h"
#include "common/base/mem.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

static int64_t or_default(int64_t value, int64_t standard)
{
    return value > 0 ? value : standard;
}

/* NULL: connections are not encrypted. */
static const struct endpoint_tls *tls_of(const struct sandbox_client_options *o,
                                         struct endpoint_tls *room)
{
    *room = (struct endpoint_tls){o->tls_ca, o->tls_cert, o->tls_key, o->tls_server_name};
    return o->tls || o->tls_ca != NULL || o->tls_cert != NULL || o->tls_server_name != NULL ? room
                                                                                            : NULL;
}

static bool check_tls(const struct sandbox_client_options *o, struct sandbox_error *err)
{
    if ((o->tls_cert != NULL) != (o->tls_key != NULL))
        return error_local(err, SANDBOX_INVALID_ARGUMENT, "BAD_OPTIONS",
                           "a client's certificate and its key go together");
    return true;
}

static bool add_address(struct sandbox_client *c, const char *start, size_t len,
                        const struct sandbox_client_options *o, struct sandbox_error *err)
{
    while (len > 0 && isspace((unsigned char)*start))
        start++, len--;
    while (len > 0 && isspace((unsigned char)start[len - 1]))
        len--;
    if (len == 0)
        return error_local(err, SANDBOX_INVALID_ARGUMENT, "BAD_OPTIONS",
                           "an address is empty: give HOST:PORT, several with commas between");
    if (c->policy.n_addresses == CLIENT_MAX_ADDRESSES)
        return error_local(err, SANDBOX_INVALID_ARGUMENT, "BAD_OPTIONS", "more than %d addresses",
                           CLIENT_MAX_ADDRESSES);

    char *address = xstrndup(start, len);
    struct endpoint_tls tls;

    c->endpoints[c->policy.n_addresses++] =
        endpoint_new(address, c->connect_timeout_ms, o->user_agent, tls_of(o, &tls));
    free(address);
    return true;
}

static bool add_addresses(struct sandbox_client *c, const struct sandbox_client_options *o,
                          struct sandbox_error *err)
{
    const char *at = o->addresses;

    if (at == NULL)
        return error_local(err, SANDBOX_INVALID_ARGUMENT, "BAD_OPTIONS", "no address is given");
    for (;;) {
        size_t len = strcspn(at, ",");

        if (!add_address(c, at, len, o, err))
            return false;
        if (at[len] == '\0')
            return true;
        at += len + 1;
    }
}

static bool key_is_valid(const char *key)
{
    if (*key == '\0' || *key == ':' || strncmp(key, "grpc-", 5) == 0)
        return false;
    return key[strspn(key, "abcdefghijklmnopqrstuvwxyz0123456789-_.")] == '\0';
}

static bool value_is_valid(const char *value)
{
    for (; *value != '\0'; value++) {
        if (*value < 0x20 || *value > 0x7e)
            return false;
    }
    return true;
}

static bool add_metadata(struct sandbox_client *c, const struct sandbox_client_options *o,
                         struct sandbox_error *err)
{
    if (o->n_metadata > CLIENT_MAX_METADATA)
        return error_local(err, SANDBOX_INVALID_ARGUMENT, "BAD_OPTIONS",
                           "more than %d metadata pairs", CLIENT_MAX_METADATA);
    for (size_t i = 0; i < o->n_metadata; i++) {
        const struct sandbox_pair *pair = &o->metadata[i];

        if (!key_is_valid(pair->key) || !value_is_valid(pair->value))
            return error_local(err, SANDBOX_INVALID_ARGUMENT, "BAD_OPTIONS",
                               "metadata \"%s\" cannot be sent: keys are lower-case letters, "
                               "digits and -_. (not grpc-…), values printable ASCII",
                               pair->key);
        c->metadata[c->n_metadata++] =
            (struct sandbox_pair){.key = xstrdup(pair->key), .value = xstrdup(pair->value)};
    }
    return true;
}

static bool add_token(struct sandbox_client *c, const struct sandbox_client_options *o,
                      struct sandbox_error *err)
{
    if (o->token == NULL)
        return true;
    if (o->token[0] == '\0' || !value_is_valid(o->token))
        return error_local(err, SANDBOX_INVALID_ARGUMENT, "BAD_OPTIONS",
                           "the token is empty or has characters that no token has");
    c->metadata[c->n_metadata++] = (struct sandbox_pair){.key = xstrdup("authorization"),
                                                         .value = xasprintf("Bearer %s", o->token)};
    return true;
}

static struct sandbox_client *client_alloc(const struct sandbox_client_options *o)
{
    struct sandbox_client *c = xcalloc(1, sizeof(*c));
    pthread_condattr_t attr;

    c->call_timeout_ms = or_default(o->call_timeout_ms, 60 * 1000);
    c->connect_timeout_ms = or_default(o->connect_timeout_ms, 5 * 1000);
    c->heartbeat_interval_ms = or_default(o->heartbeat_interval_ms, 15 * 1000);
    c->policy.give_up_ms = or_default(o->give_up_ms, 5 * 60 * 1000);
    c->policy.backoff_min_ms = or_default(o->backoff_min_ms, 100);
    c->policy.backoff_max_ms = or_default(o->backoff_max_ms, 5 * 1000);
    if (c->policy.backoff_max_ms < c->policy.backoff_min_ms)
        c->policy.backoff_max_ms = c->policy.backoff_min_ms;
    if (c->connect_timeout_ms > INT32_MAX)
        c->connect_timeout_ms = INT32_MAX;
    list_init(&c->calls);
    pthread_mutex_init(&c->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&c->changed, &attr);
    pthread_condattr_destroy(&attr);
    rpc_library_init();
    return c;
}

struct sandbox_client *sandbox_client_new(const struct sandbox_client_options *options,
                                          struct sandbox_error *err)
{
    struct sandbox_client *c = client_alloc(options);

    if (check_tls(options, err) && add_addresses(c, options, err) &&
        add_metadata(c, options, err) && add_token(c, options, err))
        return c;
    sandbox_client_free(c);
    return NULL;
}

void sandbox_client_free(struct sandbox_client *c)
{
    if (c == NULL)
        return;
    for (unsigned i = 0; i < c->policy.n_addresses; i++)
        endpoint_free(c->endpoints[i]);
    for (size_t i = 0; i < c->n_metadata; i++) {
        free((char *)c->metadata[i].key);
        free((char *)c->metadata[i].value);
    }
    pthread_cond_destroy(&c->changed);
    pthread_mutex_destroy(&c->lock);
    free(c);
    rpc_library_deinit();
}

void sandbox_client_stop(struct sandbox_client *c)
{
    pthread_mutex_lock(&c->lock);
    c->stopping = true;
    LIST_FOR_EACH (node, &c->calls)
        rpc_cancel(container_of(node, struct client_call, link)->rpc);
    pthread_cond_broadcast(&c->changed);
    pthread_mutex_unlock(&c->lock);
}

static bool stopped(struct sandbox_error *err)
{
    error_local(err, SANDBOX_CANCELLED, "STOPPED", "the client was stopped");
    return true;
}

bool client_is_stopped(struct sandbox_client *c, struct sandbox_error *err)
{
    pthread_mutex_lock(&c->lock);

    bool is = c->stopping;

    pthread_mutex_unlock(&c->lock);
    return is && stopped(err);
}

bool client_call_start(struct sandbox_client *c, struct client_call *call, unsigned address,
                       const char *service, const char *method, enum rpc_requests requests,
                       const ProtobufCMessage *request, int64_t deadline_ns,
                       struct sandbox_error *err)
{
    bool is_stopped;

    call->rpc = rpc_start(c->endpoints[address], service, method, requests, request, c->metadata,
                          c->n_metadata, deadline_ns);
    pthread_mutex_lock(&c->lock);
    is_stopped = c->stopping;
    list_append(&c->calls, &call->link);
    pthread_mutex_unlock(&c->lock);
    if (!is_stopped)
        return true;
    client_call_end(c, call, NULL);
    stopped(err);
    return false;
}

void client_call_end(struct sandbox_client *c, struct client_call *call,
                     const struct sandbox_error *why)
{
    pthread_mutex_lock(&c->lock);
    list_unlink(&call->link);
    pthread_mutex_unlock(&c->lock);
    if (why != NULL && !error_is_from_api(why))
        rpc_abandon_connection(call->rpc);
    rpc_free(call->rpc);
    call->rpc = NULL;
}

bool client_wait(struct sandbox_client *c, int64_t wait_ms, struct sandbox_error *err)
{
    int64_t until = clock_monotonic_ns() + wait_ms * NS_PER_MS;
    struct timespec ts = {.tv_sec = until / NS_PER_S, .tv_nsec = until % NS_PER_S};
    bool is_stopped;

    pthread_mutex_lock(&c->lock);
    while (!c->stopping && clock_monotonic_ns() < until)
        pthread_cond_timedwait(&c->changed, &c->lock, &ts);
    is_stopped = c->stopping;
    pthread_mutex_unlock(&c->lock);
    return !(is_stopped && stopped(err));
}

bool client_try_next(struct sandbox_client *c, struct resume *r,
                     void (*on_break)(void *user, const struct sandbox_error *why, const char *next,
                                      int64_t wait_ms),
                     void *user, struct sandbox_error *err)
{
    struct resume_step step = resume_failed(r, err, client_now_ms(), client_chance());

    if (step.what == RESUME_GIVE_UP)
        return false;
    if (on_break != NULL)
        on_break(user, err, endpoint_address(c->endpoints[r->address]), step.wait_ms);
    return client_wait(c, step.wait_ms, err);
}

void client_error(struct sandbox_client *c, unsigned address, const struct sandbox_error *from,
                  struct sandbox_error *ret)
{
    if (client_is_stopped(c, ret))
        return;
    *ret = *from;
    snprintf(ret->address, sizeof(ret->address), "%s", endpoint_address(c->endpoints[address]));
}

uint32_t client_chance(void)
{
    uint32_t n;

    if (getrandom(&n, sizeof(n), 0) != sizeof(n))
        abort();
    return n;
}

int64_t client_now_ms(void)
{
    return clock_monotonic_ns() / NS_PER_MS;
}

void sandbox_make_id(char id[SANDBOX_ID_SIZE])
{
    uint8_t bytes[16];

    if (getrandom(bytes, sizeof(bytes), 0) != sizeof(bytes))
        abort();
    for (size_t i = 0; i < sizeof(bytes); i++)
        snprintf(id + 2 * i, 3, "%02x", bytes[i]);
}
