/* A lane's way to the sandbox: starts what E2B does asynchronously, and waits for it. */
#include "service/archive/copy_impl.h"

#include "common/base/list.h"

#include <stdlib.h>

void lane_init(struct lane *l, struct copier *c)
{
    *l = (struct lane){.c = c};
    mailbox_init(&l->mailbox);
    copy_journal_init(&l->journal);
    archive__v1__record__init(&l->record);
}

void lane_deinit(struct lane *l)
{
    lane_drop_pieces(l);
    copy_journal_deinit(&l->journal);
    free(l->output.out);
    mailbox_deinit(&l->mailbox);
}

static void on_done(struct e2b_op *op)
{
    struct lane *l = container_of(op, struct lane, op);

    l->woken = l->ended = true;
}

void lane_prepare(struct lane *l)
{
    free(l->output.out);
    l->output = (struct e2b_output){0};
    l->op = (struct e2b_op){.caller = l->c->a->caller,
                            .executor = &l->mailbox.executor,
                            .done = on_done,
                            .deadline_ns = l->c->a->until_ns,
                            .aside = true};
    l->woken = l->ended = false;
}

/* A pod that stops does not wait for an answer. */
void lane_wait(struct lane *l, const bool *flag)
{
    if (mailbox_run(&l->mailbox, flag, l->c->a->stopping))
        return;
    e2b_cancel(&l->op);
    mailbox_run(&l->mailbox, flag, NULL);
}

bool lane_recorder_failed(const struct lane *l, struct status *st)
{
    return status_set(st, CODE_UNAVAILABLE, REASON(E2B_UNAVAILABLE),
                      "what sandbox %s has recorded cannot be read (exit %d)%s%s",
                      l->c->a->sandbox_id, l->output.exit_code,
                      l->output.err[0] != '\0' ? ": " : "", l->output.err);
}

bool lane_look(struct lane *l, const char *const *args, struct status *st)
{
    lane_prepare(l);
    e2b_look(l->c->a->e2b, &l->op, l->c->a->sandbox_id, args, &l->output);
    lane_wait(l, &l->ended);
    if (l->op.st.code == CODE_OK)
        return true;
    *st = l->op.st;
    return false;
}
