/* See operation.h. On the call's worker. */
#include "service/handlers/operation.h"

#include "service/identity/caller.h"

static void operation_destroy(void *state)
{
    struct operation *o = state;

    o->release(o);
}

static void operation_gone(void *state)
{
    struct operation *o = state;

    e2b_cancel(&o->op); /* its done finishes the call */
}

static const struct call_handler handler = {
    .on_gone = operation_gone,
    .destroy = operation_destroy,
};

static void operation_done(struct e2b_op *op)
{
    struct operation *o = container_of(op, struct operation, op);
    struct call *c = o->call;

    if (op->st.code == CODE_OK)
        o->answer(o);
    else if (o->failed == NULL || !o->failed(o))
        call_finish(c, &op->st);
    call_unref(c);
}

void operation_begin(struct operation *o, struct call *c)
{
    o->call = c;
    o->op.caller = caller_of(c);
    o->op.executor = call_executor(c);
    o->op.done = operation_done;
    o->op.deadline_ns = call_deadline_ns(c);
    call_set_handler(c, &handler, o);
    call_ref(c);
}

void operation_again(struct operation *o)
{
    call_ref(o->call);
}

struct e2b *operation_e2b(const struct operation *o)
{
    const struct app *app = call_app(o->call);

    return app->e2b;
}
