/*
 * Pause, resume and connect. What they ask for takes a while, and the client may leave meanwhile:
 * then it happens all the same, and nobody is told.
 */
#include "runtime/local/api/api.h"

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "runtime/local/daemon/pause.h"

#include <stdlib.h>
#include <string.h>

enum { CONNECT_DEFAULT_S = 300, RESUME_DEFAULT_S = 15 };

/* A client that waits for a sandbox. */
struct waiting {
    struct task task;
    struct daemon *daemon;   /* borrowed */
    struct http_exchange *x; /* borrowed; NULL once the client has left */
    char id[SANDBOX_ID_LEN + 1];
    int64_t timeout_s;
    bool memory;
};

static void on_gone(struct http_exchange *x)
{
    ((struct waiting *)http_user(x))->x = NULL;
}

static struct waiting *wait_for(const struct api_call *call, const struct sandbox *s,
                                int64_t timeout_s, bool memory)
{
    static const struct http_exchange_ops ops = {.gone = on_gone};
    struct waiting *w = xcalloc(1, sizeof(*w));

    *w = (struct waiting){
        .daemon = call->daemon, .x = call->x, .timeout_s = timeout_s, .memory = memory};
    strcpy(w->id, s->id);
    http_attach(call->x, &ops, w);
    return w;
}

/* memory: false asks to leave the memory behind. False: answered with 400. */
static bool body_memory(const struct api_call *call, bool *ret)
{
    struct json_object *v = NULL;

    *ret = true;
    if (call->body == NULL || !json_object_object_get_ex(call->body, "memory", &v) || v == NULL)
        return true;
    *ret = json_object_get_boolean(v);
    if (json_object_is_type(v, json_type_boolean))
        return true;
    api_error(call->x, 400, "validation error: memory must be true or false");
    return false;
}

bool api_timeout_fits(const struct api_call *call, int64_t timeout_s)
{
    int64_t max_ms = call->daemon->config.max_lifetime_ms;

    if (timeout_s <= max_ms / 1000)
        return true;
    api_error(call->x, 400, "Timeout cannot be greater than %lld hours",
              (long long)(max_ms / 3600000));
    return false;
}

bool api_is_idle(const struct api_call *call, const struct sandbox *s)
{
    if (!s->busy)
        return true;
    api_error(call->x, 409, "Sandbox \"%s\" is being paused, resumed or saved", s->id);
    return false;
}

static void on_paused(void *ctx, struct sandbox *s, const struct status *st)
{
    struct waiting *w = ctx;

    if (w->x != NULL && st->code == CODE_OK)
        http_reply(w->x, 204, NULL, NULL, 0);
    else if (w->x != NULL)
        api_status(w->x, st);
    free(w);
}

void api_pause(const struct api_call *call)
{
    struct sandbox *s = api_sandbox(call);
    bool memory;

    if (s == NULL || !body_memory(call, &memory) || !api_is_running(call, s) ||
        !api_is_idle(call, s))
        return;
    daemon_pause(call->daemon, s, memory, on_paused, wait_for(call, s, 0, memory));
}

static void on_resumed(void *ctx, struct sandbox *s, const struct status *st)
{
    struct waiting *w = ctx;

    if (w->x != NULL && st->code == CODE_OK)
        api_json(w->x, 201, api_sandbox_json(w->daemon, s));
    else if (w->x != NULL)
        api_status(w->x, st);
    free(w);
}

void api_resume(const struct api_call *call)
{
    struct sandbox *s = api_sandbox(call);
    int64_t timeout_s;
    bool memory;

    if (s == NULL || !api_body_number(call, "timeout", false, 0, RESUME_DEFAULT_S, &timeout_s) ||
        !api_timeout_fits(call, timeout_s) || !body_memory(call, &memory))
        return;
    if (!s->paused)
        api_error(call->x, 409, "Sandbox \"%s\" is running already", s->id);
    else if (api_is_idle(call, s))
        daemon_resume(call->daemon, s, timeout_s, memory, on_resumed,
                      wait_for(call, s, timeout_s, memory));
}

/* Its end only moves further away, and never beyond what is left of the longest life. */
static void prolong(struct daemon *d, struct sandbox *s, int64_t timeout_s)
{
    int64_t left_ms = daemon_max_left_ms(d, s);

    if (left_ms > timeout_s * 1000)
        left_ms = timeout_s * 1000;
    if (clock_boottime_ns() + left_ms * NS_PER_MS > s->end_at_ns)
        daemon_set_timeout(d, s, left_ms);
}

static void connect_step(struct task *task)
{
    struct waiting *w = container_of(task, struct waiting, task);
    struct sandbox *s = registry_find(&w->daemon->registry, w->id);

    if (w->x == NULL) {
        free(w);
    } else if (s == NULL) {
        api_error(w->x, 404, "Sandbox \"%s\" doesn't exist or you don't have access to it", w->id);
        free(w);
    } else if (s->busy && (s->paused || s->observer == NULL)) {
        daemon_when_idle(s, &w->task);
    } else if (s->paused) {
        daemon_resume(w->daemon, s, w->timeout_s, w->memory, on_resumed, w);
    } else {
        prolong(w->daemon, s, w->timeout_s);
        api_json(w->x, 200, api_sandbox_json(w->daemon, s));
        free(w);
    }
}

void api_connect(const struct api_call *call)
{
    struct sandbox *s = api_sandbox(call);
    int64_t timeout_s;
    struct waiting *w;
    bool memory;

    if (s == NULL ||
        !api_body_number(call, "timeout", !call->v2, 0, CONNECT_DEFAULT_S, &timeout_s) ||
        !api_timeout_fits(call, timeout_s) || !body_memory(call, &memory))
        return;
    w = wait_for(call, s, timeout_s, memory);
    w->task.run = connect_step;
    connect_step(&w->task);
}
