/*
 * ForwardPort: a TCP connection in the sandbox, carried by the recorder's verb `dial`, whose stdout
 * comes as a follower's does and whose stdin is written as a file that is uploaded. Both are
 * bounded: the client is held while the sandbox takes nothing, and the sandbox waits while the
 * client does not read. Nothing of it can be resumed. All on the call's worker.
 */
#include "service/handlers/ports.h"

#include "common/base/buf.h"
#include "common/base/cleanup.h"
#include "common/base/clock.h"
#include "common/base/list.h"
#include "common/base/mem.h"
#include "common/base/utf8.h"
#include "common/journal/dial.h"
#include "common/journal/verbs.h"
#include "sandbox/v1/errors.pb-c.h"
#include "sandbox/v1/ports.pb-c.h"
#include "service/app.h"
#include "service/config.h"
#include "service/handlers/file_call.h"
#include "service/handlers/leave.h"
#include "service/identity/caller.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REASON(name) SANDBOX__V1__ERROR_REASON__ERROR_REASON_##name

enum {
    ADDRESS_MAX = 64,
    END_GRACE_MS = 5000, /* from the end of the way in to the word of how it all ended */
};

enum forward_state {
    FORWARD_NEW,        /* the client has not said where to */
    FORWARD_CONNECTING, /* the client is held */
    FORWARD_OPEN,
    FORWARD_OVER,
};

struct forward {
    struct call *call; /* borrowed: it owns this */
    enum forward_state state;
    struct status verdict; /* why it is to end before its own end */
    bool held;
    char sandbox_id[VALIDATE_ID_MAX + 1];
    struct call_timer heartbeat, beat, grace;

    /* From the sandbox. */
    struct e2b_op op;
    bool running;
    struct e2b_stream *stream; /* NULL: not begun */
    struct e2b_output output;
    struct dial_parser parser;
    uint8_t *block; /* owned; what was taken of the stream, and not passed on yet */
    const uint8_t *at;
    size_t left;
    struct buf address;

    /* To the sandbox. */
    struct e2b_op in_op;
    bool in_running;
    struct e2b_upload *in; /* NULL: not connected yet */
};

static void step(struct forward *f);

static const struct app *app_of(const struct forward *f)
{
    return call_app(f->call);
}

static void restart_heartbeat(struct forward *f)
{
    call_timer_start(f->call, &f->heartbeat,
                     clock_monotonic_ns() + app_of(f)->config->heartbeat_ms * NS_PER_MS);
}

static void tell(struct forward *f, const Sandbox__V1__ForwardPortResponse *m)
{
    call_send(f->call, &m->base);
    restart_heartbeat(f);
}

static void on_heartbeat(struct call_timer *timer)
{
    struct forward *f = container_of(timer, struct forward, heartbeat);
    Sandbox__V1__ForwardPortResponse m = SANDBOX__V1__FORWARD_PORT_RESPONSE__INIT;

    if (f->state != FORWARD_NEW && call_can_send(f->call))
        tell(f, &m);
    else
        restart_heartbeat(f); /* a client that does not read needs no sign of life */
}

/* --- to the sandbox --- */

static void restart_beat(struct forward *f)
{
    call_timer_start(f->call, &f->beat, clock_monotonic_ns() + DIAL_BEAT_MS * NS_PER_MS);
}

/* The verb is to know that we are there. One that takes nothing would not hear it. */
static void on_beat(struct call_timer *timer)
{
    struct forward *f = container_of(timer, struct forward, beat);
    uint8_t beat[DIAL_HEADER];

    dial_put_beat(beat);
    if (f->in_running && !e2b_upload_is_full(f->in))
        e2b_input_write(f->in, beat, sizeof(beat));
    restart_beat(f);
}

static void hold_or_release(struct forward *f)
{
    bool hold = f->state == FORWARD_CONNECTING || (f->in_running && e2b_upload_is_full(f->in));

    if (hold == f->held)
        return;
    f->held = hold;
    if (hold)
        call_hold(f->call);
    else
        call_release(f->call);
}

static void on_writable(struct e2b_op *op)
{
    struct forward *f = container_of(op, struct forward, in_op);

    if (f->state == FORWARD_OPEN)
        hold_or_release(f);
}

/* It does not end before the verb does, which in most cases is why: that has the better word. */
static void on_in_done(struct e2b_op *op)
{
    struct forward *f = container_of(op, struct forward, in_op);
    struct call *c = f->call;

    f->in_running = false;
    if (f->state == FORWARD_OPEN) {
        hold_or_release(f);
        call_timer_start(c, &f->grace, clock_monotonic_ns() + END_GRACE_MS * NS_PER_MS);
    }
    call_unref(c);
}

static void on_grace(struct call_timer *timer)
{
    struct forward *f = container_of(timer, struct forward, grace);

    status_set(&f->verdict, CODE_ABORTED, REASON(CONNECTION_LOST),
               "the way to the sandbox was lost, and the connection with it");
    step(f);
}

static void begin_op(struct forward *f, struct e2b_op *op, void (*done)(struct e2b_op *op))
{
    *op = (struct e2b_op){
        .executor = call_executor(f->call),
        .done = done,
        .caller = caller_of(f->call),
        .deadline_ns = call_deadline_ns(f->call),
    };
    call_ref(f->call);
}

static void open_input(struct forward *f)
{
    begin_op(f, &f->in_op, on_in_done);
    f->in_running = true;
    f->in = e2b_input_start(app_of(f)->e2b, &f->in_op, f->sandbox_id, e2b_stream_pid(f->stream),
                            on_writable);
    restart_beat(f);
}

static void write_data(struct forward *f, const ProtobufCBinaryData *data)
{
    AUTO_FREE uint8_t *frame = NULL;

    if (data->len == 0 || !f->in_running)
        return;
    frame = xmalloc(DIAL_HEADER + data->len);
    dial_put_header(frame, data->len);
    memcpy(frame + DIAL_HEADER, data->data, data->len);
    e2b_input_write(f->in, frame, DIAL_HEADER + data->len);
    hold_or_release(f);
}

static void write_end(struct forward *f)
{
    uint8_t end[DIAL_HEADER];

    dial_put_end(end);
    if (f->in_running)
        e2b_input_write(f->in, end, sizeof(end));
}

/* --- from the sandbox --- */

static void corrupt(struct forward *f)
{
    status_set(&f->verdict, CODE_DATA_LOSS, REASON(JOURNAL_CORRUPT),
               "what came from the sandbox does not hold together: it was changed there");
}

/* Some of the first frame: where the connection leads. */
static void take_address(struct forward *f, const uint8_t *data, size_t len, bool whole)
{
    Sandbox__V1__ForwardPortResponse m = SANDBOX__V1__FORWARD_PORT_RESPONSE__INIT;
    Sandbox__V1__ForwardStarted started = SANDBOX__V1__FORWARD_STARTED__INIT;

    if (!buf_append(&f->address, data, len) ||
        (whole && !utf8_is_valid(buf_data(&f->address), buf_len(&f->address)))) {
        corrupt(f);
        return;
    }
    if (!whole)
        return;
    f->state = FORWARD_OPEN;
    started.address = (char *)buf_str(&f->address);
    m.message_case = SANDBOX__V1__FORWARD_PORT_RESPONSE__MESSAGE_STARTED;
    m.started = &started;
    tell(f, &m);
    open_input(f);
    hold_or_release(f);
}

static void take_data(struct forward *f, const uint8_t *data, size_t len, bool whole)
{
    Sandbox__V1__ForwardPortResponse m = SANDBOX__V1__FORWARD_PORT_RESPONSE__INIT;

    if (f->state == FORWARD_CONNECTING) {
        take_address(f, data, len, whole);
        return;
    }
    m.message_case = SANDBOX__V1__FORWARD_PORT_RESPONSE__MESSAGE_DATA;
    m.data.data = (uint8_t *)data;
    m.data.len = len;
    tell(f, &m);
}

static void tell_ended(struct forward *f)
{
    Sandbox__V1__ForwardPortResponse m = SANDBOX__V1__FORWARD_PORT_RESPONSE__INIT;
    Sandbox__V1__ForwardEnded ended = SANDBOX__V1__FORWARD_ENDED__INIT;

    m.message_case = SANDBOX__V1__FORWARD_PORT_RESPONSE__MESSAGE_ENDED;
    m.ended = &ended;
    tell(f, &m);
}

/* Passes on one piece of what has come. False: there is nothing more for now. */
static bool take_next(struct forward *f)
{
    const uint8_t *piece;
    size_t len;
    bool whole;

    switch (dial_next(&f->parser, &f->at, &f->left, &piece, &len, &whole)) {
    case DIAL_MORE:
        free(TAKE(f->block));
        if (!e2b_stream_take(f->stream, 0, &f->block, &f->left))
            return false;
        f->at = f->block;
        break;
    case DIAL_DATA:
        take_data(f, piece, len, whole);
        break;
    case DIAL_BEAT:
        break;
    case DIAL_END:
        tell_ended(f);
        break;
    case DIAL_NONE:
        corrupt(f);
        break;
    }
    return true;
}

/* --- ends --- */

static void finish(struct forward *f, const struct status *st)
{
    if (f->state == FORWARD_OVER)
        return;
    f->state = FORWARD_OVER;
    if (f->running)
        e2b_cancel(&f->op);
    if (f->in_running)
        e2b_cancel(&f->in_op);
    call_finish(f->call, st);
}

/* How the verb ended. */
static void judge(const struct forward *f, struct status *st)
{
    const char *says = f->output.err;

    *st = f->op.st;
    if (st->code == CODE_UNAVAILABLE && f->state == FORWARD_OPEN) {
        status_set(st, CODE_ABORTED, REASON(CONNECTION_LOST),
                   "the way to the sandbox was lost, and the connection with it: %s",
                   f->op.st.message);
    } else if (st->code == CODE_OK) {
        switch (f->output.exit_code) {
        case RECORDER_OK:
            break;
        case RECORDER_PORT_CLOSED:
            status_set(st, CODE_FAILED_PRECONDITION, REASON(PORT_REFUSED), "%s", says);
            break;
        case RECORDER_UNREACHABLE:
            status_set(st, CODE_UNAVAILABLE, REASON(PORT_UNREACHABLE), "%s", says);
            break;
        case RECORDER_CONNECTION_LOST:
            status_set(st, CODE_ABORTED, REASON(CONNECTION_LOST), "%s", says);
            break;
        default:
            file_result(f->output.exit_code, says, st);
            break;
        }
    }
}

/* Does all that is possible now. */
static void step(struct forward *f)
{
    bool empty = false;
    struct status st;

    if (f->state == FORWARD_OVER)
        return;
    while (f->verdict.code == CODE_OK && f->stream != NULL && !empty && call_can_send(f->call))
        empty = !take_next(f);
    if (f->verdict.code != CODE_OK) {
        finish(f, &f->verdict);
    } else if (f->stream != NULL && !f->running && empty) {
        judge(f, &st);
        finish(f, &st);
    }
}

static void on_readable(struct e2b_op *op)
{
    step(container_of(op, struct forward, op));
}

static void on_done(struct e2b_op *op)
{
    struct forward *f = container_of(op, struct forward, op);
    struct call *c = f->call;

    f->running = false;
    step(f);
    call_unref(c);
}

/* --- what the client says --- */

static bool check_host(const char *host, struct status *st)
{
    uint8_t address[16];

    return host[0] == '\0' || inet_pton(AF_INET, host, address) == 1 ||
           inet_pton(AF_INET6, host, address) == 1 ||
           status_bad_field(st, REASON(INVALID_FIELD), "start.host",
                            "start.host must be an IP address");
}

static bool take_start(struct forward *f, const Sandbox__V1__ForwardStart *m, struct status *st)
{
    char port[24];
    AUTO_FREE char *host = NULL;

    if (!validate_id("start.sandbox_id", m->sandbox_id, st) || !check_host(m->host, st))
        return false;
    if (m->port < 1 || m->port > 65535)
        return status_bad_field(st, REASON(INVALID_FIELD), "start.port",
                                "start.port must be from 1 to 65535");
    snprintf(f->sandbox_id, sizeof(f->sandbox_id), "%s", m->sandbox_id);
    snprintf(port, sizeof(port), "--port=%u", m->port);
    host = xasprintf("--host=%s", m->host);
    f->state = FORWARD_CONNECTING;
    hold_or_release(f);
    begin_op(f, &f->op, on_done);
    f->running = true;
    f->stream =
        e2b_talk_start(app_of(f)->e2b, &f->op, f->sandbox_id,
                       (const char *[]){"dial", port, m->host[0] != '\0' ? host : NULL, NULL},
                       on_readable, &f->output);
    return true;
}

static bool take(struct forward *f, const Sandbox__V1__ForwardPortRequest *m, struct status *st)
{
    bool is_new = f->state == FORWARD_NEW;

    if (is_new != (m->message_case == SANDBOX__V1__FORWARD_PORT_REQUEST__MESSAGE_START))
        return status_bad_field(st, REASON(INVALID_FIELD), "start",
                                "start must come first, and only first");
    if (is_new)
        return take_start(f, m->start, st);
    if (m->message_case != SANDBOX__V1__FORWARD_PORT_REQUEST__MESSAGE_DATA)
        return status_bad_field(st, REASON(INVALID_FIELD), "message",
                                "the message says nothing: set start or data");
    if (m->data.len > DIAL_FRAME_MAX)
        return status_bad_field(st, REASON(INVALID_FIELD), "data",
                                "%zu bytes are too many at once; at most %d: send them in parts",
                                m->data.len, DIAL_FRAME_MAX);
    write_data(f, &m->data);
    return true;
}

static void on_message(void *state, const ProtobufCMessage *message)
{
    struct forward *f = state;

    if (f->state == FORWARD_OVER)
        return;
    if (message != NULL)
        take(f, (const Sandbox__V1__ForwardPortRequest *)message, &f->verdict);
    else if (f->state == FORWARD_NEW)
        status_bad_field(&f->verdict, REASON(INVALID_FIELD), "start",
                         "the stream ended without start");
    else
        write_end(f);
    step(f);
}

static void on_sent(void *state)
{
    step(state);
}

static void on_gone(void *state)
{
    struct forward *f = state;

    status_set(&f->verdict, call_end_reason(f->call), REASON(DEADLINE), "the caller went away");
    step(f);
}

/* What is open goes on while the pod lets it: it could not go on elsewhere. */
static void on_drain(void *state)
{
    struct forward *f = state;

    if (f->state == FORWARD_OPEN)
        return;
    leave_status(f->call, &f->verdict, "connect again");
    step(f);
}

static void destroy(void *state)
{
    struct forward *f = state;

    e2b_stream_free(f->stream);
    e2b_upload_free(f->in);
    buf_deinit(&f->address);
    free(f->block);
    free(f->output.out);
    free(f);
}

static const struct call_handler handler = {
    .on_sent = on_sent,
    .on_gone = on_gone,
    .on_drain = on_drain,
    .on_message = on_message,
    .destroy = destroy,
};

void forward_port_start(struct call *c, const ProtobufCMessage *none)
{
    struct forward *f = xcalloc(1, sizeof(*f));

    f->call = c;
    f->address = BUF_INIT(ADDRESS_MAX);
    f->heartbeat.run = on_heartbeat;
    f->beat.run = on_beat;
    f->grace.run = on_grace;
    call_set_handler(c, &handler, f);
    restart_heartbeat(f);
}
