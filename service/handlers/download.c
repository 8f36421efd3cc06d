/*
 * See download.h. Where the recorder's process ends before, another one goes on behind the last
 * byte. The sandbox waits while the client does not read: a block is only taken when a message can
 * be sent. All on the call's worker.
 */
#include "service/handlers/download.h"

#include "common/base/cleanup.h"
#include "common/base/clock.h"
#include "common/base/list.h"
#include "common/base/mem.h"
#include "common/journal/verbs.h"
#include "sandbox/v1/errors.pb-c.h"
#include "service/app.h"
#include "service/config.h"
#include "service/handlers/file_call.h"
#include "service/handlers/leave.h"
#include "service/identity/caller.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REASON(name) SANDBOX__V1__ERROR_REASON__ERROR_REASON_##name

enum {
    DATA = 2, /* field of every kind's response */
    RESTARTS_IN_VAIN = 3,
};

static void op_done(struct e2b_op *op);
static void on_readable(struct e2b_op *op);

static const struct app *app_of(const struct download *d)
{
    return call_app(d->call);
}

static void finish(struct download *d, const struct status *st)
{
    if (d->finished)
        return;
    d->finished = true;
    call_finish(d->call, st);
}

/* --- what goes out --- */

static void restart_heartbeat(struct download *d)
{
    call_timer_start(d->call, &d->heartbeat,
                     clock_monotonic_ns() + app_of(d)->config->heartbeat_ms * NS_PER_MS);
}

static void send_bytes(struct download *d, uint8_t *base, size_t at, size_t data_len, size_t len,
                       bool more)
{
    uint8_t front[DOWNLOAD_HEADROOM];
    uint8_t *end = pb_put_varint(pb_put_tag(front, DATA, PB_BYTES), data_len);
    size_t front_len = (size_t)(end - front);

    memcpy(base + at - front_len, front, front_len);
    call_send_bytes_take(d->call, base, base + at - front_len, front_len + len, more);
    restart_heartbeat(d);
}

/* No data is a sign of life. A client that does not read needs none. */
static void on_heartbeat(struct call_timer *timer)
{
    struct download *d = container_of(timer, struct download, heartbeat);

    if (d->started && call_can_send(d->call))
        send_bytes(d, xmalloc(DOWNLOAD_HEADROOM), DOWNLOAD_HEADROOM, 0, 0, false);
    else
        restart_heartbeat(d);
}

void download_send_start(struct download *d, const ProtobufCMessage *m)
{
    d->started = true;
    call_send(d->call, m);
    restart_heartbeat(d);
}

void download_send_data(struct download *d, uint8_t *base, size_t at, size_t data_len, size_t len,
                        bool more)
{
    d->in_vain = 0;
    send_bytes(d, base, at, data_len, len, more);
}

void download_send_end(struct download *d, const ProtobufCMessage *m)
{
    call_send(d->call, m);
    finish(d, &STATUS_INIT);
}

/* --- the recorder's process --- */

static void start(struct download *d)
{
    Recorder__V1__FileSpec spec = RECORDER__V1__FILE_SPEC__INIT;
    AUTO_FREE char *argument = NULL;

    spec.user = d->user;
    spec.paths = (char *[]){d->path};
    spec.n_paths = 1;
    d->kind->ask(d, &spec);
    argument = file_verb_argument(&spec); /* what is in it is capped so that it fits */
    d->op = (struct e2b_op){
        .executor = call_executor(d->call),
        .done = op_done,
        .caller = caller_of(d->call),
        .deadline_ns = call_deadline_ns(d->call),
    };
    d->running = true;
    call_ref(d->call);
    d->stream = e2b_stream_start(app_of(d)->e2b, &d->op, d->sandbox_id,
                                 (const char *[]){"file", argument, NULL}, NULL, 0, on_readable,
                                 &d->output);
}

bool download_has_block(struct download *d)
{
    if (d->block.len > 0)
        return true;
    free(TAKE(d->block.base));
    d->block.at = d->kind->headroom;
    return d->stream != NULL &&
           e2b_stream_take(d->stream, d->kind->headroom, &d->block.base, &d->block.len);
}

/* Whether another process can go on where this one ended. */
static bool can_go_on(struct download *d)
{
    if (d->op.st.code != CODE_UNAVAILABLE || !d->started || d->in_vain++ == RESTARTS_IN_VAIN)
        return false;
    return d->kind->can_go_on == NULL || d->kind->can_go_on(d);
}

/* The process came to its end, and all that it wrote was taken and sent, or is not wanted. */
static void conclude(struct download *d)
{
    struct status st = d->op.st;

    e2b_stream_free(d->stream);
    d->stream = NULL;
    if (d->verdict.code != CODE_OK) {
        finish(d, &d->verdict);
    } else if (can_go_on(d)) {
        start(d);
    } else if (st.code != CODE_OK) {
        finish(d, &st);
    } else if (d->output.exit_code != RECORDER_OK) {
        file_result(d->output.exit_code, d->output.err, &st);
        finish(d, &st);
    } else {
        d->kind->end(d);
    }
}

/* Does all that is possible now. */
static void step(struct download *d)
{
    while (d->verdict.code == CODE_OK && !d->finished && call_can_send(d->call)) {
        if (d->kind->send_next(d))
            continue;
        if (d->verdict.code != CODE_OK || d->running || d->stream == NULL)
            break;
        conclude(d);
    }
    if (d->verdict.code == CODE_OK)
        return;
    if (d->running)
        e2b_cancel(&d->op);
    else if (d->stream != NULL)
        conclude(d);
    else
        finish(d, &d->verdict);
}

/* --- what happens --- */

static void on_readable(struct e2b_op *op)
{
    step(container_of(op, struct download, op));
}

static void op_done(struct e2b_op *op)
{
    struct download *d = container_of(op, struct download, op);
    struct call *c = d->call;

    d->running = false;
    step(d);
    call_unref(c);
}

static void on_sent(void *state)
{
    step(state);
}

static void on_gone(void *state)
{
    struct download *d = state;

    if (d->verdict.code == CODE_OK)
        status_set(&d->verdict, call_end_reason(d->call), REASON(DEADLINE), "the caller went away");
    step(d);
}

static void on_drain(void *state)
{
    struct download *d = state;

    if (d->finished)
        return;
    if (d->verdict.code == CODE_OK)
        leave_status(d->call, &d->verdict, "%s", d->kind->go_on);
    step(d);
}

static void destroy(void *state)
{
    struct download *d = state;

    e2b_stream_free(d->stream);
    d->kind->destroy(d);
    free(d->block.base);
    free(d->output.out);
    free(d);
}

static const struct call_handler handler = {
    .on_sent = on_sent,
    .on_gone = on_gone,
    .on_drain = on_drain,
    .destroy = destroy,
};

bool download_read(struct download *d, const char *sandbox_id, const char *path, const char *user,
                   struct status *st)
{
    if (!validate_id("sandbox_id", sandbox_id, st) || !validate_path("path", path, st) ||
        !validate_user("user", user, st))
        return false;
    snprintf(d->sandbox_id, sizeof(d->sandbox_id), "%s", sandbox_id);
    snprintf(d->path, sizeof(d->path), "%s", path);
    snprintf(d->user, sizeof(d->user), "%s", user);
    return true;
}

void download_begin(struct download *d, const struct download_kind *kind, struct call *c)
{
    d->kind = kind;
    d->call = c;
    d->heartbeat.run = on_heartbeat;
    call_set_handler(c, &handler, d);
    restart_heartbeat(d);
    start(d);
}
