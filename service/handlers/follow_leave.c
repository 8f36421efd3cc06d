/*
 * A stream that loses its client or its pod. It is only a view: the command goes on, unless its
 * caller wanted it to end with the stream.
 */
#include "service/handlers/follow_impl.h"

#include "common/journal/verbs.h"
#include "service/config.h"
#include "service/handlers/leave.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    KILL_TRIES = 4, /* a command that is being claimed right now is not found yet */
    KILL_AGAIN_MS = 500,
    KILL_DEADLINE_MS = 30000,
};

static void on_killed(struct e2b_op *op)
{
    struct follow *f = follow_op_back(op);
    bool found = op->st.code == CODE_OK && f->output.exit_code != RECORDER_NOT_FOUND;

    if (found || f->kills >= KILL_TRIES) {
        struct status st;

        status_set(&st, CODE_CANCELLED, 0, "the client went away; its command was %s",
                   found ? "killed" : "not found");
        follow_finish(f, &st);
    } else {
        follow_wait(f, KILL_AGAIN_MS);
    }
    call_unref(f->call);
}

void follow_kill(struct follow *f)
{
    char who[VALIDATE_ID_MAX + 8];
    const char *args[] = {"signal", who, "--signal=9", "--target=tree", NULL};

    f->kills++;
    snprintf(who, sizeof(who), "--id=%s", f->command_id);
    follow_op_start(f, on_killed, clock_monotonic_ns() + KILL_DEADLINE_MS * NS_PER_MS);
    e2b_verb(f->app->e2b, &f->op, f->sandbox_id, args, NULL, 0, true, &f->output);
}

void follow_gone(struct follow *f)
{
    if (f->kill_on_disconnect && !f->relay.check.exited && f->state != FOLLOW_FINISHED) {
        follow_enter(f, FOLLOW_KILLING);
        if (f->op_running)
            e2b_cancel(&f->op); /* its done starts the kill */
        else
            follow_kill(f);
        return;
    }

    struct status st;

    status_set(&st, call_end_reason(f->call), REASON(DEADLINE),
               "the caller stopped waiting; the %s goes on", f->watches ? "watch" : "command");
    follow_fail(f, &st);
}

static void leave_pod(struct follow *f)
{
    struct status st;

    if (f->state == FOLLOW_KILLING)
        return;
    leave_status(f->call, &st, "the %s goes on, so continue from event %" PRIu64,
                 f->watches ? "watch" : "command", f->relay.check.last_seq + 1);
    follow_fail(f, &st);
}

void follow_on_leave(struct call_timer *timer)
{
    leave_pod(container_of(timer, struct follow, leave));
}

/* Thousands of streams that all moved at once would fall upon the other pods. (Those whose
 * connections end are told one by one.) */
void follow_drain(struct follow *f)
{
    uint32_t spread_ms = call_is_draining(f->call) ? (uint32_t)f->app->config->drain_spread_ms : 0;

    if (spread_ms == 0)
        leave_pod(f);
    else
        call_timer_start(f->call, &f->leave,
                         clock_monotonic_ns() + arc4random_uniform(spread_ms) * NS_PER_MS);
}
