/*
 * SetSandboxTimeout, KeepAlive, PauseSandbox, ResumeSandbox, UpdateSandbox: each changes one thing
 * and answers with the sandbox as it is then. And GetSandboxMetrics. On the call's worker.
 */
#include "service/handlers/lifecycle.h"

#include "common/base/cleanup.h"
#include "common/base/clock.h"
#include "common/base/mem.h"
#include "sandbox/v1/errors.pb-c.h"
#include "sandbox/v1/lifecycle.pb-c.h"
#include "service/handlers/network_field.h"
#include "service/handlers/sandbox_message.h"
#include "service/handlers/sandbox_operation.h"

#include <stdio.h>
#include <stdlib.h>

enum { INVALID_FIELD = SANDBOX__V1__ERROR_REASON__ERROR_REASON_INVALID_FIELD };

static struct sandbox_operation *of(struct operation *o)
{
    return container_of(o, struct sandbox_operation, o);
}

/* --- time --- */

static void timeout_answer(struct operation *o)
{
    Sandbox__V1__SetSandboxTimeoutResponse m = SANDBOX__V1__SET_SANDBOX_TIMEOUT_RESPONSE__INIT;
    Google__Protobuf__Timestamp end;

    timestamp_set(&end, of(o)->sandbox.end_ns);
    m.end_time = &end;
    call_reply(o->call, &m.base);
}

void set_sandbox_timeout_start(struct call *c, const ProtobufCMessage *message)
{
    const Sandbox__V1__SetSandboxTimeoutRequest *r =
        (const Sandbox__V1__SetSandboxTimeoutRequest *)message;
    struct status st = STATUS_INIT;
    struct sandbox_operation *k;
    int64_t timeout_s;

    if (!timeout_read(r->timeout, 0, timeout_max_s(c), &timeout_s, &st)) {
        call_finish(c, &st);
        return;
    }
    k = sandbox_operation_new(c, r->sandbox_id, timeout_answer);
    if (k != NULL)
        e2b_set_timeout(operation_e2b(&k->o), &k->o.op, k->sandbox_id, timeout_s, &k->sandbox);
}

static void keep_alive_answer(struct operation *o)
{
    Sandbox__V1__KeepAliveResponse m = SANDBOX__V1__KEEP_ALIVE_RESPONSE__INIT;
    Google__Protobuf__Timestamp end;

    timestamp_set(&end, of(o)->sandbox.end_ns);
    m.end_time = &end;
    call_reply(o->call, &m.base);
}

void keep_alive_start(struct call *c, const ProtobufCMessage *message)
{
    const Sandbox__V1__KeepAliveRequest *r = (const Sandbox__V1__KeepAliveRequest *)message;
    struct status st = STATUS_INIT;
    struct sandbox_operation *k;
    int64_t timeout_s;

    if (!timeout_read(r->timeout, TIMEOUT_DEFAULT_S, E2B_KEEP_ALIVE_MAX_S, &timeout_s, &st)) {
        call_finish(c, &st);
        return;
    }
    k = sandbox_operation_new(c, r->sandbox_id, keep_alive_answer);
    if (k != NULL)
        e2b_keep_alive(operation_e2b(&k->o), &k->o.op, k->sandbox_id, timeout_s, &k->sandbox);
}

/* --- pause, resume --- */

static void pause_answer(struct operation *o)
{
    Sandbox__V1__PauseSandboxResponse m = SANDBOX__V1__PAUSE_SANDBOX_RESPONSE__INIT;
    AUTO(sandbox_message_deinit) struct sandbox_message sandbox;

    sandbox_message_init(&sandbox, &of(o)->sandbox);
    m.sandbox = &sandbox.m;
    call_reply(o->call, &m.base);
}

void pause_sandbox_start(struct call *c, const ProtobufCMessage *message)
{
    const Sandbox__V1__PauseSandboxRequest *r = (const Sandbox__V1__PauseSandboxRequest *)message;
    struct sandbox_operation *k = sandbox_operation_new(c, r->sandbox_id, pause_answer);

    if (k != NULL)
        e2b_pause(operation_e2b(&k->o), &k->o.op, k->sandbox_id, r->discard_memory, &k->sandbox);
}

static void resume_answer(struct operation *o)
{
    Sandbox__V1__ResumeSandboxResponse m = SANDBOX__V1__RESUME_SANDBOX_RESPONSE__INIT;
    AUTO(sandbox_message_deinit) struct sandbox_message sandbox;

    sandbox_message_init(&sandbox, &of(o)->sandbox);
    m.sandbox = &sandbox.m;
    m.resumed = of(o)->flag;
    call_reply(o->call, &m.base);
}

void resume_sandbox_start(struct call *c, const ProtobufCMessage *message)
{
    const Sandbox__V1__ResumeSandboxRequest *r = (const Sandbox__V1__ResumeSandboxRequest *)message;
    struct status st = STATUS_INIT;
    struct sandbox_operation *k;
    int64_t timeout_s;

    if (!timeout_read(r->timeout, TIMEOUT_DEFAULT_S, timeout_max_s(c), &timeout_s, &st)) {
        call_finish(c, &st);
        return;
    }
    k = sandbox_operation_new(c, r->sandbox_id, resume_answer);
    if (k != NULL)
        e2b_resume(operation_e2b(&k->o), &k->o.op, k->sandbox_id, timeout_s, &k->sandbox, &k->flag);
}

/* --- network --- */

static void update_answer(struct operation *o)
{
    Sandbox__V1__UpdateSandboxResponse m = SANDBOX__V1__UPDATE_SANDBOX_RESPONSE__INIT;
    AUTO(sandbox_message_deinit) struct sandbox_message sandbox;

    sandbox_message_init(&sandbox, &of(o)->sandbox);
    m.sandbox = &sandbox.m;
    call_reply(o->call, &m.base);
}

void update_sandbox_start(struct call *c, const ProtobufCMessage *message)
{
    const Sandbox__V1__UpdateSandboxRequest *r = (const Sandbox__V1__UpdateSandboxRequest *)message;
    AUTO(e2b_network_deinit) struct e2b_network network = {0};
    struct status st = STATUS_INIT;
    struct sandbox_operation *k;
    bool ok = r->network != NULL
                  ? network_field_read("network", r->network, &network, &st)
                  : status_bad_field(&st, INVALID_FIELD, "network",
                                     "network is required; an empty one restricts nothing");

    if (!ok) {
        call_finish(c, &st);
        return;
    }
    k = sandbox_operation_new(c, r->sandbox_id, update_answer);
    if (k != NULL)
        e2b_set_network(operation_e2b(&k->o), &k->o.op, k->sandbox_id, &network, &k->sandbox);
}

/* --- metrics --- */

struct metrics {
    struct operation o;
    char sandbox_id[VALIDATE_ID_MAX + 1];
    struct e2b_metrics metrics;
};

static void metrics_release(struct operation *o)
{
    struct metrics *k = container_of(o, struct metrics, o);

    e2b_metrics_deinit(&k->metrics);
    free(k);
}

struct sample_message {
    Sandbox__V1__GetSandboxMetricsResponse__Sample m;
    Google__Protobuf__Timestamp time;
};

static void sample_set(struct sample_message *to, const struct e2b_sample *s)
{
    sandbox__v1__get_sandbox_metrics_response__sample__init(&to->m);
    timestamp_set(&to->time, s->time_ns);
    to->m.time = &to->time;
    to->m.cpu_count = s->cpu_count;
    to->m.cpu_used_percent = s->cpu_used_percent;
    to->m.memory_used_bytes = s->memory_used;
    to->m.memory_total_bytes = s->memory_total;
    to->m.memory_cache_bytes = s->memory_cache;
    to->m.disk_used_bytes = s->disk_used;
    to->m.disk_total_bytes = s->disk_total;
}

static void metrics_answer(struct operation *o)
{
    const struct e2b_metrics *metrics = &container_of(o, struct metrics, o)->metrics;
    size_t n = metrics->n_samples;
    Sandbox__V1__GetSandboxMetricsResponse m = SANDBOX__V1__GET_SANDBOX_METRICS_RESPONSE__INIT;
    AUTO_FREE struct sample_message *samples = xcalloc(n, sizeof(samples[0]));
    AUTO_FREE Sandbox__V1__GetSandboxMetricsResponse__Sample **pointers =
        xcalloc(n, sizeof(pointers[0]));

    for (size_t i = 0; i < n; i++) {
        sample_set(&samples[i], &metrics->samples[i]);
        pointers[i] = &samples[i].m;
    }
    m.samples = pointers;
    m.n_samples = n;
    call_reply(o->call, &m.base);
}

/* 0 where t is not given. */
static bool read_time(const char *field, const Google__Protobuf__Timestamp *t, int64_t *ret_s,
                      struct status *st)
{
    *ret_s = t != NULL ? t->seconds : 0;
    if (t == NULL || (t->seconds > 0 && t->seconds <= INT64_MAX / NS_PER_S))
        return true;
    return status_bad_field(st, INVALID_FIELD, field, "%s is not a time after 1970", field);
}

static bool read_range(const Sandbox__V1__GetSandboxMetricsRequest *r, int64_t *ret_start_s,
                       int64_t *ret_end_s, struct status *st)
{
    if (!validate_id("sandbox_id", r->sandbox_id, st) ||
        !read_time("start_time", r->start_time, ret_start_s, st) ||
        !read_time("end_time", r->end_time, ret_end_s, st))
        return false;
    if (*ret_end_s == 0 || *ret_start_s <= *ret_end_s)
        return true;
    return status_bad_field(st, INVALID_FIELD, "end_time", "end_time is before start_time");
}

void get_sandbox_metrics_start(struct call *c, const ProtobufCMessage *message)
{
    const Sandbox__V1__GetSandboxMetricsRequest *r =
        (const Sandbox__V1__GetSandboxMetricsRequest *)message;
    struct status st = STATUS_INIT;
    int64_t start_s, end_s;
    struct metrics *k;

    if (!read_range(r, &start_s, &end_s, &st)) {
        call_finish(c, &st);
        return;
    }
    k = xcalloc(1, sizeof(*k));
    k->o.answer = metrics_answer;
    k->o.release = metrics_release;
    snprintf(k->sandbox_id, sizeof(k->sandbox_id), "%s", r->sandbox_id);
    operation_begin(&k->o, c);
    e2b_metrics(operation_e2b(&k->o), &k->o.op, k->sandbox_id, start_s, end_s, &k->metrics);
}
