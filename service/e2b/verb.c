/* e2b_verb: a verb of the recorder whose output is collected. */
#include "service/e2b/recorder.h"

#include "common/base/mem.h"

#include <stdlib.h>

struct collect {
    struct request request;
    struct recorder_run run;
    struct e2b_output *ret; /* the caller's */
    struct buf out;
    bool too_long;
    bool is_long; /* it may take long */
};

static void on_stdout(struct recorder_run *run, const uint8_t *data, size_t len)
{
    struct collect *c = container_of(run, struct collect, run);

    if (!buf_append(&c->out, data, len))
        c->too_long = true;
}

static void restart(struct recorder_run *run)
{
    struct collect *c = container_of(run, struct collect, run);

    buf_clear(&c->out);
    c->too_long = false;
}

static void done(struct recorder_run *run, const struct verdict *v)
{
    struct collect *c = container_of(run, struct collect, run);
    struct verdict too_long;

    if (v->st.code == CODE_OK && c->too_long) {
        errors_garbage(SOURCE_CONNECT, "more output than fits", &too_long);
        v = &too_long;
    }
    if (v->st.code == CODE_OK && c->request.op != NULL) {
        recorder_output(run, c->ret);
        if (run->step == RECORDER_LOOK)
            c->ret->exit_code = E2B_NO_COMMANDS;
        c->ret->out_len = buf_len(&c->out);
        c->ret->out = (uint8_t *)buf_take_str(&c->out);
    }
    request_finish(&c->request, &v->st);
}

static void start_verb(struct request *r)
{
    struct collect *c = container_of(r, struct collect, request);

    c->run.lease_ms = c->is_long ? r->e2b->config.lease_ms : r->e2b->config.request_timeout_ms;
    recorder_begin(&c->run);
}

static bool aborted(struct request *r, const struct status *st)
{
    return recorder_abort(&container_of(r, struct collect, request)->run, st);
}

static void destroy(struct request *r)
{
    struct collect *c = container_of(r, struct collect, request);

    recorder_deinit(&c->run);
    buf_deinit(&c->out);
    free(c);
}

static struct collect *collect_new(const char *sandbox_id, const char *const *args,
                                   const uint8_t *spec, size_t spec_len, struct e2b_output *ret)
{
    struct collect *c = xcalloc(1, sizeof *c);

    recorder_init(&c->run, &c->request, sandbox_id, args, spec, spec_len);
    c->run.on_stdout = on_stdout;
    c->run.restart = restart;
    c->run.done = done;
    c->ret = ret;
    *ret = (struct e2b_output){0};
    buf_init(&c->out, E2B_OUTPUT_MAX);
    c->request.start = start_verb;
    c->request.aborted = aborted;
    c->request.destroy = destroy;
    return c;
}

void e2b_verb(struct e2b *e, struct e2b_op *op, const char *sandbox_id, const char *const *args,
              const uint8_t *spec, size_t spec_len, bool idempotent, struct e2b_output *ret)
{
    struct collect *c = collect_new(sandbox_id, args, spec, spec_len, ret);

    c->run.idempotent = idempotent;
    request_submit(&c->request, e, op, sandbox_id);
}

void e2b_look(struct e2b *e, struct e2b_op *op, const char *sandbox_id, const char *const *args,
              struct e2b_output *ret)
{
    struct collect *c = collect_new(sandbox_id, args, NULL, 0, ret);

    c->run.idempotent = c->run.only_look = true;
    request_submit(&c->request, e, op, sandbox_id);
}

void e2b_long_verb(struct e2b *e, struct e2b_op *op, const char *sandbox_id,
                   const char *const *args, bool idempotent, struct e2b_output *ret)
{
    struct collect *c = collect_new(sandbox_id, args, NULL, 0, ret);

    c->run.idempotent = idempotent;
    c->is_long = true;
    request_submit(&c->request, e, op, sandbox_id);
}
