/*
 * The standard health service. A pod serves everything until it drains; then only "liveness" (the
 * process is well, do not restart it) still says SERVING. It never depends on E2B: a pod that
 * cannot reach E2B is as good as any other. All on the call's worker.
 */
#include "service/handlers/health.h"

#include "common/base/mem.h"
#include "grpc/health/v1/health.pb-c.h"
#include "sandbox/v1/errors.pb-c.h"

#include <stdlib.h>
#include <string.h>

typedef Grpc__Health__V1__HealthCheckResponse__ServingStatus serving_status;

#define REASON(name) SANDBOX__V1__ERROR_REASON__ERROR_REASON_##name
#define STATUS(name) GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__##name

static const char *const names[] = {"", "sandbox.v1.SandboxService", "liveness", "readiness"};

enum { N_NAMES = sizeof(names) / sizeof(names[0]) };

static serving_status status_of(const struct call *c, const char *name)
{
    for (size_t i = 0; i < N_NAMES; i++) {
        if (strcmp(names[i], name) != 0)
            continue;
        return call_is_draining(c) && strcmp(name, "liveness") != 0 ? STATUS(NOT_SERVING)
                                                                    : STATUS(SERVING);
    }
    return STATUS(SERVICE_UNKNOWN);
}

void health_check_start(struct call *c, const ProtobufCMessage *message)
{
    const Grpc__Health__V1__HealthCheckRequest *r =
        (const Grpc__Health__V1__HealthCheckRequest *)message;
    Grpc__Health__V1__HealthCheckResponse m = GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__INIT;
    struct status st;

    m.status = status_of(c, r->service);
    if (m.status != STATUS(SERVICE_UNKNOWN)) {
        call_reply(c, &m.base);
        return;
    }
    status_set(&st, CODE_NOT_FOUND, REASON(INVALID_FIELD),
               "no service has the name %s; List tells those there are", r->service);
    call_finish(c, &st);
}

void health_list_start(struct call *c, const ProtobufCMessage *message)
{
    Grpc__Health__V1__HealthListResponse m = GRPC__HEALTH__V1__HEALTH_LIST_RESPONSE__INIT;
    Grpc__Health__V1__HealthListResponse__StatusesEntry entries[N_NAMES], *list[N_NAMES];
    Grpc__Health__V1__HealthCheckResponse values[N_NAMES];

    for (size_t i = 0; i < N_NAMES; i++) {
        grpc__health__v1__health_check_response__init(&values[i]);
        grpc__health__v1__health_list_response__statuses_entry__init(&entries[i]);
        values[i].status = status_of(c, names[i]);
        entries[i].key = (char *)names[i];
        entries[i].value = &values[i];
        list[i] = &entries[i];
    }
    m.statuses = list;
    m.n_statuses = N_NAMES;
    call_reply(c, &m.base);
}

/* --- Watch --- */

struct watch {
    struct call *call; /* borrowed: it owns this */
    char *name;        /* owned */
    serving_status sent;
    bool ending; /* the pod drains: the last status goes out, then the stream ends */
};

static void watch_destroy(void *state)
{
    struct watch *w = state;

    free(w->name);
    free(w);
}

static void watch_end(struct watch *w)
{
    struct status st;

    status_set(&st, CODE_UNAVAILABLE, REASON(POD_DRAINING),
               "this pod is about to stop: watch another one");
    st.retry_ms = 1;
    call_finish(w->call, &st);
}

static void watch_step(struct watch *w)
{
    Grpc__Health__V1__HealthCheckResponse m = GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__INIT;

    if (!call_can_send(w->call))
        return;
    m.status = status_of(w->call, w->name);
    if (m.status != w->sent) {
        w->sent = m.status;
        call_send(w->call, &m.base);
    }
    if (w->ending)
        watch_end(w); /* behind the message in flight */
}

static void watch_on_sent(void *state)
{
    watch_step(state);
}

static void watch_on_drain(void *state)
{
    struct watch *w = state;

    w->ending = true;
    watch_step(w);
}

static void watch_on_gone(void *state)
{
    struct watch *w = state;
    struct status st;

    status_set(&st, call_end_reason(w->call), REASON(DEADLINE), "the watcher went away");
    call_finish(w->call, &st);
}

static const struct call_handler watch_handler = {
    .on_sent = watch_on_sent,
    .on_gone = watch_on_gone,
    .on_drain = watch_on_drain,
    .destroy = watch_destroy,
};

void health_watch_start(struct call *c, const ProtobufCMessage *message)
{
    const Grpc__Health__V1__HealthCheckRequest *r =
        (const Grpc__Health__V1__HealthCheckRequest *)message;
    struct watch *w = xcalloc(1, sizeof(*w));

    w->call = c;
    w->name = xstrdup(r->service);
    w->sent = STATUS(UNKNOWN);
    call_set_handler(c, &watch_handler, w);
    watch_step(w);
}
