/*
 * See identity.h. The gate runs on the workers; the keyring is replaced on the watch's thread, and
 * each call keeps the one it came in with. Whatever a caller brought is neither logged nor quoted.
 */
#include "service/identity/identity.h"

#include "common/base/cleanup.h"
#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/base/sha256.h"
#include "sandbox/v1/errors.pb-c.h"
#include "service/identity/caller.h"
#include "service/identity/keyring.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define REASON(name) SANDBOX__V1__ERROR_REASON__ERROR_REASON_##name

enum {
    DRAIN_RETRY_MS = 200,
    /* Streams of methods that need no key: of health, of reflection. */
    OPEN_STREAMS_MAX = 1024,
    E2B_KEY_MAX = 256,
};

struct identity {
    struct gate gate;
    struct identity_config config;
    struct limiter *limiter; /* owned */
    struct limiter *open;    /* owned; of methods that need no key */
    struct watched keys_file;
    atomic_ullong random;
    atomic_llong reloads, failed_reloads, refused;

    pthread_mutex_t lock;
    struct keyring *keyring; /* owned; under lock */
};

/* A caller that was let in. */
struct visitor {
    struct caller caller;
    struct keyring *keyring; /* owned: the tenant is in it; NULL: none */
    char *api_key;           /* owned; NULL: none */
    struct limiter *limiter; /* borrowed; NULL: not counted */
    struct share *share;
    bool stream;
};

/* --- the file --- */

static bool read_keys(struct identity *i, struct keyring **ret, struct status *st)
{
    AUTO(buf_deinit) struct buf text = BUF_INIT(KEYRING_FILE_MAX);
    const char *path = i->config.keys_file;

    if (!watch_read_file(path, &text, st))
        return false;
    return keyring_parse(buf_str(&text), buf_len(&text), &i->config.tenant, ret, st) ||
           status_prefix(st, "%s: ", path);
}

static void log_keys(const struct identity *i, const struct keyring *k)
{
    log_info("keys were read", LOG_S("file", i->config.keys_file), LOG_N("keys", k->n_keys),
             LOG_N("tenants", k->n_tenants));
}

static void keys_changed(struct watched *files)
{
    struct identity *i = container_of(files, struct identity, keys_file);
    struct keyring *new, *old;
    struct status st = STATUS_INIT;

    if (!read_keys(i, &new, &st)) {
        atomic_fetch_add(&i->failed_reloads, 1);
        log_error("the new keys cannot be used, the old ones stay", LOG_S("error", st.message));
        return;
    }
    log_keys(i, new);
    pthread_mutex_lock(&i->lock);
    old = i->keyring;
    i->keyring = new;
    pthread_mutex_unlock(&i->lock);
    keyring_unref(old);
    atomic_fetch_add(&i->reloads, 1);
}

static struct keyring *current_keyring(struct identity *i)
{
    struct keyring *k;

    pthread_mutex_lock(&i->lock);
    k = keyring_ref(i->keyring);
    pthread_mutex_unlock(&i->lock);
    return k;
}

/* --- who it is --- */

static bool unauthenticated(struct identity *i, const char *why, struct status *st)
{
    atomic_fetch_add(&i->refused, 1);
    return status_set(st, CODE_UNAUTHENTICATED, REASON(UNAUTHENTICATED), "%s", why);
}

/* What follows "Bearer "; NULL: there is no such thing. */
static const char *bearer(const struct call *c)
{
    static const char scheme[] = "Bearer ";
    const char *value = call_metadata(c, "authorization");

    if (value == NULL || strncasecmp(value, scheme, sizeof(scheme) - 1) != 0)
        return NULL;
    value += sizeof(scheme) - 1;
    return value + strspn(value, " ");
}

static bool find_tenant(struct identity *i, struct visitor *v, const struct call *c,
                        const struct limits **ret_limits, struct status *st)
{
    const char *key = bearer(c);
    const struct keyring_tenant *tenant;

    if (key == NULL)
        return unauthenticated(
            i, "this server asks for a key: send it as \"authorization: Bearer KEY\"", st);
    v->keyring = current_keyring(i);
    tenant = keyring_find(v->keyring, key);
    if (tenant == NULL)
        return unauthenticated(i, "this server does not know the key", st);
    v->caller.pass.tenant = v->caller.e2b.tenant = tenant->name;
    v->caller.e2b.templates = (const char *const *)tenant->templates;
    v->caller.e2b.n_templates = tenant->n_templates;
    *ret_limits = &tenant->limits;
    return true;
}

/* As E2B makes them. It goes into a header of ours, so nothing else may pass. */
static bool is_e2b_key(const char *key)
{
    size_t len = strlen(key);

    return len > 0 && len <= E2B_KEY_MAX &&
           strspn(key, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.") == len;
}

static bool take_e2b_key(struct identity *i, struct visitor *v, const struct call *c,
                         struct status *st)
{
    const char *key = call_metadata(c, "x-e2b-api-key");

    if (key == NULL)
        key = bearer(c);
    if (key == NULL)
        return unauthenticated(i,
                               "this server works with its callers' own E2B keys: send yours as "
                               "\"x-e2b-api-key: KEY\" or \"authorization: Bearer KEY\"",
                               st);
    if (!is_e2b_key(key))
        return unauthenticated(i, "the key has a form that no E2B key has", st);
    v->api_key = xstrdup(key);
    v->caller.e2b.api_key = v->api_key;
    return true;
}

static bool identify(struct identity *i, struct visitor *v, const struct call *c,
                     const struct limits **ret_limits, struct status *st)
{
    *ret_limits = &i->config.tenant;
    switch (i->config.mode) {
    case AUTH_NONE:
        return true;
    case AUTH_KEYS:
        return find_tenant(i, v, c, ret_limits, st);
    case AUTH_PASSTHROUGH:
        return take_e2b_key(i, v, c, st);
    }
    return false;
}

/* --- how much of it --- */

/* Spread out, not secret. */
static uint64_t next_random(struct identity *i)
{
    uint64_t x = atomic_fetch_add(&i->random, UINT64_C(0x9e3779b97f4a7c15));

    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

/* Under which name it is counted; a key that is passed through, under its hash. */
static void account_name(const struct visitor *v, char ret[2 * SHA256_LEN + 1])
{
    uint8_t digest[SHA256_LEN];
    struct sha256 h;

    snprintf(ret, 2 * SHA256_LEN + 1, "%s",
             v->caller.e2b.tenant != NULL ? v->caller.e2b.tenant : "");
    if (v->api_key == NULL)
        return;
    sha256_init(&h);
    sha256_update(&h, v->api_key, strlen(v->api_key));
    sha256_final(&h, digest);
    for (size_t n = 0; n < SHA256_LEN; n++)
        snprintf(ret + 2 * n, 3, "%02x", digest[n]);
}

static bool count(struct identity *i, struct visitor *v, struct limiter *limiter,
                  const struct method *m, const struct limits *limits, struct status *st)
{
    char name[2 * SHA256_LEN + 1];
    struct limiter_call call = {
        .tenant = name,
        .limits = limits,
        .stream = v->stream,
        .pressed =
            v->stream && i->config.queue_is_full != NULL && i->config.queue_is_full(i->config.ctx),
        .creates = m->creates,
        .now_ns = clock_monotonic_ns(),
        .random = next_random(i),
    };

    account_name(v, name);
    if (!limiter_enter(limiter, &call, &v->share, st))
        return false;
    v->limiter = limiter;
    return true;
}

/* A stream would be sent away again in a moment; said now, the caller's library may go to another
 * pod by itself. */
static bool refuse_draining(struct identity *i, struct status *st)
{
    status_set(st, CODE_UNAVAILABLE, REASON(POD_DRAINING),
               "this pod is about to stop: call again, another answers");
    st->retry_ms = DRAIN_RETRY_MS / 2 + (int64_t)(next_random(i) % DRAIN_RETRY_MS);
    return false;
}

/* --- the gate --- */

static bool starts_with(const char *s, const char *prefix)
{
    return strncmp(s, prefix, strlen(prefix)) == 0;
}

static bool needs_no_key(const struct identity *i, const struct method *m)
{
    const char *service = m->service->name;

    return (i->config.health_is_open && starts_with(service, "grpc.health.")) ||
           (i->config.reflection_is_open && starts_with(service, "grpc.reflection."));
}

static bool is_ours(const struct method *m)
{
    return !starts_with(m->service->name, "grpc.");
}

static void visitor_free(struct visitor *v)
{
    if (v->limiter != NULL)
        limiter_leave(v->limiter, v->share, v->stream);
    if (v->api_key != NULL)
        explicit_bzero(v->api_key, strlen(v->api_key));
    free(v->api_key);
    keyring_unref(v->keyring);
    free(v);
}

/* Asked of everybody: what needs no key still is behind the wall. */
static bool has_certificate(struct identity *i, const struct call *c, struct status *st)
{
    const char *own, *others;

    if (i->config.clients == NULL)
        return true;
    own = call_peer_certificate(c, &others);
    if (clients_check(i->config.clients, own, others, clock_wall_ns(), st))
        return true;
    atomic_fetch_add(&i->refused, 1);
    return false;
}

static bool let_in(struct identity *i, struct visitor *v, const struct call *c, struct status *st)
{
    const struct method *m = call_method(c);
    const struct limits *limits;

    if (!has_certificate(i, c, st))
        return false;
    if (needs_no_key(i, m))
        return !v->stream ||
               count(i, v, i->open, m, &(struct limits){.streams = OPEN_STREAMS_MAX}, st);
    if (!identify(i, v, c, &limits, st))
        return false;
    if (v->stream && is_ours(m) && call_is_draining(c))
        return refuse_draining(i, st);
    return count(i, v, i->limiter, m, limits, st);
}

static bool enter(struct gate *gate, const struct call *c, struct pass **ret, struct status *st)
{
    struct identity *i = container_of(gate, struct identity, gate);
    struct visitor *v = xcalloc(1, sizeof(*v));

    v->stream = call_method(c)->kind != METHOD_UNARY;
    if (!let_in(i, v, c, st)) {
        visitor_free(v);
        return false;
    }
    *ret = &v->caller.pass;
    return true;
}

static void leave(struct gate *gate, struct pass *pass)
{
    struct caller *caller = container_of(pass, struct caller, pass);

    visitor_free(container_of(caller, struct visitor, caller));
}

struct gate *identity_gate(struct identity *i)
{
    return &i->gate;
}

/* --- life --- */

bool identity_new(const struct identity_config *config, struct watch *watch, struct identity **ret,
                  struct status *st)
{
    struct identity *i = xcalloc(1, sizeof(*i));

    i->gate = (struct gate){.enter = enter, .leave = leave};
    i->config = *config;
    i->limiter = limiter_new(&config->pod);
    i->open = limiter_new(&(struct limits){0});
    atomic_init(&i->random, (unsigned long long)clock_wall_ns());
    pthread_mutex_init(&i->lock, NULL);
    if (config->mode == AUTH_KEYS) {
        i->keys_file.paths[0] = config->keys_file;
        i->keys_file.changed = keys_changed;
        watch_add(watch, &i->keys_file);
        if (!read_keys(i, &i->keyring, st)) {
            list_unlink(&i->keys_file.node);
            identity_free(i);
            return false;
        }
        log_keys(i, i->keyring);
    }
    *ret = i;
    return true;
}

void identity_free(struct identity *i)
{
    if (i == NULL)
        return;
    keyring_unref(i->keyring);
    limiter_free(i->limiter);
    limiter_free(i->open);
    pthread_mutex_destroy(&i->lock);
    free(i);
}

void identity_count(struct identity *i, struct identity_counts *ret)
{
    struct keyring *k = current_keyring(i);

    *ret = (struct identity_counts){
        .keys = k != NULL ? (int64_t)k->n_keys : 0,
        .tenants = k != NULL ? (int64_t)k->n_tenants : 0,
        .reloads = atomic_load(&i->reloads),
        .failed_reloads = atomic_load(&i->failed_reloads),
        .refused = atomic_load(&i->refused),
    };
    keyring_unref(k);
    limiter_count(i->limiter, &ret->limits);
}
