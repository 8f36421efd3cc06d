/*
 * The control plane's unary verbs: get, list, delete, and where a port answers. Each is a request
 * with one exchange (the last: a second one after it). Creating is in create.c, changing in
 * change.c.
 */
#include "service/e2b/control.h"

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "sandbox/v1/errors.pb-c.h"
#include "service/e2b/json.h"
#include "service/e2b/sandbox.h"
#include "service/e2b/url.h"

#include <stdlib.h>
#include <string.h>

/* One struct serves all these verbs; each uses what it needs. */
struct verb {
    struct control control;
    unsigned port;
    /* the caller's */
    struct e2b_sandbox *ret_sandbox;
    struct e2b_list *ret_list;
    char **ret_url, **ret_host, **ret_token;
    const struct e2b_list_args *list;
};

static struct verb *verb_of(struct exchange *x)
{
    return container_of(x, struct verb, control.exchange);
}

static void destroy(struct request *r)
{
    struct verb *v = container_of(r, struct verb, control.request);

    control_deinit(&v->control);
    free(v);
}

static struct verb *new_verb(const char *sandbox_id, void (*start)(struct request *r))
{
    struct verb *v = xcalloc(1, sizeof *v);

    control_init(&v->control, sandbox_id, start, destroy);
    return v;
}

/* --- get --- */

static bool judge_get(struct exchange *x, struct verdict *verdict)
{
    return control_read_sandbox(x, verb_of(x)->ret_sandbox, verdict);
}

static void start_get(struct request *r)
{
    struct exchange *x = control_look(container_of(r, struct control, request));

    x->judge = judge_get;
    exchange_start(x);
}

void e2b_get(struct e2b *e, struct e2b_op *op, const char *sandbox_id, struct e2b_sandbox *ret)
{
    struct verb *v = new_verb(sandbox_id, start_get);

    v->ret_sandbox = ret;
    request_submit(&v->control.request, e, op, sandbox_id);
}

/* --- list --- */

static bool judge_list(struct exchange *x, struct verdict *verdict)
{
    struct e2b_list *list = verb_of(x)->ret_list;
    AUTO_JSON struct json_object *o = control_answer(x);
    const char *next = transfer_response_header(&x->transfer, "X-Next-Token");

    if (!sandbox_list_from_json(o, list)) {
        errors_garbage(SOURCE_API, "no list of sandboxes in it", verdict);
        return false;
    }
    scope_filter(x->request->scope, list);
    if (next != NULL && next[0] != '\0')
        list->next_page_token = xstrdup(next);
    return true;
}

static void start_list(struct request *r)
{
    struct verb *v = container_of(r, struct verb, control.request);
    struct exchange *x =
        control_begin(&v->control, "GET", sandbox_list_path(v->list, r->scope->tenant));

    x->judge = judge_list;
    x->max_response = E2B_LIST_MAX;
    exchange_start(x);
}

void e2b_list(struct e2b *e, struct e2b_op *op, const struct e2b_list_args *args,
              struct e2b_list *ret)
{
    struct verb *v = new_verb(NULL, start_list);

    v->list = args;
    v->ret_list = ret;
    request_submit(&v->control.request, e, op, NULL);
}

/* --- delete --- */

static void done_delete(struct exchange *x)
{
    struct verb *v = verb_of(x);

    address_forget(v->control.request.e2b->addresses, v->control.request.scope->name,
                   v->control.sandbox_id);
    /* The first time had deleted it, though nothing was heard of that. */
    if (x->verdict.st.code == CODE_NOT_FOUND && x->times_sent > 1)
        x->verdict.st = STATUS_INIT;
    request_finish(x->request, &x->verdict.st);
}

static void start_delete(struct request *r)
{
    struct verb *v = container_of(r, struct verb, control.request);
    struct exchange *x = control_begin_at(&v->control, "DELETE", "");

    x->done = done_delete;
    exchange_start(x);
}

void e2b_delete(struct e2b *e, struct e2b_op *op, const char *sandbox_id)
{
    request_submit(&new_verb(sandbox_id, start_delete)->control.request, e, op, sandbox_id);
}

/* --- where a port answers --- */

static void give_url(struct verb *v, const char *domain, const char *traffic_token)
{
    url_port(v->control.request.e2b, v->control.sandbox_id, domain, v->port, v->ret_url,
             v->ret_host);
    *v->ret_token = traffic_token != NULL ? xstrdup(traffic_token) : NULL;
}

static bool judge_connected(struct exchange *x, struct verdict *verdict)
{
    AUTO_JSON struct json_object *o = control_answer(x);
    struct e2b_sandbox s;

    if (!sandbox_from_created(o, &s) || s.traffic_token == NULL) {
        errors_garbage(SOURCE_API, "no traffic token in it", verdict);
        e2b_sandbox_deinit(&s);
        return false;
    }
    give_url(verb_of(x), s.domain, s.traffic_token);
    e2b_sandbox_deinit(&s);
    return true;
}

/* Only connect tells the traffic token. It never shortens; asking for no more than what is left
 * does not prolong either. */
static void ask_token(struct verb *v, int64_t end_ns)
{
    int64_t left_s = (end_ns - clock_wall_ns()) / NS_PER_S;
    struct exchange *x = control_begin_at(&v->control, "POST", "/connect");

    control_send(&v->control,
                 xasprintf("{\"timeout\":%lld}", (long long)(left_s > 1 ? left_s : 1)));
    x->judge = judge_connected;
    exchange_start(x);
}

static void done_look_for_url(struct exchange *x)
{
    struct verb *v = verb_of(x);
    struct e2b_sandbox s = {0};
    struct verdict verdict = x->verdict;

    if (verdict.st.code == CODE_OK && control_read_sandbox(x, &s, &verdict)) {
        if (s.public_traffic) {
            give_url(v, s.domain, NULL);
        } else if (s.state == E2B_RUNNING || s.auto_resume) {
            int64_t end_ns =
                s.state == E2B_RUNNING ? s.end_ns : clock_wall_ns() + E2B_WOKEN_S * NS_PER_S;

            e2b_sandbox_deinit(&s);
            ask_token(v, end_ns);
            return;
        } else {
            status_set(&verdict.st, CODE_FAILED_PRECONDITION,
                       SANDBOX__V1__ERROR_REASON__ERROR_REASON_SANDBOX_PAUSED,
                       "sandbox %s is paused, and E2B tells its traffic token only while it runs",
                       s.id);
        }
        e2b_sandbox_deinit(&s);
    }
    request_finish(&v->control.request, &verdict.st);
}

static void start_port_url(struct request *r)
{
    struct exchange *x = control_look(container_of(r, struct control, request));

    x->done = done_look_for_url;
    exchange_start(x);
}

void e2b_port_url(struct e2b *e, struct e2b_op *op, const char *sandbox_id, unsigned port,
                  char **ret_url, char **ret_host, char **ret_token)
{
    struct verb *v = new_verb(sandbox_id, start_port_url);

    v->port = port;
    v->ret_url = ret_url;
    v->ret_host = ret_host;
    v->ret_token = ret_token;
    *ret_url = *ret_host = *ret_token = NULL;
    request_submit(&v->control.request, e, op, sandbox_id);
}
