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
#include "service/handlers/follow_impl.h"

#include "service/identity/caller.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void follow_enter(struct follow *f, enum follow_state state)
{
    if (f->state != FOLLOW_FINISHED)
        f->state = state;
}

void follow_finish(struct follow *f, const struct status *st)
{
    if (f->state == FOLLOW_FINISHED)
        return;
    follow_enter(f, FOLLOW_FINISHED);
    if (f->op_running && f->archived != NULL)
        archive_stream_cancel(f->archived);
    else if (f->op_running && st->code != CODE_OK)
        e2b_cancel(&f->op);
    call_finish(f->call, st);
    if (f->owner != NULL)
        f->owner->finished(f->owner_ctx);
}

/* Every failure tells where to go on. */
void follow_fail(struct follow *f, const struct status *why)
{
    struct status st = *why;

    if (f->all == NULL) {
        status_detail(&st, f->watches ? "watch_id" : "command_id", "%s", f->command_id);
        status_detail(&st, "last_seq", "%" PRIu64, f->relay.check.last_seq);
    }
    follow_finish(f, &st);
}

void follow_op_start(struct follow *f, void (*done)(struct e2b_op *op), int64_t deadline_ns)
{
    f->op = (struct e2b_op){
        .caller = caller_of(f->call),
        .executor = call_executor(f->call),
        .done = done,
        .deadline_ns = deadline_ns,
        /* Whoever paused it while it was followed meant it. */
        .lets_sleep = f->delivered || (f->may_read_archive && !f->may_wake),
    };
    free(f->output.out);
    f->output = (struct e2b_output){0};
    f->op_running = true;
    call_ref(f->call);
}

struct follow *follow_op_back(struct e2b_op *op)
{
    struct follow *f = container_of(op, struct follow, op);

    f->op_running = false;
    return f;
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
        if (!follow_send_next(f)) {
            if (f->state == FOLLOW_OPEN && f->stream_done)
                follow_conclude(f);
            return;
        }
        if (is_complete(f))
            follow_finish(f, &STATUS_INIT);
    }
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

static void on_sent(void *state)
{
    follow_step(state);
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

struct follow *follow_new(struct call *c, const char *sandbox_id, const char *command_id,
                          uint64_t from_seq)
{
    struct follow *f = xcalloc(1, sizeof(*f));

    f->call = c;
    f->app = call_app(c);
    f->heartbeat.run = follow_on_heartbeat;
    f->again.run = follow_on_again;
    f->leave.run = follow_on_leave;
    snprintf(f->sandbox_id, sizeof(f->sandbox_id), "%s", sandbox_id);
    snprintf(f->command_id, sizeof(f->command_id), "%s", command_id);
    relay_init(&f->relay, from_seq);
    f->from = f->relay.check.last_seq;
    return f;
}

void follow_begin(struct follow *f, bool announce)
{
    call_set_handler(f->call, &handler, f);
    if (announce)
        follow_send_heartbeat(f);
    else
        follow_restart_heartbeat(f);
    follow_connect(f);
}

struct follow *follow_open(struct call *c, const char *sandbox_id, const char *command_id,
                           uint64_t from_seq, const char *until, const struct follow_owner *owner,
                           void *ctx)
{
    struct follow *f = follow_new(c, sandbox_id, command_id, from_seq);

    f->until = until;
    f->owner = owner;
    f->owner_ctx = ctx;
    follow_restart_heartbeat(f);
    follow_connect(f);
    return f;
}
