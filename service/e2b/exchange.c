/*
 * See request.h: one exchange and its attempts. For the control plane an attempt is one transfer.
 * For a sandbox it starts with the sandbox's address, from the cache or from the control plane;
 * when the sandbox does not answer as it should, the control plane is asked again, because only it
 * can tell "deleted" and "paused" from "not now".
 */
#include "service/e2b/request.h"

#include "common/base/cleanup.h"
#include "common/base/clock.h"
#include "common/base/mem.h"
#include "sandbox/v1/errors.pb-c.h"
#include "service/e2b/idle.h"
#include "service/e2b/json.h"
#include "service/e2b/sandbox.h"
#include "service/e2b/upstream.h"
#include "service/e2b/url.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LOOKS_MAX = 3, RESUMES_MAX = 3 };

static void attempt(struct exchange *x);
static void resume(struct exchange *x, int64_t timeout_s);

static void finish(struct exchange *x)
{
    loop_timer_stop(x->request->loop, &x->timer);
    list_unlink(&x->node);
    x->running = false;
    x->done(x);
}

static void succeed(struct exchange *x)
{
    x->verdict = VERDICT_INIT;
    finish(x);
}

static void run_timer(struct loop_timer *timer)
{
    attempt(container_of(timer, struct exchange, timer));
}

static void try_again_or_finish(struct exchange *x)
{
    struct request *r = x->request;
    int64_t at_ns;

    if (!retry_next(&x->retry, x->verdict.again, x->safe, x->verdict.told_ms, clock_monotonic_ns(),
                    r->deadline_ns, loop_random(r->loop), &at_ns)) {
        finish(x);
        return;
    }
    upstream_retry(x);
    loop_timer_start(r->loop, &x->timer, at_ns);
}

/* --- looking for the sandbox --- */

/* Old ids carry "-<client id>" behind, which E2B drops. */
static bool is_asked_for(const char *asked, const char *id)
{
    size_t len = strlen(id);

    return strncmp(asked, id, len) == 0 && (asked[len] == '\0' || asked[len] == '-');
}

static bool read_answer(const struct exchange *x, const char *sandbox_id, struct e2b_sandbox *ret,
                        char **ret_token)
{
    AUTO_JSON struct json_object *o =
        json_parse(buf_data(&x->transfer.body), buf_len(&x->transfer.body));
    const char *token = json_text(o, "envdAccessToken", 1024);

    if (!sandbox_from_json(o, ret))
        return false;
    if (!is_asked_for(sandbox_id, ret->id) || (token != NULL && !json_is_token(token))) {
        e2b_sandbox_deinit(ret);
        return false;
    }
    *ret_token = token != NULL ? xstrdup(token) : NULL;
    return true;
}

bool exchange_learn(struct exchange *x, const char *sandbox_id, struct e2b_sandbox *ret,
                    struct verdict *v)
{
    const struct scope *scope = x->request->scope;
    struct address_cache *addresses = x->request->e2b->addresses;
    AUTO_FREE char *token = NULL;

    if (!read_answer(x, sandbox_id, ret, &token)) {
        errors_garbage(SOURCE_API, "no sandbox in it", v);
        return false;
    }
    /* Before anything of it is remembered. */
    if (!scope_owns(scope, ret)) {
        e2b_sandbox_deinit(ret);
        *v = VERDICT_INIT;
        scope_not_found(&v->st);
        return false;
    }
    if (ret->state == E2B_RUNNING) {
        address_store(addresses, scope->name, sandbox_id, ret->domain, token, clock_monotonic_ns());
        idle_remember(x->request, ret);
    } else {
        address_forget(addresses, scope->name, sandbox_id);
    }
    return true;
}

/* The look did not tell. The call itself was not made yet, or failed in a way that allows another.
 */
static void look_failed(struct exchange *x, const struct verdict *v)
{
    /* Why the look was needed says more than that it failed, unless that is the end of it. */
    if (!x->failed_before || v->again == AGAIN_NEVER) {
        x->verdict = *v;
        if (v->again == AGAIN_IF_SAFE)
            x->verdict.again = AGAIN_ALWAYS; /* to look does no harm */
    }
    try_again_or_finish(x);
}

static const char *looked_for(const struct exchange *x)
{
    return x->sandbox_id != NULL ? x->sandbox_id : x->owner_of;
}

static void looked(struct transfer *t)
{
    struct exchange *x = container_of(t, struct exchange, transfer);
    AUTO(e2b_sandbox_deinit) struct e2b_sandbox s = {0};
    struct verdict v;

    if (t->result != CURLE_OK || t->status != 200) {
        errors_judge(t, SOURCE_API, &v);
        upstream_end(x, v.st.code);
        look_failed(x, &v);
        return;
    }
    upstream_end(x, CODE_OK);
    if (!exchange_learn(x, looked_for(x), &s, &v)) {
        look_failed(x, &v);
        return;
    }
    x->is_ours = x->is_awake = true;
    if (x->sandbox_id != NULL && s.state == E2B_PAUSED && s.auto_resume &&
        !x->request->lets_sleep && x->resumes++ < RESUMES_MAX) {
        resume(x, s.idle_s > 0 ? s.idle_s : E2B_WOKEN_S);
        return;
    }
    if (x->sandbox_id != NULL && s.state == E2B_PAUSED) {
        x->verdict = VERDICT_INIT;
        status_set(&x->verdict.st, CODE_FAILED_PRECONDITION,
                   SANDBOX__V1__ERROR_REASON__ERROR_REASON_SANDBOX_PAUSED,
                   "sandbox %s is paused: resume it first", x->sandbox_id);
        finish(x);
        return;
    }
    if (x->failed_before) {
        x->failed_before = false;
        try_again_or_finish(x);
        return;
    }
    attempt(x);
}

static void look(struct exchange *x)
{
    struct e2b *e = x->request->e2b;
    AUTO_FREE char *path = url_sandbox_path(looked_for(x), "");
    AUTO_FREE char *url = xasprintf("%s%s", e->api_url, path);
    struct transfer_request r = {
        .method = "GET",
        .url = url,
        .timeout_ms = e->config.request_timeout_ms,
        .max_response = E2B_RESPONSE_MAX,
        .may_repeat = true,
    };

    x->phase = EXCHANGE_LOOKING;
    transfer_deinit(&x->transfer);
    transfer_init(&x->transfer, x->request->loop);
    url_api_headers(&x->transfer, e, x->request->scope);
    upstream_begin(x, "GET", path);
    x->transfer.done = looked;
    transfer_start(&x->transfer, &r);
}

/* --- waking it --- */

static void resumed(struct transfer *t)
{
    struct exchange *x = container_of(t, struct exchange, transfer);
    struct verdict v = VERDICT_INIT;
    bool awake = t->result == CURLE_OK && t->status >= 200 && t->status < 300;

    if (!awake)
        errors_judge(t, SOURCE_API, &v);
    upstream_end(x, v.st.code);
    if (awake)
        look(x); /* its token, and where it answers */
    else
        look_failed(x, &v);
}

/* The sandbox was made to be woken by use. Waking one that somebody else just woke does no harm. */
static void resume(struct exchange *x, int64_t timeout_s)
{
    struct e2b *e = x->request->e2b;
    AUTO_FREE char *path = url_sandbox_path(x->sandbox_id, "/connect");
    AUTO_FREE char *url = xasprintf("%s%s", e->api_url, path);
    struct transfer_request r = {
        .method = "POST",
        .url = url,
        .pieces = &x->resume_piece,
        .n_pieces = 1,
        .timeout_ms = e->config.request_timeout_ms,
        .max_response = E2B_RESPONSE_MAX,
        .may_repeat = true,
    };

    snprintf(x->resume_body, sizeof x->resume_body, "{\"timeout\":%lld}", (long long)timeout_s);
    x->resume_piece =
        (struct transfer_piece){(const uint8_t *)x->resume_body, strlen(x->resume_body)};
    x->phase = EXCHANGE_LOOKING;
    transfer_deinit(&x->transfer);
    transfer_init(&x->transfer, x->request->loop);
    url_api_headers(&x->transfer, e, x->request->scope);
    transfer_header(&x->transfer, "Content-Type: application/json");
    upstream_begin(x, "POST", path);
    x->transfer.done = resumed;
    transfer_start(&x->transfer, &r);
}

/* --- the call itself --- */

/* The first piece of a stream. */
static enum transfer_taken hear(struct transfer *t, const uint8_t *data, size_t len)
{
    struct exchange *x = container_of(t, struct exchange, transfer);

    upstream_end(x, CODE_OK);
    x->request->lets_sleep = true; /* who pauses it now means what is under way, too */
    idle_note_use(x);
    return x->on_data(t, data, len);
}

static void called(struct transfer *t)
{
    struct exchange *x = container_of(t, struct exchange, transfer);
    bool answered = t->result == CURLE_OK && t->status >= 200 && t->status < 300;

    x->times_sent += t->times_sent;
    x->verdict = VERDICT_INIT;
    if (t->status == 200 && x->on_data != NULL)
        answered = true; /* what came of a stream decides, however it ended */
    if (!answered) {
        errors_judge(t, x->source, &x->verdict);
    } else if (x->judge == NULL || x->judge(x, &x->verdict)) {
        upstream_end(x, CODE_OK);
        succeed(x);
        return;
    }
    upstream_end(x, x->verdict.st.code);
    if (x->sandbox_id != NULL && x->verdict.remedy == REMEDY_LOOK && x->looks++ < LOOKS_MAX) {
        address_forget(x->request->e2b->addresses, x->request->scope->name, x->sandbox_id);
        x->failed_before = true;
        look(x);
        return;
    }
    try_again_or_finish(x);
}

static void call(struct exchange *x)
{
    struct e2b *e = x->request->e2b;
    AUTO_FREE char *base = NULL;
    AUTO_FREE char *url = NULL;
    struct transfer_request r = {
        .method = x->method,
        .pieces = x->pieces,
        .n_pieces = x->n_pieces,
        .timeout_ms = x->timeout_ms,
        .max_response = x->max_response != 0 ? x->max_response : E2B_RESPONSE_MAX,
        .may_repeat = x->safe,
        .accept_gzip = x->accept_gzip,
        .bulk = x->bulk,
    };

    x->phase = EXCHANGE_CALLING;
    transfer_deinit(&x->transfer);
    transfer_init(&x->transfer, x->request->loop);
    if (x->sandbox_id != NULL) {
        base = url_sandbox_base(e, x->sandbox_id, x->address.domain);
        url_sandbox_headers(&x->transfer, x->sandbox_id, x->address.token);
        idle_note_use(x);
    } else {
        url_api_headers(&x->transfer, e, x->request->scope);
    }
    url = xasprintf("%s%s", base != NULL ? base : e->api_url, x->path);
    r.url = url;
    if (x->content_type != NULL)
        transfer_header(&x->transfer, "Content-Type: %s", x->content_type);
    upstream_begin(x, x->method, x->path);
    x->transfer.on_data = x->on_data != NULL ? hear : NULL;
    x->transfer.on_need = x->on_need;
    x->transfer.done = called;
    if (x->prepare != NULL)
        x->prepare(x);
    transfer_start(&x->transfer, &r);
}

/* What is remembered is of the caller's scope, so it also tells whose the sandbox is. */
static bool remembers(struct exchange *x, const char *sandbox_id)
{
    const struct request *r = x->request;

    address_deinit(&x->address);
    return address_lookup(r->e2b->addresses, r->scope->name, sandbox_id, clock_monotonic_ns(),
                          &x->address);
}

static bool must_look(struct exchange *x)
{
    /* E2B wakes such a one by whatever comes in, so that must not be tried. */
    if (x->sandbox_id != NULL)
        return !remembers(x, x->sandbox_id) ||
               (x->request->lets_sleep && x->address.life.wakes && !x->is_awake);
    return x->owner_of != NULL && x->request->scope->tenant != NULL && !x->is_ours &&
           !remembers(x, x->owner_of);
}

static void attempt(struct exchange *x)
{
    if (must_look(x))
        look(x);
    else
        call(x);
}

void exchange_start(struct exchange *x)
{
    x->timer = (struct loop_timer){.run = run_timer};
    x->retry = (struct retry){0};
    x->times_sent = 0;
    x->looks = x->resumes = 0;
    x->use_noted_until_ns = 0;
    x->failed_before = false;
    x->is_ours = x->is_awake = false;
    x->running = true;
    x->verdict = VERDICT_INIT;
    list_append(&x->request->exchanges, &x->node);
    attempt(x);
}

void exchange_deinit(struct exchange *x)
{
    if (x->running) {
        x->running = false;
        loop_timer_stop(x->request->loop, &x->timer);
        list_unlink(&x->node);
    }
    if (x->transfer.loop != NULL)
        transfer_deinit(&x->transfer);
    address_deinit(&x->address);
    free(x->path);
    free(x->sandbox_id);
    free(x->owner_of);
    x->path = NULL;
    x->owner_of = NULL;
    x->sandbox_id = NULL;
}
