/*
 * See limiter.h. One lock, held for a look into a small table. An account whose calls have all
 * ended is kept for its rate, oldest dropped first, so that names which come and go (keys passed
 * through) take bounded memory.
 */
#include "service/limits/limiter.h"

#include "common/base/clock.h"
#include "common/base/list.h"
#include "common/base/mem.h"
#include "sandbox/v1/errors.pb-c.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define REASON(name) SANDBOX__V1__ERROR_REASON__ERROR_REASON_##name

enum {
    BUCKETS = 1024,
    QUOTA_RETRY_MS = 1000, /* a guess: some call of the tenant's own must end first */
    FULL_RETRY_MS = 200,   /* there are other pods */
};

struct share {
    struct share *next; /* in its bucket */
    struct list idle;   /* while it has no calls; the longest first */
    int64_t calls, streams;
    int64_t next_create_ns; /* when the next one would be due if they came evenly */
    char name[];
};

struct limiter {
    struct limits pod;
    pthread_mutex_t lock; /* guards what follows */
    struct limiter_counts counts;
    int64_t n_idle;
    struct list idle;
    struct share *buckets[BUCKETS];
};

struct limiter *limiter_new(const struct limits *pod)
{
    struct limiter *l = xcalloc(1, sizeof(*l));

    l->pod = *pod;
    list_init(&l->idle);
    pthread_mutex_init(&l->lock, NULL);
    return l;
}

/* --- accounts --- */

static struct share **find(struct limiter *l, const char *name)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325); /* FNV-1a */
    struct share **slot;

    for (const char *s = name; *s != '\0'; s++)
        hash = (hash ^ (uint8_t)*s) * UINT64_C(0x100000001b3);
    slot = &l->buckets[hash % BUCKETS];
    while (*slot != NULL && strcmp((*slot)->name, name) != 0)
        slot = &(*slot)->next;
    return slot;
}

/* One without calls. */
static void drop(struct limiter *l, struct share **slot)
{
    struct share *s = *slot;

    *slot = s->next;
    list_unlink(&s->idle);
    l->n_idle--;
    l->counts.tenants--;
    free(s);
}

static void rest(struct limiter *l, struct share *s)
{
    list_append(&l->idle, &s->idle);
    if (++l->n_idle > LIMITER_IDLE_MAX)
        drop(l, find(l, container_of(l->idle.next, struct share, idle)->name));
}

static struct share *find_or_add(struct limiter *l, const char *name)
{
    struct share **slot = find(l, name);
    size_t size = strlen(name) + 1;

    if (*slot != NULL)
        return *slot;
    *slot = xcalloc(1, sizeof(**slot) + size);
    memcpy((*slot)->name, name, size);
    list_init(&(*slot)->idle);
    l->counts.tenants++;
    return *slot;
}

void limiter_free(struct limiter *l)
{
    if (l == NULL)
        return;
    while (!list_is_empty(&l->idle))
        drop(l, find(l, container_of(l->idle.next, struct share, idle)->name));
    pthread_mutex_destroy(&l->lock);
    free(l);
}

/* --- refusals --- */

static bool pod_is_full(const char *what, int64_t limit, uint64_t random, struct status *st)
{
    status_set(st, CODE_UNAVAILABLE, REASON(POD_FULL),
               "this pod has %lld %s under way and takes no more: try again, another may have room",
               (long long)limit, what);
    /* Spread out, or those refused together come back together. */
    st->retry_ms = FULL_RETRY_MS / 2 + (int64_t)(random % FULL_RETRY_MS);
    return false;
}

static bool over_quota(const struct limiter_call *c, const char *limit, int64_t value,
                       int64_t retry_ms, struct status *st)
{
    const char *who = c->tenant[0] != '\0' ? c->tenant : "this server's callers";

    status_set(st, CODE_RESOURCE_EXHAUSTED, REASON(TENANT_QUOTA),
               "%s reached %s, which is %lld on this pod", who, limit, (long long)value);
    status_detail(st, "tenant", "%s", c->tenant);
    status_detail(st, "limit", "%s", limit);
    status_detail(st, "value", "%lld", (long long)value);
    st->retry_ms = retry_ms;
    return false;
}

/* --- the rules --- */

static bool pod_has_room(const struct limiter *l, const struct limiter_call *c, struct status *st)
{
    if (l->pod.calls > 0 && l->counts.calls >= l->pod.calls)
        return pod_is_full("calls", l->pod.calls, c->random, st);
    if (c->stream && l->pod.streams > 0 && l->counts.streams >= l->pod.streams)
        return pod_is_full("streams", l->pod.streams, c->random, st);
    return !(c->stream && c->pressed) || pod_is_full("streams", l->counts.streams, c->random, st);
}

static bool tenant_has_room(const struct share *s, const struct limiter_call *c, struct status *st)
{
    const struct limits *most = c->limits;

    if (most->calls > 0 && s->calls >= most->calls)
        return over_quota(c, "max-calls", most->calls, QUOTA_RETRY_MS, st);
    if (c->stream && most->streams > 0 && s->streams >= most->streams)
        return over_quota(c, "max-streams", most->streams, QUOTA_RETRY_MS, st);
    return true;
}

/* Counts it, if it may be made. As many as a minute has may come at once. */
static bool may_create(struct share *s, const struct limiter_call *c, struct status *st)
{
    int64_t n = c->limits->creates_per_minute;
    int64_t apart_ns, due_ns, early_ns;

    if (!c->creates || n <= 0)
        return true;
    apart_ns = 60 * NS_PER_S / n;
    due_ns = s->next_create_ns > c->now_ns ? s->next_create_ns : c->now_ns;
    early_ns = due_ns - c->now_ns - apart_ns * (n - 1);
    if (early_ns > 0)
        return over_quota(c, "creates-per-minute", n, early_ns / NS_PER_MS + 1, st);
    s->next_create_ns = due_ns + apart_ns;
    return true;
}

static bool enter(struct limiter *l, struct share *s, const struct limiter_call *c,
                  struct status *st)
{
    if (!tenant_has_room(s, c, st)) {
        l->counts.refused_tenant++;
        return false;
    }
    if (!pod_has_room(l, c, st)) {
        l->counts.refused_pod++;
        return false;
    }
    if (!may_create(s, c, st)) {
        l->counts.refused_tenant++;
        return false;
    }
    return true;
}

bool limiter_enter(struct limiter *l, const struct limiter_call *c, struct share **ret,
                   struct status *st)
{
    struct share *s;
    bool in, was_idle;

    pthread_mutex_lock(&l->lock);
    s = find_or_add(l, c->tenant);
    was_idle = s->calls == 0;
    in = enter(l, s, c, st);
    if (was_idle && !list_is_empty(&s->idle)) {
        list_unlink(&s->idle);
        l->n_idle--;
    }
    if (in) {
        s->calls++;
        s->streams += c->stream;
        l->counts.calls++;
        l->counts.streams += c->stream;
        *ret = s;
    } else if (was_idle) {
        rest(l, s);
    }
    pthread_mutex_unlock(&l->lock);
    return in;
}

void limiter_leave(struct limiter *l, struct share *s, bool stream)
{
    pthread_mutex_lock(&l->lock);
    s->calls--;
    s->streams -= stream;
    l->counts.calls--;
    l->counts.streams -= stream;
    if (s->calls == 0)
        rest(l, s);
    pthread_mutex_unlock(&l->lock);
}

void limiter_count(struct limiter *l, struct limiter_counts *ret)
{
    pthread_mutex_lock(&l->lock);
    *ret = l->counts;
    pthread_mutex_unlock(&l->lock);
}
