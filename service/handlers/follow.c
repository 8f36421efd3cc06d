/*
 * RunCommand and Logs: a view of one command's journal, from any event on. RunCommand is Logs whose
 * first follower also starts the command, unless its id exists; from then on they are the same.
 *
 * A follower in the sandbox is disposable. When the way to it breaks, the next one starts at the
 * last delivered event + 1, inside the same client stream; before each new one the control plane is
 * asked for the sandbox's state, so that a paused sandbox is not woken and one that is gone ends
 * the stream. Everything runs on the call's worker: callbacks record a fact and call follow_step(),
 * which does what is possible now.
 *
 * Logs of a sandbox that is gone come out of the archive, where one is kept: a stream of the same
 * bytes that a follower would have written.
 *
 * Invariant: what was sent to the client is exactly the events up to relay.check.last_seq.
 */
#include "service/handlers/follow.h"

#include "common/base/cleanup.h"
#include "common/base/clock.h"
#include "common/base/list.h"
#include "common/base/mem.h"
#include "common/journal/verbs.h"
#include "sandbox/v1/commands.pb-c.h"
#include "sandbox/v1/errors.pb-c.h"
#include "service/app.h"
#include "service/config.h"
#include "service/e2b/e2b.h"
#include "service/handlers/command_spec.h"
#include "service/handlers/counts.h"
#include "service/handlers/input_spec.h"
#include "service/handlers/log_view.h"
#include "service/handlers/platform_log.h"
#include "service/handlers/recorder_result.h"
#include "service/handlers/relay_all.h"
#include "service/handlers/validate.h"
#include "service/identity/caller.h"
#include "service/metrics/metrics.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    ATTEMPTS_BEFORE_FIRST_EVENT = 3, /* the caller waits for an answer: say soon that E2B is down */
    BACKOFF_FIRST_MS = 100,
    BACKOFF_MAX_MS = 5000,
    PAUSED_POLL_MS = 2000,
    KILL_TRIES = 4, /* a command that is being claimed right now is not found yet */
    KILL_AGAIN_MS = 500,
    KILL_DEADLINE_MS = 30000,
};

/* A stream that delivered events is not given up before E2B was away for this long. */
static const int64_t give_up_after_ns = 120 * NS_PER_S;

enum follow_state {
    FOLLOW_OPEN,     /* a follower runs, or is being started */
    FOLLOW_WAITING,  /* for the next attempt, or for a paused sandbox */
    FOLLOW_PROBING,  /* the control plane is asked for the sandbox's state */
    FOLLOW_KILLING,  /* the client is gone and wanted the command to go with it */
    FOLLOW_FINISHED, /* the client has its answer; operations may still come back */
};

struct follow {
    struct call *call; /* borrowed: it owns this */
    const struct app *app;
    enum follow_state state;
    char sandbox_id[VALIDATE_ID_MAX + 1];
    char command_id[VALIDATE_ID_MAX + 1];

    /* What each follower is asked for. */
    uint8_t *spec; /* owned; until an event proves that the command exists; NULL for Logs */
    size_t spec_len;
    uint8_t digest[COMMAND_DIGEST_LEN];
    const char *until; /* exited, closed or now */
    struct log_view view;
    bool kill_on_disconnect;

    struct relay relay;
    struct relay_all *all; /* owned; instead of relay, for all commands; NULL: for one */
    bool announced;        /* a message with the command's id was sent */
    bool delivered;        /* an event was */
    bool opened;           /* a follower was started */
    uint64_t gaps;         /* that were counted */
    uint64_t from;         /* last_seq before anything came */

    struct e2b_stream *stream;       /* owned; of the present follower */
    struct archive_stream *archived; /* owned; instead of it */
    bool may_read_archive;           /* Logs */
    struct status gone;              /* before the archive was asked: what the control plane said */
    bool stream_done;                /* its op came back; bytes may be left to take */
    struct e2b_op op;                /* of the stream, the probe or the kill: one at a time */
    bool op_running;
    struct e2b_output output;
    struct e2b_sandbox sandbox; /* the probe's answer */

    int failures;            /* since the last event */
    int64_t broken_since_ns; /* monotonic; 0: not broken */
    bool paused;             /* said by the last probe */
    int kills;               /* tried so far */
    struct call_timer heartbeat;
    struct call_timer again;
    struct call_timer leave; /* the pod drains, and it is this stream's turn */

    const struct follow_owner *owner; /* NULL: the call is the view's alone */
    void *owner_ctx;
};

static void open_follower(struct follow *f);
static void start_kill(struct follow *f);

static void enter(struct follow *f, enum follow_state state)
{
    if (f->state != FOLLOW_FINISHED)
        f->state = state;
}

/* --- ending --- */

static void finish(struct follow *f, const struct status *st)
{
    if (f->state == FOLLOW_FINISHED)
        return;
    enter(f, FOLLOW_FINISHED);
    if (f->op_running && f->archived != NULL)
        archive_stream_cancel(f->archived);
    else if (f->op_running && st->code != CODE_OK)
        e2b_cancel(&f->op);
    call_finish(f->call, st);
    if (f->owner != NULL)
        f->owner->finished(f->owner_ctx);
}

/* Every failure tells where to go on. */
static void finish_failed(struct follow *f, struct status st)
{
    if (f->all == NULL) {
        status_detail(&st, "command_id", "%s", f->command_id);
        status_detail(&st, "last_seq", "%" PRIu64, f->relay.check.last_seq);
    }
    finish(f, &st);
}

static bool is_complete(const struct follow *f)
{
    if (f->all != NULL)
        return f->all->complete;
    if (f->relay.complete)
        return true;
    if (strcmp(f->until, "closed") == 0)
        return f->relay.check.closed;
    if (strcmp(f->until, "exited") == 0)
        return f->relay.check.exited;
    return false; /* the follower decides */
}

void follow_free(struct follow *f)
{
    if (f == NULL)
        return;
    /* Still here when its end came first and then its last bytes were enough. */
    e2b_stream_free(f->stream);
    archive_stream_free(f->archived);
    relay_deinit(&f->relay);
    if (f->all != NULL)
        relay_all_deinit(f->all);
    free(f->all);
    free(f->spec);
    free(f->output.out);
    e2b_sandbox_deinit(&f->sandbox);
    free(f);
}

/* --- sending --- */

static void restart_heartbeat(struct follow *f)
{
    call_timer_start(f->call, &f->heartbeat,
                     clock_monotonic_ns() + f->app->config->heartbeat_ms * NS_PER_MS);
}

/* RunCommandResponse and LogsResponse have the same shape, so one serves for both. */
static void send_heartbeat(struct follow *f)
{
    Sandbox__V1__RunCommandResponse m = SANDBOX__V1__RUN_COMMAND_RESPONSE__INIT;

    m.last_seq = f->relay.check.last_seq;
    if (!f->announced)
        m.command_id = f->command_id;
    else if (f->paused)
        m.state = SANDBOX__V1__STREAM_STATE__STREAM_STATE_SANDBOX_PAUSED;
    else if (f->state == FOLLOW_OPEN)
        m.state = SANDBOX__V1__STREAM_STATE__STREAM_STATE_LIVE;
    else
        m.state = SANDBOX__V1__STREAM_STATE__STREAM_STATE_RECONNECTING;
    f->announced = true;
    call_send(f->call, &m.base);
    restart_heartbeat(f);
}

static void on_heartbeat(struct call_timer *timer)
{
    struct follow *f = container_of(timer, struct follow, heartbeat);

    if (f->state == FOLLOW_FINISHED)
        return;
    if (call_can_send(f->call))
        send_heartbeat(f);
    else
        restart_heartbeat(f); /* the client does not read: it needs no sign of life from us */
}

static void note_progress(struct follow *f)
{
    uint64_t gaps = f->all != NULL ? f->all->gaps : f->relay.gaps;

    metric_count(f->app->gaps, 0, (int64_t)(gaps - f->gaps));
    f->gaps = gaps;
    f->delivered = true;
    f->failures = 0;
    f->broken_since_ns = 0;
    f->paused = false;
    free(TAKE(f->spec));
}

static bool finish_corrupt(struct follow *f, const char *whose)
{
    struct status st;

    status_set(&st, CODE_DATA_LOSS, SANDBOX__V1__ERROR_REASON__ERROR_REASON_JOURNAL_CORRUPT,
               "the record of %s does not hold together after event %" PRIu64
               ": it was changed from inside the sandbox",
               whose, f->relay.check.last_seq);
    finish_failed(f, st);
    return false;
}

static bool take_block(struct follow *f, size_t headroom, uint8_t **ret_block, size_t *ret_len)
{
    if (f->archived != NULL)
        return archive_stream_take(f->archived, headroom, ret_block, ret_len);
    return f->stream != NULL && e2b_stream_take(f->stream, headroom, ret_block, ret_len);
}

/* The same for all commands: what was taken may be several messages, or a part of one. */
static bool send_next_of_all(struct follow *f)
{
    uint8_t *block;
    size_t len;

    for (;;) {
        switch (relay_all_next(f->all, &block, &len)) {
        case RELAY_MESSAGE:
            note_progress(f);
            call_send_bytes_take(f->call, block, block, len, false);
            restart_heartbeat(f);
            return true;
        case RELAY_NOTHING:
            break;
        case RELAY_CORRUPT:
            return finish_corrupt(f, "commands");
        }
        if (f->all->complete)
            return true;
        if (!take_block(f, 0, &block, &len))
            return false;

        bool fits = relay_all_feed(f->all, block, len);

        free(block);
        if (!fits)
            return finish_corrupt(f, "commands");
    }
}

/* Sends what the follower wrote next. Returns false when there is nothing to send now. */
static bool send_next(struct follow *f)
{
    uint8_t *block, *start;
    size_t len, message_len;

    if (f->all != NULL)
        return send_next_of_all(f);
    if (!take_block(f, relay_headroom(&f->relay), &block, &len))
        return false;
    switch (relay_feed(&f->relay, block, len, f->announced ? NULL : f->command_id, &start,
                       &message_len)) {
    case RELAY_MESSAGE:
        f->announced = true;
        note_progress(f);
        call_send_bytes_take(f->call, block, start, message_len, false);
        restart_heartbeat(f);
        return true;
    case RELAY_NOTHING:
        free(block);
        return true;
    case RELAY_CORRUPT:
        break;
    }
    free(block);
    return finish_corrupt(f, f->command_id);
}

/* --- the way to the sandbox --- */

static void op_start(struct follow *f, void (*done)(struct e2b_op *op), int64_t deadline_ns)
{
    f->op = (struct e2b_op){
        .caller = caller_of(f->call),
        .executor = call_executor(f->call),
        .done = done,
        .deadline_ns = deadline_ns,
    };
    f->op_running = true;
    call_ref(f->call);
}

static struct follow *op_back(struct e2b_op *op)
{
    struct follow *f = container_of(op, struct follow, op);

    f->op_running = false;
    return f;
}

static void on_stream_readable(struct e2b_op *op)
{
    follow_step(container_of(op, struct follow, op));
}

static void drop_stream(struct follow *f)
{
    e2b_stream_free(TAKE(f->stream));
    archive_stream_free(TAKE(f->archived));
    f->stream_done = false;
}

static void on_stream_done(struct e2b_op *op)
{
    struct follow *f = op_back(op);

    f->stream_done = true;
    if (f->state == FOLLOW_KILLING) {
        drop_stream(f);
        start_kill(f);
    } else if (f->state == FOLLOW_FINISHED) {
        drop_stream(f);
    } else {
        follow_step(f);
    }
    call_unref(f->call);
}

static void count_resume(struct follow *f)
{
    bool asked = f->all != NULL ? f->all->cursor_len > 0 : f->from > 0;

    if (f->opened || asked)
        metric_count(f->app->resumes, f->opened ? RESUMED_BY_POD : RESUMED_BY_CALLER, 1);
    f->opened = true;
}

static void start_follower(struct follow *f, const struct log_view_args *args, const uint8_t *spec,
                           size_t spec_len)
{
    enter(f, FOLLOW_OPEN);
    count_resume(f);
    free(TAKE(f->output.out));
    f->output = (struct e2b_output){0};
    op_start(f, on_stream_done, INT64_MAX);
    f->stream = e2b_stream_start(f->app->e2b, &f->op, f->sandbox_id, args->list, spec, spec_len,
                                 on_stream_readable, &f->output);
}

/* One for all commands, from where the last cursor says. */
static void open_watcher(struct follow *f)
{
    struct log_view_args args = {.n = 0};
    size_t len;
    AUTO_FREE uint8_t *spec = watch_spec_pack(f->all->cursor, f->all->cursor_len, &len);

    log_view_arg(&args, "watch");
    if (strcmp(f->until, "now") != 0)
        log_view_arg(&args, "--follow");
    log_view_args(&f->view, f->delivered, f->all->output, &args);
    relay_all_cut(f->all);
    start_follower(f, &args, spec, len);
}

static void open_follower(struct follow *f)
{
    struct log_view_args args = {.n = 0};
    /* Where it starts was found, even if nothing came from there yet. */
    bool begun = f->delivered || f->relay.check.last_seq > f->from;

    if (f->all != NULL) {
        open_watcher(f);
        return;
    }
    if (f->spec != NULL) {
        log_view_arg(&args, "run");
    } else {
        log_view_arg(&args, "follow");
        log_view_arg(&args, "--id=%s", f->command_id);
    }
    log_view_arg(&args, "--from=%" PRIu64, f->relay.check.last_seq + 1);
    log_view_arg(&args, "--until=%s", f->until);
    log_view_args(&f->view, begun, f->relay.output, &args);
    f->relay.check.sparse = log_view_is_sparse(&f->view, begun);
    relay_cut(&f->relay);
    start_follower(f, &args, f->spec, f->spec_len);
}

/* The sandbox is gone: what follows, and the end of it all, is in the archive or nowhere. */
static void open_archive(struct follow *f, const struct status *gone)
{
    bool begun = f->delivered || f->relay.check.last_seq > f->from;
    struct archive_view view;

    log_view_archived(&f->view, f->until, begun, f->all != NULL ? f->all->output : f->relay.output,
                      &view);
    if (f->all != NULL) {
        view.cursor = f->all->cursor;
        view.cursor_len = f->all->cursor_len;
        relay_all_cut(f->all);
    } else {
        view.from = f->relay.check.last_seq + 1;
        f->relay.check.sparse = log_view_is_sparse(&f->view, begun);
        relay_cut(&f->relay);
    }
    f->gone = *gone;
    enter(f, FOLLOW_OPEN);
    free(TAKE(f->output.out));
    f->output = (struct e2b_output){0};
    op_start(f, on_stream_done, INT64_MAX);
    f->archived = archive_stream_start(f->app->archive, &f->op, f->sandbox_id, f->command_id, &view,
                                       on_stream_readable, &f->output);
}

static void on_probed(struct e2b_op *op);

static void on_again(struct call_timer *timer)
{
    struct follow *f = container_of(timer, struct follow, again);

    if (f->state == FOLLOW_KILLING) {
        start_kill(f);
    } else if (f->state == FOLLOW_WAITING) {
        enter(f, FOLLOW_PROBING);
        e2b_sandbox_deinit(&f->sandbox);
        op_start(f, on_probed, INT64_MAX);
        e2b_get(f->app->e2b, &f->op, f->sandbox_id, &f->sandbox);
    }
}

static void wait_ms(struct follow *f, int64_t ms)
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
    return step / 2 + random() % (step / 2 + 1);
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
        finish_failed(f, *why);
        return;
    }

    int64_t ms = backoff_ms(f->failures);

    enter(f, FOLLOW_WAITING);
    wait_ms(f, why->retry_ms > ms ? why->retry_ms : ms);
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
    enter(f, FOLLOW_WAITING);
    wait_ms(f, PAUSED_POLL_MS);
    if (news && call_can_send(f->call))
        send_heartbeat(f);
}

static bool is_paused(const struct status *st)
{
    return st->reason == SANDBOX__V1__ERROR_REASON__ERROR_REASON_SANDBOX_PAUSED;
}

/* No way to the sandbox is left. */
static void give_up(struct follow *f, const struct status *st)
{
    if (f->may_read_archive && f->app->archive != NULL &&
        st->reason == SANDBOX__V1__ERROR_REASON__ERROR_REASON_SANDBOX_NOT_FOUND)
        open_archive(f, st);
    else
        finish_failed(f, *st);
}

static void on_probed(struct e2b_op *op)
{
    struct follow *f = op_back(op);

    if (f->state == FOLLOW_KILLING) {
        start_kill(f);
    } else if (f->state == FOLLOW_PROBING && op->st.code != CODE_OK) {
        if (may_heal(&op->st))
            try_again(f, &op->st);
        else
            give_up(f, &op->st);
    } else if (f->state == FOLLOW_PROBING && f->sandbox.state == E2B_PAUSED) {
        park(f);
    } else if (f->state == FOLLOW_PROBING) {
        f->paused = false;
        open_follower(f);
    }
    call_unref(f->call);
}

/* To a reader who saw a part of it, its sandbox ended; its output did not expire. */
static void finish_archived(struct follow *f, const struct status *st)
{
    bool nothing = st->reason == SANDBOX__V1__ERROR_REASON__ERROR_REASON_LOG_EXPIRED;

    finish_failed(f, nothing && f->delivered ? f->gone : *st);
}

/* The follower ended and everything it wrote was taken. */
static void conclude(struct follow *f)
{
    struct status st = f->op.st;
    struct e2b_output *out = &f->output;
    bool archived = f->archived != NULL;

    drop_stream(f);
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
    switch (recorder_result(out, f->command_id, f->digest, &st)) {
    case RECORDER_RESULT_OK:
        /* It ended well but not at the end: its stream was cut where nobody could see it. */
        status_set(&st, CODE_UNAVAILABLE, SANDBOX__V1__ERROR_REASON__ERROR_REASON_E2B_UNAVAILABLE,
                   "the stream of command %s ended early", f->command_id);
        try_again(f, &st);
        break;
    case RECORDER_RESULT_RETRY:
        try_again(f, &st);
        break;
    case RECORDER_RESULT_FAILED:
        finish_failed(f, st);
        break;
    }
}

static bool interject(struct follow *f)
{
    return f->owner != NULL && f->state != FOLLOW_FINISHED && call_can_send(f->call) &&
           f->owner->interject(f->owner_ctx);
}

/* Does everything that is possible now. */
void follow_step(struct follow *f)
{
    if (interject(f))
        return; /* once it is sent we are called again */
    while (f->state == FOLLOW_OPEN && (f->stream != NULL || f->archived != NULL) &&
           call_can_send(f->call)) {
        if (!send_next(f)) {
            if (f->state == FOLLOW_OPEN && f->stream_done)
                conclude(f);
            return;
        }
        if (is_complete(f))
            finish(f, &STATUS_INIT);
    }
}

/* --- what the client's side tells --- */

static void on_sent(void *state)
{
    follow_step(state);
}

static void on_killed(struct e2b_op *op)
{
    struct follow *f = op_back(op);
    bool found = op->st.code == CODE_OK && f->output.exit_code != RECORDER_NOT_FOUND;

    if (found || f->kills >= KILL_TRIES) {
        struct status st;

        status_set(&st, CODE_CANCELLED, 0, "the client went away; its command was %s",
                   found ? "killed" : "not found");
        finish(f, &st);
    } else {
        wait_ms(f, KILL_AGAIN_MS);
    }
    call_unref(f->call);
}

static void start_kill(struct follow *f)
{
    char who[VALIDATE_ID_MAX + 8];
    const char *args[] = {"signal", who, "--signal=9", "--target=tree", NULL};

    f->kills++;
    snprintf(who, sizeof(who), "--id=%s", f->command_id);
    free(TAKE(f->output.out));
    f->output = (struct e2b_output){0};
    op_start(f, on_killed, clock_monotonic_ns() + KILL_DEADLINE_MS * NS_PER_MS);
    e2b_verb(f->app->e2b, &f->op, f->sandbox_id, args, NULL, 0, true, &f->output);
}

void follow_gone(struct follow *f)
{
    if (f->kill_on_disconnect && !f->relay.check.exited && f->state != FOLLOW_FINISHED) {
        enter(f, FOLLOW_KILLING);
        if (f->op_running)
            e2b_cancel(&f->op); /* its done starts the kill */
        else
            start_kill(f);
        return;
    }

    struct status st;

    status_set(&st, call_end_reason(f->call), SANDBOX__V1__ERROR_REASON__ERROR_REASON_DEADLINE,
               "the caller stopped waiting; the command goes on");
    finish_failed(f, st);
}

static void leave_pod(struct follow *f)
{
    struct status st;

    if (f->state == FOLLOW_KILLING)
        return;
    status_set(&st, CODE_UNAVAILABLE, SANDBOX__V1__ERROR_REASON__ERROR_REASON_POD_DRAINING,
               "this pod is about to stop; the command goes on: continue from event %" PRIu64
               " on another pod",
               f->relay.check.last_seq + 1);
    st.retry_ms = 1;
    finish_failed(f, st);
}

static void on_leave(struct call_timer *timer)
{
    leave_pod(container_of(timer, struct follow, leave));
}

/* Thousands of streams that all moved at once would fall upon the other pods. */
void follow_drain(struct follow *f)
{
    uint32_t spread_ms = (uint32_t)f->app->config->drain_spread_ms;

    if (spread_ms == 0)
        leave_pod(f);
    else
        call_timer_start(f->call, &f->leave,
                         clock_monotonic_ns() + arc4random_uniform(spread_ms) * NS_PER_MS);
}

void follow_fail(struct follow *f, const struct status *st)
{
    finish_failed(f, *st);
}

static void on_gone(void *state)
{
    follow_gone(state);
}

static void on_drain(void *state)
{
    follow_drain(state);
}

static void destroy(void *state)
{
    follow_free(state);
}

static const struct call_handler handler = {
    .on_sent = on_sent,
    .on_gone = on_gone,
    .on_drain = on_drain,
    .destroy = destroy,
};

/* --- starting --- */

static const char *until_name(bool follow, Sandbox__V1__Until until)
{
    if (!follow)
        return "now";
    return until == SANDBOX__V1__UNTIL__UNTIL_CLOSED ? "closed" : "exited";
}

static bool check_view(Sandbox__V1__Encoding encoding, Sandbox__V1__Until until, struct status *st)
{
    const int reason = SANDBOX__V1__ERROR_REASON__ERROR_REASON_INVALID_FIELD;

    if (encoding > SANDBOX__V1__ENCODING__ENCODING_TEXT)
        return status_bad_field(st, reason, "encoding", "encoding %d is not known here",
                                (int)encoding);
    if (until > SANDBOX__V1__UNTIL__UNTIL_CLOSED)
        return status_bad_field(st, reason, "until", "until %d is not known here", (int)until);
    return true;
}

static bool check_on_disconnect(Sandbox__V1__OnDisconnect what, struct status *st)
{
    if (what > SANDBOX__V1__ON_DISCONNECT__ON_DISCONNECT_KILL)
        return status_bad_field(st, SANDBOX__V1__ERROR_REASON__ERROR_REASON_INVALID_FIELD,
                                "on_disconnect", "on_disconnect %d is not known here", (int)what);
    return true;
}

static struct follow *follow_new(struct call *c, const char *sandbox_id, const char *command_id,
                                 uint64_t from_seq)
{
    struct follow *f = xcalloc(1, sizeof(*f));

    f->call = c;
    f->app = call_app(c);
    f->heartbeat.run = on_heartbeat;
    f->again.run = on_again;
    f->leave.run = on_leave;
    snprintf(f->sandbox_id, sizeof(f->sandbox_id), "%s", sandbox_id);
    snprintf(f->command_id, sizeof(f->command_id), "%s", command_id);
    relay_init(&f->relay, from_seq);
    f->from = f->relay.check.last_seq;
    return f;
}

static void follow_begin(struct follow *f, bool announce)
{
    call_set_handler(f->call, &handler, f);
    if (announce)
        send_heartbeat(f);
    else
        restart_heartbeat(f);
    open_follower(f);
}

void run_command_start(struct call *c, const ProtobufCMessage *message)
{
    const Sandbox__V1__RunCommandRequest *r = (const Sandbox__V1__RunCommandRequest *)message;
    struct status st = STATUS_INIT;
    bool make_id = r->command_id[0] == '\0';
    char made[COMMAND_ID_MADE_LEN + 1];

    if (!validate_id("sandbox_id", r->sandbox_id, &st) ||
        !validate_optional_id("command_id", r->command_id, &st) ||
        !check_view(r->encoding, r->until, &st) || !check_on_disconnect(r->on_disconnect, &st)) {
        call_finish(c, &st);
        return;
    }
    if (make_id)
        command_id_make(made);

    struct follow *f = follow_new(c, r->sandbox_id, make_id ? made : r->command_id, r->from_seq);

    if (!command_spec_make(r, f->command_id, call_trace(c), &f->spec, &f->spec_len, f->digest,
                           &st)) {
        follow_free(f);
        call_finish(c, &st);
        return;
    }
    f->until = until_name(true, r->until);
    f->view.text = r->encoding == SANDBOX__V1__ENCODING__ENCODING_TEXT;
    f->kill_on_disconnect = r->on_disconnect == SANDBOX__V1__ON_DISCONNECT__ON_DISCONNECT_KILL;
    /* A caller that does not know the id yet must learn it before anything can happen under it. */
    follow_begin(f, make_id);
}

static bool belongs_to_one(bool is_set, const char *field, struct status *st)
{
    return !is_set || status_bad_field(st, SANDBOX__V1__ERROR_REASON__ERROR_REASON_INVALID_FIELD,
                                       field, "%s is of one command: set command_id too", field);
}

/* A view of all commands of the sandbox. */
static void start_all(struct call *c, const Sandbox__V1__LogsRequest *r,
                      const struct log_view *view)
{
    struct relay_all *all = xcalloc(1, sizeof(*all));
    struct status st = STATUS_INIT;

    relay_all_init(all, view->streams[0] != '\0');
    if (r->cursor.len > 0 && !relay_all_set_cursor(all, r->cursor.data, r->cursor.len))
        status_bad_field(&st, SANDBOX__V1__ERROR_REASON__ERROR_REASON_INVALID_FIELD, "cursor",
                         "cursor is not one that this method returned");
    else if (belongs_to_one(r->from_seq != 0, "from_seq", &st) &&
             belongs_to_one(r->tail != NULL, "tail", &st) &&
             belongs_to_one(r->until != SANDBOX__V1__UNTIL__UNTIL_UNSPECIFIED, "until", &st)) {
        struct follow *f = follow_new(c, r->sandbox_id, "", 0);

        f->all = all;
        f->may_read_archive = true;
        f->announced = true; /* there is no id to be said first */
        f->until = until_name(r->follow, r->until);
        f->view = *view;
        follow_begin(f, false);
        return;
    }
    relay_all_deinit(all);
    free(all);
    call_finish(c, &st);
}

static bool check_logs(const Sandbox__V1__LogsRequest *r, struct log_view *ret, struct status *st)
{
    if (!validate_id("sandbox_id", r->sandbox_id, st) ||
        !validate_optional_id("command_id", r->command_id, st) ||
        !check_view(r->encoding, r->until, st) || !log_view_read(r, ret, st))
        return false;
    if (r->source > SANDBOX__V1__SOURCE__SOURCE_SANDBOX)
        return status_bad_field(st, SANDBOX__V1__ERROR_REASON__ERROR_REASON_INVALID_FIELD, "source",
                                "source %d is not known here", (int)r->source);
    if (r->command_id[0] != '\0' && r->cursor.len > 0)
        return status_bad_field(st, SANDBOX__V1__ERROR_REASON__ERROR_REASON_INVALID_FIELD, "cursor",
                                "cursor is of all commands: leave command_id empty, or use "
                                "from_seq");
    return true;
}

void logs_start(struct call *c, const ProtobufCMessage *message)
{
    const Sandbox__V1__LogsRequest *r = (const Sandbox__V1__LogsRequest *)message;
    struct status st = STATUS_INIT;
    struct log_view view;

    if (r->source == SANDBOX__V1__SOURCE__SOURCE_SANDBOX &&
        validate_id("sandbox_id", r->sandbox_id, &st)) {
        platform_log_start(c, r);
        return;
    }
    if (!check_logs(r, &view, &st)) {
        call_finish(c, &st);
        return;
    }
    if (r->command_id[0] == '\0') {
        start_all(c, r, &view);
        return;
    }

    struct follow *f = follow_new(c, r->sandbox_id, r->command_id, r->from_seq);

    f->may_read_archive = true;
    f->until = until_name(r->follow, r->until);
    f->view = view;
    follow_begin(f, false);
}

struct follow *follow_open(struct call *c, const char *sandbox_id, const char *command_id,
                           uint64_t from_seq, const char *until, const struct follow_owner *owner,
                           void *ctx)
{
    struct follow *f = follow_new(c, sandbox_id, command_id, from_seq);

    f->until = until;
    f->owner = owner;
    f->owner_ctx = ctx;
    restart_heartbeat(f);
    open_follower(f);
    return f;
}
