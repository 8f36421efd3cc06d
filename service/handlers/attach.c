/*
 * Attach: the view of a command (follow.c) with its input on the same stream. Events come as in
 * Logs. Input goes to the recorder by its verb, one at a time, each with the offset it belongs at,
 * so that it can be repeated until it is known to be there: a broken way to the sandbox delays what
 * is typed, and neither loses nor repeats it. What is typed meanwhile waits here, within a bound.
 *
 * Everything runs on the call's worker. The view gives the verdict on the call; when the sandbox or
 * the command is gone, input has nowhere to go and the view says so.
 */
#include "service/handlers/attach.h"

#include "common/base/buf.h"
#include "common/base/cleanup.h"
#include "common/base/clock.h"
#include "common/base/list.h"
#include "common/base/mem.h"
#include "common/journal/verbs.h"
#include "sandbox/v1/attach.pb-c.h"
#include "sandbox/v1/errors.pb-c.h"
#include "service/app.h"
#include "service/e2b/e2b.h"
#include "service/handlers/follow.h"
#include "service/handlers/input_spec.h"
#include "service/handlers/leave.h"
#include "service/handlers/recorder_result.h"
#include "service/handlers/validate.h"
#include "service/identity/caller.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REASON(name) SANDBOX__V1__ERROR_REASON__ERROR_REASON_##name

enum {
    INPUT_BYTES_MAX = 1 << 20,   /* of one message */
    INPUT_HOLD_BYTES = 64 << 10, /* then no more is received until some of it is typed */
    INPUT_STEP_BYTES = 64 << 10, /* typed at once */
    VERB_TIMEOUT_MS = 30000,
    AGAIN_FIRST_MS = 100,
    AGAIN_DOUBLINGS = 5, /* to 3.2 s */
    TERMINAL_SIZE_MAX = 1000,
};

enum doing { DOING_NOTHING, DOING_ASK, DOING_RESIZE, DOING_TYPE };

struct attach {
    struct call *call; /* borrowed: it owns this */
    const struct app *app;
    struct follow *view; /* owned; NULL before begin */
    bool finished;
    char sandbox_id[VALIDATE_ID_MAX + 1];
    char command_id[VALIDATE_ID_MAX + 1];

    /* What was received and not typed yet stands behind offset. */
    struct buf pending;
    bool eof;          /* behind all of it */
    uint64_t offset;   /* what the command has taken */
    bool offset_known; /* asked for once, at the start */
    bool deaf;         /* the command takes no input any more */
    bool news;         /* the client is to be told the offset */
    bool held;
    uint32_t cols, rows; /* wanted of the terminal; 0: no new size is */
    uint32_t cols_sent, rows_sent;

    enum doing doing;
    size_t in_flight; /* bytes of pending */
    bool eof_sent;    /* behind them */
    struct e2b_op op;
    struct e2b_output output;
    struct call_timer again; /* the last verb did not get through */
    bool waiting;
    int failures; /* in a row */
};

static void attach_step(struct attach *a);

static void fail(struct attach *a, const struct status *st)
{
    if (a->view != NULL) {
        follow_fail(a->view, st);
    } else {
        a->finished = true;
        call_finish(a->call, st);
    }
}

/* --- what the client is told --- */

static bool interject(void *owner)
{
    struct attach *a = owner;
    Sandbox__V1__InputTaken taken = SANDBOX__V1__INPUT_TAKEN__INIT;
    Sandbox__V1__AttachResponse m = SANDBOX__V1__ATTACH_RESPONSE__INIT;

    if (!a->news)
        return false;
    a->news = false;
    taken.offset = a->offset;
    m.command_id = a->command_id;
    m.input = &taken;
    call_send(a->call, &m.base);
    return true;
}

static void on_finished(void *owner)
{
    struct attach *a = owner;

    a->finished = true;
    if (a->doing != DOING_NOTHING)
        e2b_cancel(&a->op);
}

static const struct follow_owner owner = {.interject = interject, .finished = on_finished};

static void tell_offset(struct attach *a)
{
    a->news = true;
    follow_step(a->view);
}

/* --- the way in --- */

static void hold_or_release(struct attach *a)
{
    bool hold = buf_len(&a->pending) >= INPUT_HOLD_BYTES;

    if (hold == a->held)
        return;
    a->held = hold;
    if (hold)
        call_hold(a->call);
    else
        call_release(a->call);
}

static void take_offset(struct attach *a, uint64_t offset)
{
    /* Ctrl-D counts, and it is the last. */
    size_t typed = offset <= a->offset ? 0 : (size_t)(offset - a->offset);

    buf_consume(&a->pending, typed < buf_len(&a->pending) ? typed : buf_len(&a->pending));
    if (offset > a->offset || !a->offset_known) {
        a->offset = offset;
        a->offset_known = true;
        tell_offset(a);
    }
    hold_or_release(a);
}

static void wait_again(struct attach *a)
{
    int doublings = a->failures < AGAIN_DOUBLINGS ? a->failures : AGAIN_DOUBLINGS;

    a->failures++;
    a->waiting = true;
    call_timer_start(a->call, &a->again,
                     clock_monotonic_ns() + ((int64_t)AGAIN_FIRST_MS << doublings) * NS_PER_MS);
}

static void on_again(struct call_timer *timer)
{
    struct attach *a = container_of(timer, struct attach, again);

    a->waiting = false;
    attach_step(a);
}

/* The command is not there, or takes nothing any more: the view will tell how it ended. */
static void stop_listening(struct attach *a)
{
    a->deaf = true;
    buf_consume(&a->pending, buf_len(&a->pending));
    hold_or_release(a);
}

/* The verb did not do it. st: why. */
static void verb_failed(struct attach *a, enum doing what, struct status *st)
{
    switch (a->output.exit_code) {
    case RECORDER_STDIN_CLOSED:
        if (what == DOING_TYPE)
            break;
        stop_listening(a);
        return;
    case RECORDER_NOT_FOUND:
    case RECORDER_ENDED:
        stop_listening(a);
        return;
    default:
        break;
    }
    fail(a, st);
}

/* The way to the sandbox is broken; the view finds out whether for good. */
static bool may_heal(const struct status *st)
{
    return st->code == CODE_UNAVAILABLE || st->code == CODE_RESOURCE_EXHAUSTED ||
           st->code == CODE_DEADLINE_EXCEEDED || st->code == CODE_NOT_FOUND ||
           st->code == CODE_FAILED_PRECONDITION;
}

static void verb_ran(struct attach *a, enum doing what)
{
    struct status st = STATUS_INIT;
    uint64_t offset = 0;
    bool full = a->output.exit_code == RECORDER_STDIN_FULL;
    enum recorder_result result = recorder_result(&a->output, a->command_id, NULL, &st);

    if (result == RECORDER_RESULT_OK)
        a->failures = 0;
    if (what != DOING_RESIZE && (result == RECORDER_RESULT_OK || full)) {
        if (recorder_number(&a->output, &offset)) {
            if (what == DOING_TYPE && !full && a->eof_sent)
                a->eof = false;
            take_offset(a, offset);
        }
        if (full)
            wait_again(a);
    } else if (result == RECORDER_RESULT_RETRY) {
        wait_again(a);
    } else if (result == RECORDER_RESULT_FAILED) {
        verb_failed(a, what, &st);
    } else if (a->cols == a->cols_sent && a->rows == a->rows_sent) {
        a->cols = a->rows = 0; /* else another one came meanwhile */
    }
}

static void on_verb(struct e2b_op *op)
{
    struct attach *a = container_of(op, struct attach, op);
    enum doing what = a->doing;

    a->doing = DOING_NOTHING;
    if (!a->finished) {
        if (op->st.code == CODE_OK)
            verb_ran(a, what);
        else if (may_heal(&op->st))
            wait_again(a);
        else
            fail(a, &op->st);
        attach_step(a);
    }
    call_unref(a->call);
}

static void start_verb(struct attach *a, enum doing what, const char *const *args,
                       const uint8_t *spec, size_t len)
{
    a->doing = what;
    free(TAKE(a->output.out));
    a->output = (struct e2b_output){0};
    a->op = (struct e2b_op){
        .caller = caller_of(a->call),
        .executor = call_executor(a->call),
        .done = on_verb,
        .deadline_ns = clock_monotonic_ns() + VERB_TIMEOUT_MS * NS_PER_MS,
    };
    call_ref(a->call);
    /* All three may be repeated: asking and resizing by nature, typing by its offset. */
    e2b_verb(a->app->e2b, &a->op, a->sandbox_id, args, spec, len, true, &a->output);
}

static void start_input(struct attach *a, enum doing what)
{
    struct input_spec input = {0};
    char who[VALIDATE_ID_MAX + 8];
    size_t len;

    if (what == DOING_TYPE) {
        a->in_flight =
            buf_len(&a->pending) < INPUT_STEP_BYTES ? buf_len(&a->pending) : INPUT_STEP_BYTES;
        a->eof_sent = a->eof && a->in_flight == buf_len(&a->pending);
        input = (struct input_spec){.data = buf_data(&a->pending),
                                    .len = a->in_flight,
                                    .eof = a->eof_sent,
                                    .positioned = true,
                                    .offset = a->offset};
    }

    AUTO_FREE uint8_t *spec = input_spec_pack(&input, &len);

    snprintf(who, sizeof(who), "--id=%s", a->command_id);
    start_verb(a, what, (const char *[]){"input", who, NULL}, spec, len);
}

static void start_resize(struct attach *a)
{
    char who[VALIDATE_ID_MAX + 8], cols[24], rows[24];

    a->cols_sent = a->cols;
    a->rows_sent = a->rows;
    snprintf(who, sizeof(who), "--id=%s", a->command_id);
    snprintf(cols, sizeof(cols), "--cols=%" PRIu32, a->cols);
    snprintf(rows, sizeof(rows), "--rows=%" PRIu32, a->rows);
    start_verb(a, DOING_RESIZE, (const char *[]){"resize", who, cols, rows, NULL}, NULL, 0);
}

/* Does the next thing, if it is time for one. */
static void attach_step(struct attach *a)
{
    if (a->finished || a->waiting || a->doing != DOING_NOTHING || a->deaf)
        return;
    if (!a->offset_known)
        start_input(a, DOING_ASK);
    else if (a->cols != 0)
        start_resize(a);
    else if (buf_len(&a->pending) > 0 || a->eof)
        start_input(a, DOING_TYPE);
}

/* --- what the client says --- */

static bool check_size(const char *field, const Sandbox__V1__TerminalSize *size, struct status *st)
{
    if (size != NULL && (size->cols == 0 || size->cols > TERMINAL_SIZE_MAX || size->rows == 0 ||
                         size->rows > TERMINAL_SIZE_MAX))
        return status_bad_field(st, REASON(INVALID_FIELD), field,
                                "a terminal has from 1 to %d columns and rows", TERMINAL_SIZE_MAX);
    return true;
}

static void take_size(struct attach *a, const Sandbox__V1__TerminalSize *size)
{
    if (size == NULL)
        return;
    a->cols = size->cols;
    a->rows = size->rows;
}

static bool take_begin(struct attach *a, const Sandbox__V1__AttachBegin *r, struct status *st)
{
    bool closed = r->until == SANDBOX__V1__UNTIL__UNTIL_CLOSED;

    if (!validate_id("begin.sandbox_id", r->sandbox_id, st) ||
        !validate_id("begin.command_id", r->command_id, st) ||
        !check_size("begin.size", r->size, st))
        return false;
    if (r->until > SANDBOX__V1__UNTIL__UNTIL_CLOSED)
        return status_bad_field(st, REASON(INVALID_FIELD), "begin.until",
                                "until %d is not known here", (int)r->until);
    snprintf(a->sandbox_id, sizeof(a->sandbox_id), "%s", r->sandbox_id);
    snprintf(a->command_id, sizeof(a->command_id), "%s", r->command_id);
    take_size(a, r->size);
    a->view = follow_open(a->call, a->sandbox_id, a->command_id, r->from_seq,
                          closed ? "closed" : "exited", &owner, a);
    return true;
}

/* Input may be sent before the client knows the offset; then it has no place of its own yet. */
static bool take_input(struct attach *a, const Sandbox__V1__AttachInput *r, struct status *st)
{
    bool positioned = r->position_case == SANDBOX__V1__ATTACH_INPUT__POSITION_OFFSET;
    uint64_t end = a->offset + buf_len(&a->pending);
    size_t known = 0;

    if (r->data.len > INPUT_BYTES_MAX)
        return status_bad_field(st, REASON(INVALID_FIELD), "input.data",
                                "%zu bytes are too many at once; at most %d: send them in parts",
                                r->data.len, INPUT_BYTES_MAX);
    if (positioned && (!a->offset_known || r->offset > end)) {
        status_set(st, CODE_OUT_OF_RANGE, REASON(INPUT_GAP),
                   "input.offset %" PRIu64 " leaves a gap: send what comes behind byte %" PRIu64
                   ", as the first response with input says",
                   r->offset, end);
        status_detail(st, "expected_offset", "%" PRIu64, end);
        return false;
    }
    if (positioned)
        known = end - r->offset < r->data.len ? (size_t)(end - r->offset) : r->data.len;
    if (a->deaf)
        return true;
    if (a->eof && known < r->data.len)
        return status_bad_field(st, REASON(INVALID_FIELD), "input.data",
                                "there is no input behind its end (eof)");
    buf_append(&a->pending, r->data.data + known, r->data.len - known);
    a->eof |= r->eof != 0;
    hold_or_release(a);
    return true;
}

static bool take(struct attach *a, const Sandbox__V1__AttachRequest *r, struct status *st)
{
    bool begins = r->request_case == SANDBOX__V1__ATTACH_REQUEST__REQUEST_BEGIN;

    if (begins != (a->view == NULL))
        return status_bad_field(st, REASON(INVALID_FIELD), "begin",
                                "the first message, and only it, must be begin");
    switch (r->request_case) {
    case SANDBOX__V1__ATTACH_REQUEST__REQUEST_BEGIN:
        return take_begin(a, r->begin, st);
    case SANDBOX__V1__ATTACH_REQUEST__REQUEST_INPUT:
        return take_input(a, r->input, st);
    case SANDBOX__V1__ATTACH_REQUEST__REQUEST_RESIZE:
        if (!check_size("resize", r->resize, st))
            return false;
        take_size(a, r->resize);
        return true;
    default:
        return status_bad_field(st, REASON(INVALID_FIELD), "request",
                                "the message says nothing: set input or resize");
    }
}

/* A half-close only ends the input: the events go on. */
static void on_message(void *state, const ProtobufCMessage *message)
{
    struct attach *a = state;
    struct status st = STATUS_INIT;

    if (a->finished || (message == NULL && a->view != NULL))
        return;
    if (message == NULL) {
        status_set(&st, CODE_INVALID_ARGUMENT, REASON(INVALID_FIELD),
                   "the stream ended without begin");
        fail(a, &st);
    } else if (!take(a, (const Sandbox__V1__AttachRequest *)message, &st)) {
        fail(a, &st);
    } else {
        attach_step(a);
    }
}

static void on_sent(void *state)
{
    struct attach *a = state;

    follow_step(a->view);
}

static void on_gone(void *state)
{
    struct attach *a = state;
    struct status st;

    if (a->view != NULL) {
        follow_gone(a->view);
        return;
    }
    status_set(&st, call_end_reason(a->call), REASON(DEADLINE), "the caller went away");
    fail(a, &st);
}

static void on_drain(void *state)
{
    struct attach *a = state;
    struct status st;

    if (a->view != NULL) {
        follow_drain(a->view);
        return;
    }
    leave_status(a->call, &st, "attach again");
    fail(a, &st);
}

static void destroy(void *state)
{
    struct attach *a = state;

    follow_free(a->view);
    buf_deinit(&a->pending);
    free(a->output.out);
    free(a);
}

static const struct call_handler handler = {
    .on_sent = on_sent,
    .on_gone = on_gone,
    .on_drain = on_drain,
    .on_message = on_message,
    .destroy = destroy,
};

void attach_start(struct call *c, const ProtobufCMessage *none)
{
    struct attach *a = xcalloc(1, sizeof(*a));

    a->call = c;
    a->app = call_app(c);
    a->again.run = on_again;
    buf_init(&a->pending, INPUT_HOLD_BYTES + INPUT_BYTES_MAX);
    call_set_handler(c, &handler, a);
}
