/* See control.h. */
#include "service/e2b/control.h"

#include "common/base/cleanup.h"
#include "common/base/mem.h"
#include "sandbox/v1/errors.pb-c.h"
#include "service/e2b/json.h"
#include "service/e2b/sandbox.h"
#include "service/e2b/url.h"

#include <stdlib.h>
#include <string.h>

void control_init(struct control *c, const char *sandbox_id, void (*start)(struct request *r),
                  void (*destroy)(struct request *r))
{
    c->sandbox_id = sandbox_id != NULL ? xstrdup(sandbox_id) : NULL;
    c->request.start = start;
    c->request.destroy = destroy;
}

void control_deinit(struct control *c)
{
    exchange_deinit(&c->exchange);
    free(c->sandbox_id);
    free(c->body);
}

void control_done(struct exchange *x)
{
    request_finish(x->request, &x->verdict.st);
}

struct exchange *control_begin(struct control *c, const char *method, char *path)
{
    struct exchange *x = &c->exchange;

    exchange_deinit(x);
    *x = (struct exchange){
        .request = &c->request,
        .method = method,
        .path = path,
        .owner_of = c->sandbox_id != NULL ? xstrdup(c->sandbox_id) : NULL,
        .source = SOURCE_API,
        .timeout_ms = c->request.e2b->config.request_timeout_ms,
        .safe = true,
        .done = control_done,
    };
    return x;
}

struct exchange *control_begin_at(struct control *c, const char *method, const char *suffix)
{
    return control_begin(c, method, url_sandbox_path(c->sandbox_id, suffix));
}

struct exchange *control_look(struct control *c)
{
    struct exchange *x = control_begin_at(c, "GET", "");

    free(TAKE(x->owner_of));
    return x;
}

void control_send(struct control *c, char *body)
{
    struct exchange *x = &c->exchange;

    free(c->body);
    c->body = body;
    c->piece = (struct transfer_piece){(const uint8_t *)body, strlen(body)};
    x->pieces = &c->piece;
    x->n_pieces = 1;
    x->content_type = "application/json";
}

struct json_object *control_answer(const struct exchange *x)
{
    return json_parse(buf_data(&x->transfer.body), buf_len(&x->transfer.body));
}

bool control_read_sandbox(struct exchange *x, struct e2b_sandbox *ret, struct verdict *verdict)
{
    return exchange_learn(x, CONTROL_OF(x)->sandbox_id, ret, verdict);
}

void control_explain_busy(const struct e2b_sandbox *s, struct verdict *ret)
{
    *ret = VERDICT_INIT;
    if (s->state == E2B_PAUSED)
        status_set(&ret->st, CODE_FAILED_PRECONDITION,
                   SANDBOX__V1__ERROR_REASON__ERROR_REASON_SANDBOX_PAUSED,
                   "sandbox %s is paused: resume it first", s->id);
    else
        status_set(&ret->st, CODE_UNAVAILABLE, SANDBOX__V1__ERROR_REASON__ERROR_REASON_SANDBOX_BUSY,
                   "sandbox %s is changing its state: try again", s->id);
}
