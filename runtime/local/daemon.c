/* See daemon.h. */
#include "runtime/local/daemon.h"

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "runtime/local/proxy.h"
#include "runtime/local/template.h"
#include "runtime/local/token.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

void sandbox_request_deinit(struct sandbox_request *r)
{
    pairs_deinit(&r->metadata);
    pairs_deinit(&r->envs);
}

static void forget(struct daemon *d, struct sandbox *s)
{
    loop_timer_cancel(&d->loop, &s->expiry);
    proxy_cut(s);
    registry_remove(&d->registry, s);
}

void daemon_kill(struct daemon *d, struct sandbox *s, const char *why)
{
    char id[SANDBOX_ID_LEN + 1];
    struct status st = STATUS_INIT;

    strcpy(id, s->id);
    /* Streams first: what dies in the sandbox must not look like an orderly end. */
    forget(d, s);
    if (zygote_kill(d->zygote, id, &st) || st.code == CODE_NOT_FOUND)
        log_info("sandbox ended", LOG_S("sandbox_id", id), LOG_S("reason", why));
    else
        log_error("sandbox did not end", LOG_S("sandbox_id", id), LOG_S("error", st.message));
}

static void arm(struct daemon *d, struct sandbox *s)
{
    loop_timer_set(&d->loop, &s->expiry, s->end_at_ns);
}

static void on_expiry(struct loop_timer *timer)
{
    struct sandbox *s = container_of(timer, struct sandbox, expiry);

    daemon_kill(s->daemon, s, "its time is over");
}

static bool start(struct daemon *d, const char *id, const char *token,
                  const struct sandbox_request *r, struct status *st)
{
    struct zygote_env *envs = xcalloc(r->envs.n + 1, sizeof(*envs));
    struct zygote_spec spec = {
        .id = id,
        .template_id = TEMPLATE_ID,
        .envs = envs,
        .n_envs = r->envs.n,
        .access_token = token,
    };
    bool ok;

    for (size_t i = 0; i < r->envs.n; i++)
        envs[i] = (struct zygote_env){r->envs.items[i].name, r->envs.items[i].value};
    ok = zygote_create(d->zygote, &spec, st);
    free(envs);
    return ok;
}

static bool make_id(const struct daemon *d, char id[static SANDBOX_ID_LEN + 1], struct status *st)
{
    uint8_t random[20];

    do {
        if (getrandom(random, sizeof(random), 0) != sizeof(random))
            return status_set(st, CODE_INTERNAL, 0, "no random numbers");
        sandbox_id_make(random, id);
    } while (registry_find(&d->registry, id) != NULL);
    return true;
}

struct sandbox *daemon_create(struct daemon *d, struct sandbox_request *take, struct status *st)
{
    char id[SANDBOX_ID_LEN + 1], token[SANDBOX_TOKEN_LEN + 1] = "";
    int64_t began_ns = clock_monotonic_ns();

    if ((int64_t)d->registry.n_sandboxes >= d->config.max_sandboxes) {
        status_set(st, CODE_RESOURCE_EXHAUSTED, 0,
                   "there are already %lld sandboxes, the limit of this server",
                   (long long)d->config.max_sandboxes);
        return NULL;
    }
    if (!make_id(d, id, st))
        return NULL;
    if (take->secure)
        token_make(d->seed, sizeof(d->seed), id, token);
    if (!start(d, id, take->secure ? token : NULL, take, st))
        return NULL;

    /* The time it took to start is not charged. */
    struct sandbox *s = registry_add(&d->registry, id, clock_wall_ns(), clock_monotonic_ns(),
                                     take->timeout_s * NS_PER_S);

    s->daemon = d;
    s->template_id = xstrdup(TEMPLATE_ID);
    s->internet = take->internet;
    s->metadata = take->metadata;
    take->metadata = (struct pairs){NULL, 0};
    strcpy(s->access_token, token);
    s->expiry.fire = on_expiry;
    arm(d, s);
    log_info("sandbox started", LOG_S("sandbox_id", id),
             LOG_N("took_us", (clock_monotonic_ns() - began_ns) / 1000));
    return s;
}

void daemon_set_timeout(struct daemon *d, struct sandbox *s, int64_t left_ms)
{
    sandbox_set_end(s, clock_wall_ns(), clock_monotonic_ns(), left_ms * NS_PER_MS);
    arm(d, s);
}

int64_t daemon_max_left_ms(const struct daemon *d, const struct sandbox *s)
{
    int64_t age_ms = (clock_monotonic_ns() - s->start_at_ns) / NS_PER_MS;

    return age_ms < d->config.max_lifetime_ms ? d->config.max_lifetime_ms - age_ms : 0;
}

void daemon_reap(struct daemon *d)
{
    struct zygote_exit ended;
    enum zygote_next next;

    while ((next = zygote_next_exit(d->zygote, &ended)) == ZYGOTE_EXIT) {
        struct sandbox *s = registry_find(&d->registry, ended.id);

        log_warn("sandbox died", LOG_S("sandbox_id", ended.id),
                 LOG_N("wait_status", ended.wait_status));
        if (s != NULL)
            forget(d, s);
    }
    if (next == ZYGOTE_GONE) {
        log_error("the zygote died, and all sandboxes with it");
        d->failed = true;
        loop_stop(&d->loop);
    }
}
