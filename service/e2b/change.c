/*
 * Changing a sandbox: its time, its state, its network. Each is one request to the control plane
 * and then a look at what came of it, also where E2B answers 409: that may mean "it is so already",
 * "it is paused" or "not now", and only the look tells.
 */
#include "service/e2b/control.h"

#include "common/base/mem.h"
#include "sandbox/v1/errors.pb-c.h"
#include "service/e2b/network.h"

#include <stdlib.h>

#define REASON(name) SANDBOX__V1__ERROR_REASON__ERROR_REASON_##name

struct change {
    struct control control;
    const char *method, *suffix;
    char *body;              /* owned, until it is sent */
    enum e2b_state wanted;   /* afterwards */
    struct e2b_sandbox *ret; /* the caller's, as the next */
    bool *ret_resumed;       /* NULL: not asked */
};

static void destroy(struct request *r)
{
    struct change *c = container_of(r, struct change, control.request);

    control_deinit(&c->control);
    free(c->body);
    free(c);
}

static bool is_busy(const struct exchange *x)
{
    return x->verdict.st.reason == REASON(SANDBOX_BUSY);
}

static bool judge_look(struct exchange *x, struct verdict *verdict)
{
    struct change *c = container_of(x, struct change, control.exchange);

    return control_read_sandbox(x, c->ret, verdict);
}

/* Behind a 409: the sandbox is not as the change needs it. */
static bool judge_look_again(struct exchange *x, struct verdict *verdict)
{
    struct change *c = container_of(x, struct change, control.exchange);
    struct e2b_sandbox s;

    if (!control_read_sandbox(x, &s, verdict))
        return false;
    if (s.state == E2B_PAUSED && c->wanted == E2B_PAUSED) {
        *c->ret = s;
        return true;
    }
    control_explain_busy(&s, verdict);
    e2b_sandbox_deinit(&s);
    return false;
}

static void done_change(struct exchange *x)
{
    struct change *c = container_of(x, struct change, control.exchange);
    bool busy = is_busy(x);

    if (x->verdict.st.code != CODE_OK && !busy) {
        control_done(x);
        return;
    }
    if (c->ret_resumed != NULL)
        *c->ret_resumed = x->transfer.status == 201;
    /* Where it answers and with which token may have changed with its state. */
    address_forget(c->control.request.e2b->addresses, c->control.request.scope->name,
                   c->control.sandbox_id);
    x = control_look(&c->control);
    x->judge = busy ? judge_look_again : judge_look;
    exchange_start(x);
}

static void start(struct request *r)
{
    struct change *c = container_of(r, struct change, control.request);
    struct exchange *x = control_begin_at(&c->control, c->method, c->suffix);

    control_send(&c->control, TAKE(c->body));
    x->done = done_change;
    exchange_start(x);
}

/* Takes body. */
static struct change *new_change(const char *sandbox_id, const char *method, const char *suffix,
                                 char *body, struct e2b_sandbox *ret)
{
    struct change *c = xcalloc(1, sizeof *c);

    control_init(&c->control, sandbox_id, start, destroy);
    c->method = method;
    c->suffix = suffix;
    c->body = body;
    c->ret = ret;
    return c;
}

static char *timeout_body(const char *name, int64_t timeout_s)
{
    return xasprintf("{\"%s\":%lld}", name, (long long)timeout_s);
}

void e2b_set_timeout(struct e2b *e, struct e2b_op *op, const char *sandbox_id, int64_t timeout_s,
                     struct e2b_sandbox *ret)
{
    struct change *c =
        new_change(sandbox_id, "POST", "/timeout", timeout_body("timeout", timeout_s), ret);

    request_submit(&c->control.request, e, op, sandbox_id);
}

void e2b_keep_alive(struct e2b *e, struct e2b_op *op, const char *sandbox_id, int64_t timeout_s,
                    struct e2b_sandbox *ret)
{
    struct change *c =
        new_change(sandbox_id, "POST", "/refreshes", timeout_body("duration", timeout_s), ret);

    request_submit(&c->control.request, e, op, sandbox_id);
}

void e2b_pause(struct e2b *e, struct e2b_op *op, const char *sandbox_id, bool discard_memory,
               struct e2b_sandbox *ret)
{
    char *body = xstrdup(discard_memory ? "{\"memory\":false}" : "{\"memory\":true}");
    struct change *c = new_change(sandbox_id, "POST", "/pause", body, ret);

    c->wanted = E2B_PAUSED;
    request_submit(&c->control.request, e, op, sandbox_id);
}

void e2b_resume(struct e2b *e, struct e2b_op *op, const char *sandbox_id, int64_t timeout_s,
                struct e2b_sandbox *ret, bool *ret_resumed)
{
    struct change *c =
        new_change(sandbox_id, "POST", "/connect", timeout_body("timeout", timeout_s), ret);

    c->ret_resumed = ret_resumed;
    request_submit(&c->control.request, e, op, sandbox_id);
}

void e2b_set_network(struct e2b *e, struct e2b_op *op, const char *sandbox_id,
                     const struct e2b_network *network, struct e2b_sandbox *ret)
{
    struct change *c = new_change(sandbox_id, "PUT", "/network", network_body(network), ret);

    request_submit(&c->control.request, e, op, sandbox_id);
}
