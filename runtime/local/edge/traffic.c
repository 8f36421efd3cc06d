/*
 * See traffic.h. Only what was paused with its memory wakes by itself; of which the files alone are
 * left, that is for those to resume who know that its processes start anew.
 */
#include "runtime/local/edge/traffic.h"

#include "common/base/mem.h"
#include "runtime/local/daemon/pause.h"
#include "runtime/local/edge/edge.h"
#include "runtime/local/edge/proxy.h"

#include <stdlib.h>

enum { AWAKE_MIN_S = 300 };

struct waking {
    struct task task;
    struct daemon *daemon;   /* borrowed */
    struct http_exchange *x; /* borrowed; NULL once the client has left */
    struct route route;
};

static void on_gone(struct http_exchange *x)
{
    ((struct waking *)http_user(x))->x = NULL;
}

/* Not busy any more, or gone: the request begins anew. */
static void again(struct task *task)
{
    struct waking *w = container_of(task, struct waking, task);

    if (w->x != NULL) {
        http_resume(w->x);
        traffic_request(w->daemon, w->x, &w->route);
    }
    free(w);
}

static void on_resumed(void *ctx, struct sandbox *s, const struct status *st)
{
    struct waking *w = ctx;

    if (st->code == CODE_OK) {
        again(&w->task);
        return;
    }
    if (w->x != NULL)
        edge_not_found(w->x, w->route.sandbox_id);
    free(w);
}

static int64_t awake_s(const struct daemon *d, const struct sandbox *s)
{
    int64_t timeout_s = s->timeout_s > AWAKE_MIN_S ? s->timeout_s : AWAKE_MIN_S;
    int64_t max_s = d->config.max_lifetime_ms / 1000;

    return timeout_s < max_s ? timeout_s : max_s;
}

static void wake(struct daemon *d, struct http_exchange *x, const struct route *route,
                 struct sandbox *s)
{
    static const struct http_exchange_ops ops = {.gone = on_gone};
    struct waking *w;

    if (!s->busy && (s->stored || !s->auto_resume)) {
        edge_not_found(x, s->id);
        return;
    }
    w = xcalloc(1, sizeof(*w));
    *w = (struct waking){.task.run = again, .daemon = d, .x = x, .route = *route};
    http_attach(x, &ops, w);
    http_pause(x);
    if (s->busy)
        daemon_when_idle(s, &w->task);
    else
        daemon_resume(d, s, awake_s(d, s), true, on_resumed, w);
}

void traffic_request(struct daemon *d, struct http_exchange *x, const struct route *route)
{
    struct sandbox *s = registry_find(&d->registry, route->sandbox_id);

    /* What is on its way into a pause has nobody that watches it any more. */
    if (s == NULL || !(s->paused || (s->busy && s->observer == NULL)))
        proxy_request(d, x, route);
    else if (proxy_admits(s, x, route))
        wake(d, x, route, s);
}
