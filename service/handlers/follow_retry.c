/*
 * What comes after a follower ended: the end of the stream, another follower after a while, or,
 * where the sandbox is paused, waiting until somebody resumes it. Before each new follower the
 * control plane is asked for the sandbox's state.
 */
#include "service/handlers/follow_impl.h"

#include "service/handlers/recorder_result.h"
#include "service/handlers/watch_directory.h"

#include <stdlib.h>

enum {
    ATTEMPTS_BEFORE_FIRST_EVENT = 3, /* the caller waits for an answer: say soon that E2B is down */
    BACKOFF_FIRST_MS = 100,
    BACKOFF_MAX_MS = 5000,
    PAUSED_POLL_MS = 2000,
};

/* A stream that delivered events is not given up before E2B was away for this long. */
static const int64_t give_up_after_ns = 120 * NS_PER_S;

void follow_wait(struct follow *f, int64_t ms)
{
    call_timer_start(f->call, &f->again, clock_monotonic_ns() + ms * NS_PER_MS);
}

/* Half to all of an exponential step: many streams break at once when an edge restarts. */
static int64_t backoff_ms(int failures)
{
    int64_t step = BACKOFF_MAX_MS;

    if (failures <= 1)
        return 0;
    if (failures < 8)
        step = (int64_t)BACKOFF_FIRST_MS << (failures - 2);
    if (step > BACKOFF_MAX_MS)
        step = BACKOFF_MAX_MS;
    return step / 2 + arc4random_uniform((uint32_t)(step / 2) + 1);
}

static bool should_give_up(const struct follow *f)
{
    if (!f->delivered)
        return f->failures >= ATTEMPTS_BEFORE_FIRST_EVENT;
    return clock_monotonic_ns() - f->broken_since_ns > give_up_after_ns;
}

/* The way broke, for a reason that time may heal. */
static void try_again(struct follow *f, const struct status *why)
{
    if (f->broken_since_ns == 0)
        f->broken_since_ns = clock_monotonic_ns();
    f->failures++;
    if (should_give_up(f)) {
        follow_fail(f, why);
        return;
    }

    int64_t ms = backoff_ms(f->failures);

    follow_enter(f, FOLLOW_WAITING);
    follow_wait(f, why->retry_ms > ms ? why->retry_ms : ms);
}

static bool may_heal(const struct status *st)
{
    return st->code == CODE_UNAVAILABLE || st->code == CODE_RESOURCE_EXHAUSTED ||
           st->code == CODE_DEADLINE_EXCEEDED;
}

/* Until the sandbox is resumed, which is not ours to do. */
static void park(struct follow *f)
{
    bool news = !f->paused;

    f->paused = true;
    f->broken_since_ns = 0;
    f->failures = 0;
    follow_enter(f, FOLLOW_WAITING);
    follow_wait(f, PAUSED_POLL_MS);
    if (news && call_can_send(f->call))
        follow_send_heartbeat(f);
}

static bool is_paused(const struct status *st)
{
    return st->reason == REASON(SANDBOX_PAUSED);
}

/* No way to the sandbox is left. */
static void give_up(struct follow *f, const struct status *st)
{
    if (f->may_read_archive && f->app->archive != NULL && st->reason == REASON(SANDBOX_NOT_FOUND))
        follow_connect_archive(f, st);
    else
        follow_fail(f, st);
}

/* To a reader who saw a part of it, its sandbox ended; its output did not expire. */
static void finish_archived(struct follow *f, const struct status *st)
{
    bool nothing = st->reason == REASON(LOG_EXPIRED);

    follow_fail(f, nothing && f->delivered ? &f->gone : st);
}

static enum recorder_result result_of(const struct follow *f, struct status *st)
{
    return f->watches ? watch_result(&f->output, f->command_id, f->digest, st)
                      : recorder_result(&f->output, f->command_id, f->digest, st);
}

void follow_conclude(struct follow *f)
{
    struct status st = f->op.st;
    bool archived = f->archived != NULL;

    follow_disconnect(f);
    relay_cut(&f->relay);
    if (st.code != CODE_OK) {
        if (is_paused(&st))
            park(f);
        else if (may_heal(&st))
            try_again(f, &st);
        else if (archived)
            finish_archived(f, &st);
        else
            give_up(f, &st);
        return;
    }
    switch (result_of(f, &st)) {
    case RECORDER_RESULT_OK:
        /* It ended well but not at the end: its stream was cut where nobody could see it. */
        status_set(&st, CODE_UNAVAILABLE, REASON(E2B_UNAVAILABLE), "the stream of %s ended early",
                   f->command_id);
        try_again(f, &st);
        break;
    case RECORDER_RESULT_RETRY:
        try_again(f, &st);
        break;
    case RECORDER_RESULT_FAILED:
        follow_fail(f, &st);
        break;
    }
}

static void on_probed(struct e2b_op *op)
{
    struct follow *f = follow_op_back(op);

    if (f->state == FOLLOW_KILLING) {
        follow_kill(f);
    } else if (f->state == FOLLOW_PROBING && op->st.code != CODE_OK) {
        if (may_heal(&op->st))
            try_again(f, &op->st);
        else
            give_up(f, &op->st);
    } else if (f->state == FOLLOW_PROBING && f->sandbox.state == E2B_PAUSED) {
        park(f);
    } else if (f->state == FOLLOW_PROBING) {
        f->paused = false;
        follow_connect(f);
    }
    call_unref(f->call);
}

void follow_on_again(struct call_timer *timer)
{
    struct follow *f = container_of(timer, struct follow, again);

    if (f->state == FOLLOW_KILLING) {
        follow_kill(f);
    } else if (f->state == FOLLOW_WAITING) {
        follow_enter(f, FOLLOW_PROBING);
        e2b_sandbox_deinit(&f->sandbox);
        follow_op_start(f, on_probed, INT64_MAX);
        e2b_get(f->app->e2b, &f->op, f->sandbox_id, &f->sandbox);
    }
}
