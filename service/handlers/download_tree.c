/*
 * DownloadTree: a directory of any size from the sandbox to the client, as an archive that is made
 * here (tree_relay.h). Where the recorder's process ends before (they are let live for some
 * minutes), another one goes on behind the last byte; a client that lost its stream does the same
 * with a cursor. The sandbox waits while the client does not read. All on the call's worker.
 */
#include "common/base/cleanup.h"
#include "common/base/clock.h"
#include "common/base/list.h"
#include "common/base/mem.h"
#include "common/journal/pb.h"
#include "common/journal/verbs.h"
#include "sandbox/v1/errors.pb-c.h"
#include "sandbox/v1/trees.pb-c.h"
#include "service/app.h"
#include "service/config.h"
#include "service/handlers/excludes.h"
#include "service/handlers/file_call.h"
#include "service/handlers/files.h"
#include "service/handlers/leave.h"
#include "service/handlers/tree_relay.h"
#include "service/identity/caller.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REASON(name) SANDBOX__V1__ERROR_REASON__ERROR_REASON_##name

enum {
    DATA = 2, /* fields of DownloadTreeResponse */
    CURSOR = 4,
    HEADROOM = 1 + PB_VARINT_MAX,
    MESSAGE_MAX = HEADROOM + TREE_RELAY_OUT_MAX + 8 * 1024,
    CURSOR_MAX = 8 * 1024,
    RESTARTS_IN_VAIN = 3, /* without a byte between */
};

struct tree_download {
    struct call *call; /* borrowed: it owns this */
    struct e2b_op op;
    bool running;
    struct e2b_stream *stream; /* NULL: none */
    struct e2b_output output;
    struct call_timer heartbeat;
    struct status verdict; /* the client is gone, or what came is none of ours */
    bool finished;

    char sandbox_id[VALIDATE_ID_MAX + 1];
    char user[VALIDATE_USER_MAX + 1];
    char path[VALIDATE_PATH_MAX + 1];
    char **excludes; /* owned */
    size_t n_excludes;

    struct tree_relay relay;
    bool started; /* the client knows what will come */
    int in_vain;
    bool ended; /* op has; what it wrote is not all taken yet */
    struct {
        uint8_t *base; /* owned; NULL: none */
        size_t at, len;
    } block;        /* of the process's output */
    struct buf out; /* the next message's data, behind headroom */
    bool last;      /* that is the end of the archive */
    uint8_t sha256[32];
};

static void step(struct tree_download *d);
static void op_done(struct e2b_op *op);
static void on_readable(struct e2b_op *op);

static void finish(struct tree_download *d, const struct status *st)
{
    if (d->finished)
        return;
    d->finished = true;
    call_finish(d->call, st);
}

static void restart_heartbeat(struct tree_download *d)
{
    const struct app *app = call_app(d->call);

    call_timer_start(d->call, &d->heartbeat,
                     clock_monotonic_ns() + app->config->heartbeat_ms * NS_PER_MS);
}

static void send(struct tree_download *d, const Sandbox__V1__DownloadTreeResponse *m)
{
    call_send(d->call, &m->base);
    restart_heartbeat(d);
}

static void on_heartbeat(struct call_timer *timer)
{
    struct tree_download *d = container_of(timer, struct tree_download, heartbeat);
    Sandbox__V1__DownloadTreeResponse m = SANDBOX__V1__DOWNLOAD_TREE_RESPONSE__INIT;

    m.message_case = SANDBOX__V1__DOWNLOAD_TREE_RESPONSE__MESSAGE_DATA;
    if (d->started && call_can_send(d->call))
        send(d, &m);
    else
        restart_heartbeat(d); /* a client that does not read needs no sign of life */
}

/* --- the recorder's process --- */

static void start(struct tree_download *d)
{
    Recorder__V1__FileSpec spec = RECORDER__V1__FILE_SPEC__INIT;
    AUTO_FREE char *argument = NULL;

    spec.op = RECORDER__V1__FILE_SPEC__OP__OP_PACK;
    spec.user = d->user;
    spec.paths = (char *[]){d->path};
    spec.n_paths = 1;
    spec.excludes = d->excludes;
    spec.n_excludes = d->n_excludes;
    spec.place = (ProtobufCBinaryData){strlen(d->relay.path), (uint8_t *)d->relay.path};
    spec.after = d->relay.version;
    spec.offset = d->relay.offset;
    spec.tolerant = d->relay.at_end;
    argument = file_verb_argument(&spec); /* what is in it is capped so that it fits */
    d->op = (struct e2b_op){
        .executor = call_executor(d->call),
        .done = op_done,
        .caller = caller_of(d->call),
        .deadline_ns = call_deadline_ns(d->call),
    };
    d->running = true;
    d->ended = false;
    tree_relay_restart(&d->relay);
    call_ref(d->call);
    d->stream = e2b_stream_start(((const struct app *)call_app(d->call))->e2b, &d->op,
                                 d->sandbox_id, (const char *[]){"file", argument, NULL}, NULL, 0,
                                 on_readable, &d->output);
}

/* --- what goes out --- */

static void tell_start(struct tree_download *d)
{
    Sandbox__V1__DownloadTreeResponse m = SANDBOX__V1__DOWNLOAD_TREE_RESPONSE__INIT;
    Sandbox__V1__DownloadTreeStart begin = SANDBOX__V1__DOWNLOAD_TREE_START__INIT;

    begin.entry =
        sandbox__v1__file_entry__unpack(NULL, buf_len(&d->relay.head), buf_data(&d->relay.head));
    d->started = true;
    if (begin.entry == NULL || !message_is_text(&begin.entry->base)) {
        file_answer_corrupt(&d->verdict);
    } else {
        m.message_case = SANDBOX__V1__DOWNLOAD_TREE_RESPONSE__MESSAGE_START;
        m.start = &begin;
        send(d, &m);
    }
    if (begin.entry != NULL)
        sandbox__v1__file_entry__free_unpacked(begin.entry, NULL);
}

static void begin_message(struct tree_download *d)
{
    static const uint8_t headroom[HEADROOM];

    d->out = BUF_INIT(MESSAGE_MAX);
    buf_append(&d->out, headroom, HEADROOM);
}

static bool has_data(const struct tree_download *d)
{
    return buf_len(&d->out) > HEADROOM;
}

/* Without copying: the buffer becomes the call's. */
static void send_data(struct tree_download *d)
{
    size_t len = buf_len(&d->out) - HEADROOM, front_len;
    uint8_t front[HEADROOM], *end, *data, *base;

    tree_relay_add_cursor(&d->relay, &d->out, CURSOR);
    end = pb_put_varint(pb_put_tag(front, DATA, PB_BYTES), len);
    front_len = (size_t)(end - front);
    data = buf_data(&d->out) + HEADROOM - front_len;
    memcpy(data, front, front_len);
    len = buf_len(&d->out) - HEADROOM + front_len;
    base = TAKE(d->out.base);
    d->in_vain = 0;
    begin_message(d);
    call_send_bytes_take(d->call, base, data, len, false);
    restart_heartbeat(d);
}

static void tell_end(struct tree_download *d)
{
    Sandbox__V1__DownloadTreeResponse m = SANDBOX__V1__DOWNLOAD_TREE_RESPONSE__INIT;
    Sandbox__V1__DownloadTreeEnd end = SANDBOX__V1__DOWNLOAD_TREE_END__INIT;

    end.counts = &d->relay.counts;
    end.skipped = d->relay.skipped;
    end.n_skipped = d->relay.n_skipped;
    if (d->relay.sha256 != NULL)
        end.sha256 = (ProtobufCBinaryData){sizeof(d->sha256), d->sha256};
    m.message_case = SANDBOX__V1__DOWNLOAD_TREE_RESPONSE__MESSAGE_END;
    m.end = &end;
    call_send(d->call, &m.base);
    finish(d, &STATUS_INIT);
}

/* --- ends --- */

/* Whether another process can go on where this one ended. */
static bool can_go_on(struct tree_download *d)
{
    return d->op.st.code == CODE_UNAVAILABLE && d->started && d->in_vain++ < RESTARTS_IN_VAIN;
}

/* The process came to its end, and all that it wrote was taken and sent. */
static void conclude(struct tree_download *d)
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
    } else if (!tree_relay_finish(&d->relay, &d->out, d->sha256, &d->verdict)) {
        finish(d, &d->verdict);
    } else {
        d->last = true;
    }
}

/* Makes as much of the next message as is there. */
static void gather(struct tree_download *d)
{
    bool more = true;

    while (d->verdict.code == CODE_OK && more && buf_len(&d->out) < TREE_RELAY_FULL) {
        if (d->block.len > 0) {
            size_t n = tree_relay_feed(&d->relay, d->block.base + d->block.at, d->block.len,
                                       &d->out, &d->verdict);

            d->block.at += n;
            d->block.len -= n;
            continue;
        }
        free(TAKE(d->block.base));
        d->block.at = 0;
        more = d->stream != NULL && e2b_stream_take(d->stream, 0, &d->block.base, &d->block.len);
    }
}

/* Does all that is possible now. */
static void step(struct tree_download *d)
{
    while (d->verdict.code == CODE_OK && !d->finished && call_can_send(d->call)) {
        gather(d);
        if (d->verdict.code != CODE_OK)
            break;
        if (!d->started && d->relay.has_head)
            tell_start(d);
        else if (has_data(d))
            send_data(d);
        else if (d->last)
            tell_end(d);
        else if (d->ended && d->stream != NULL && d->block.len == 0)
            conclude(d);
        else
            break;
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
    step(container_of(op, struct tree_download, op));
}

static void op_done(struct e2b_op *op)
{
    struct tree_download *d = container_of(op, struct tree_download, op);
    struct call *c = d->call;

    d->running = false;
    d->ended = true;
    step(d);
    call_unref(c);
}

static void on_sent(void *state)
{
    step(state);
}

static void on_gone(void *state)
{
    struct tree_download *d = state;

    if (d->verdict.code == CODE_OK)
        status_set(&d->verdict, call_end_reason(d->call), REASON(DEADLINE), "the caller went away");
    step(d);
}

static void on_drain(void *state)
{
    struct tree_download *d = state;

    if (d->finished)
        return;
    if (d->verdict.code == CODE_OK)
        leave_status(d->call, &d->verdict, "go on with the last cursor");
    step(d);
}

static void destroy(void *state)
{
    struct tree_download *d = state;

    e2b_stream_free(d->stream);
    tree_relay_deinit(&d->relay);
    buf_deinit(&d->out);
    free_strings(d->excludes, d->n_excludes);
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

static bool check_request(const Sandbox__V1__DownloadTreeRequest *r, struct status *st)
{
    return validate_id("sandbox_id", r->sandbox_id, st) && validate_path("path", r->path, st) &&
           validate_user("user", r->user, st) &&
           excludes_check("excludes", r->excludes, r->n_excludes, st);
}

static bool take_cursor(struct tree_download *d, const ProtobufCBinaryData *cursor,
                        struct status *st)
{
    if (cursor->len == 0)
        return true;
    if (cursor->len <= CURSOR_MAX && tree_relay_set_cursor(&d->relay, cursor->data, cursor->len))
        return true;
    return status_bad_field(st, REASON(INVALID_FIELD), "cursor",
                            "cursor is not one that this method returned");
}

void download_tree_start(struct call *c, const ProtobufCMessage *message)
{
    const Sandbox__V1__DownloadTreeRequest *r = (const Sandbox__V1__DownloadTreeRequest *)message;
    struct status st = STATUS_INIT;
    struct tree_download *d;

    if (!check_request(r, &st)) {
        call_finish(c, &st);
        return;
    }
    d = xcalloc(1, sizeof(*d));
    d->call = c;
    d->heartbeat.run = on_heartbeat;
    snprintf(d->sandbox_id, sizeof(d->sandbox_id), "%s", r->sandbox_id);
    snprintf(d->path, sizeof(d->path), "%s", r->path);
    snprintf(d->user, sizeof(d->user), "%s", r->user);
    d->excludes = excludes_copy(r->excludes, r->n_excludes);
    d->n_excludes = r->n_excludes;
    tree_relay_init(&d->relay, r->max_bytes, r->max_entries);
    begin_message(d);
    call_set_handler(c, &handler, d);
    if (!take_cursor(d, &r->cursor, &st)) {
        finish(d, &st);
        return;
    }
    restart_heartbeat(d);
    start(d);
}
