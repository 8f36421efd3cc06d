/*
 * DownloadFile: a file of any size from the sandbox to the client. The recorder says how much will
 * come and then writes just that, so blocks are passed on as they are. Where its process ends
 * before (they are let live for some minutes), another one goes on behind the last byte, if it is
 * still the same file. The sandbox waits while the client does not read. All on the call's worker.
 */
#include "common/base/cleanup.h"
#include "common/base/clock.h"
#include "common/base/list.h"
#include "common/base/mem.h"
#include "common/journal/pb.h"
#include "common/journal/verbs.h"
#include "sandbox/v1/errors.pb-c.h"
#include "sandbox/v1/files.pb-c.h"
#include "service/app.h"
#include "service/config.h"
#include "service/handlers/file_call.h"
#include "service/handlers/files.h"
#include "service/handlers/leave.h"
#include "service/identity/caller.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REASON(name) SANDBOX__V1__ERROR_REASON__ERROR_REASON_##name

enum {
    DATA = 2, /* field of DownloadFileResponse */
    HEADROOM = 1 + PB_VARINT_MAX,
    HEAD_MAX = 128 * 1024,
    END_MAX = 1024,
    LENGTH_SIZE = 4,
    VERSION_MAX = 256,
    RESTARTS_IN_VAIN = 3, /* without a byte between */
};

struct download {
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
    char version[VERSION_MAX + 1]; /* asked for, then found */
    uint64_t offset;               /* of the next byte */
    uint64_t length; /* how many are wanted; 0: all. Then how many are still to come */
    bool with_sha256, to_the_end;

    bool started; /* the client knows what will come */
    int in_vain;
    /* Of this process: */
    bool ended;      /* op has; what it wrote is not all taken yet */
    bool has_head;   /* it was read */
    struct buf text; /* what is no content: the head, later the end */
    struct {
        uint8_t *base; /* owned; NULL: none */
        size_t at, len;
    } pending; /* content that came with the head, which is in flight */
};

static void step(struct download *d);
static void op_done(struct e2b_op *op);
static void on_readable(struct e2b_op *op);

static void finish(struct download *d, const struct status *st)
{
    if (d->finished)
        return;
    d->finished = true;
    call_finish(d->call, st);
}

static void corrupt(struct download *d)
{
    file_answer_corrupt(&d->verdict);
}

static void restart_heartbeat(struct download *d)
{
    const struct app *app = call_app(d->call);

    call_timer_start(d->call, &d->heartbeat,
                     clock_monotonic_ns() + app->config->heartbeat_ms * NS_PER_MS);
}

static void send(struct download *d, const Sandbox__V1__DownloadFileResponse *m)
{
    call_send(d->call, &m->base);
    restart_heartbeat(d);
}

static void on_heartbeat(struct call_timer *timer)
{
    struct download *d = container_of(timer, struct download, heartbeat);
    Sandbox__V1__DownloadFileResponse m = SANDBOX__V1__DOWNLOAD_FILE_RESPONSE__INIT;

    m.message_case = SANDBOX__V1__DOWNLOAD_FILE_RESPONSE__MESSAGE_DATA;
    if (d->started && call_can_send(d->call))
        send(d, &m);
    else
        restart_heartbeat(d); /* a client that does not read needs no sign of life */
}

/* --- the recorder's process --- */

static void start(struct download *d)
{
    Recorder__V1__FileSpec spec = RECORDER__V1__FILE_SPEC__INIT;
    AUTO_FREE char *argument = NULL;

    spec.op = RECORDER__V1__FILE_SPEC__OP__OP_DOWNLOAD;
    spec.user = d->user;
    spec.paths = (char *[]){d->path};
    spec.n_paths = 1;
    spec.after = d->version;
    spec.offset = d->offset;
    spec.limit = d->length;
    spec.with_sha256 = d->with_sha256;
    argument = file_verb_argument(&spec); /* a path always fits */
    d->op = (struct e2b_op){
        .executor = call_executor(d->call),
        .done = op_done,
        .caller = caller_of(d->call),
        .deadline_ns = call_deadline_ns(d->call),
    };
    d->running = true;
    d->ended = d->has_head = false;
    buf_clear(&d->text);
    call_ref(d->call);
    d->stream = e2b_stream_start(((const struct app *)call_app(d->call))->e2b, &d->op,
                                 d->sandbox_id, (const char *[]){"file", argument, NULL}, NULL, 0,
                                 on_readable, &d->output);
}

/* --- what it wrote --- */

static void tell_start(struct download *d, const Recorder__V1__DownloadHead *head)
{
    Sandbox__V1__DownloadFileResponse m = SANDBOX__V1__DOWNLOAD_FILE_RESPONSE__INIT;
    Sandbox__V1__DownloadStart begin = SANDBOX__V1__DOWNLOAD_START__INIT;
    Sandbox__V1__FileEntry *entry =
        sandbox__v1__file_entry__unpack(NULL, head->entry.len, head->entry.data);

    if (entry == NULL || !message_is_text(&entry->base)) {
        corrupt(d);
    } else {
        begin.entry = entry;
        begin.version = head->version;
        begin.length = head->length;
        m.message_case = SANDBOX__V1__DOWNLOAD_FILE_RESPONSE__MESSAGE_START;
        m.start = &begin;
        send(d, &m);
    }
    if (entry != NULL)
        sandbox__v1__file_entry__free_unpacked(entry, NULL);
}

static void take_head(struct download *d, const uint8_t *data, size_t len)
{
    Recorder__V1__DownloadHead *head = recorder__v1__download_head__unpack(NULL, len, data);
    bool ok = head != NULL && message_is_text(&head->base) &&
              strlen(head->version) <= VERSION_MAX && head->version[0] != '\0';

    /* Asked to go on with this version, it cannot have another length in mind. */
    ok = ok && (!d->started || (head->length == d->length && !strcmp(head->version, d->version)));
    if (!ok) {
        corrupt(d);
    } else {
        d->has_head = true;
        d->length = head->length;
        snprintf(d->version, sizeof(d->version), "%s", head->version);
        if (!d->started)
            tell_start(d, head);
        d->started = true;
    }
    if (head != NULL)
        recorder__v1__download_head__free_unpacked(head, NULL);
}

/* Gathers what is no content. Returns how many of the bytes that took. */
static size_t take_text(struct download *d, const uint8_t *data, size_t len, size_t wanted)
{
    size_t have = buf_len(&d->text);
    size_t n = wanted - have < len ? wanted - have : len;

    if (!buf_append(&d->text, data, n))
        corrupt(d);
    return n;
}

/* Bytes in front of the content; returns how many. A message may be in flight afterwards. */
static size_t take_front(struct download *d, const uint8_t *data, size_t len)
{
    const uint8_t *size = NULL;
    size_t n = 0, head_len;

    if (buf_len(&d->text) < LENGTH_SIZE)
        n = take_text(d, data, len, LENGTH_SIZE);
    if (buf_len(&d->text) < LENGTH_SIZE)
        return n;
    size = buf_data(&d->text);
    head_len = (size_t)size[0] << 24 | (size_t)size[1] << 16 | (size_t)size[2] << 8 | size[3];
    if (head_len > HEAD_MAX) {
        corrupt(d);
        return n;
    }
    n += take_text(d, data + n, len - n, LENGTH_SIZE + head_len);
    if (buf_len(&d->text) == LENGTH_SIZE + head_len && d->verdict.code == CODE_OK) {
        take_head(d, buf_data(&d->text) + LENGTH_SIZE, head_len);
        buf_clear(&d->text);
    }
    return n;
}

/* Sends content without copying: base becomes the call's. It starts at `at`, behind the headroom.
 */
static void pass_take(struct download *d, uint8_t *base, size_t at, size_t len)
{
    uint8_t front[HEADROOM];
    uint8_t *end = pb_put_varint(pb_put_tag(front, DATA, PB_BYTES), len);
    size_t front_len = (size_t)(end - front);

    memcpy(base + at - front_len, front, front_len);
    d->offset += len;
    d->length -= len;
    d->in_vain = 0;
    call_send_bytes_take(d->call, base, base + at - front_len, front_len + len, d->length > 0);
    restart_heartbeat(d);
}

/* One block of the process's output. */
static void take_block(struct download *d, uint8_t *base, size_t len)
{
    size_t at = HEADROOM, content = 0;

    if (!d->has_head)
        at += take_front(d, base + at, len);
    len -= at - HEADROOM;
    if (d->verdict.code == CODE_OK && d->has_head) {
        content = len < d->length ? len : (size_t)d->length;
        if (take_text(d, base + at + content, len - content, END_MAX) != len - content)
            corrupt(d);
    }
    if (content == 0 || d->verdict.code != CODE_OK) {
        free(base);
        return;
    }
    if (call_can_send(d->call)) {
        pass_take(d, base, at, content);
        return;
    }
    /* The start is in flight: what came with it goes after it. */
    d->pending.base = base;
    d->pending.at = at;
    d->pending.len = content;
}

/* --- ends --- */

static void tell_end(struct download *d)
{
    Sandbox__V1__DownloadFileResponse m = SANDBOX__V1__DOWNLOAD_FILE_RESPONSE__INIT;
    Sandbox__V1__DownloadEnd *end =
        sandbox__v1__download_end__unpack(NULL, buf_len(&d->text), buf_data(&d->text));

    if (end == NULL) {
        corrupt(d);
        finish(d, &d->verdict);
        return;
    }
    m.message_case = SANDBOX__V1__DOWNLOAD_FILE_RESPONSE__MESSAGE_END;
    m.end = end;
    call_send(d->call, &m.base);
    finish(d, &STATUS_INIT);
    sandbox__v1__download_end__free_unpacked(end, NULL);
}

/* Whether another process can go on where this one ended. */
static bool can_go_on(struct download *d)
{
    if (d->op.st.code != CODE_UNAVAILABLE || !d->started || d->in_vain++ == RESTARTS_IN_VAIN)
        return false;
    return d->length > 0 || d->to_the_end; /* nothing is left: only there it is said by 0 */
}

/* The process came to its end, and all that it wrote was taken. */
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
    } else if (!d->has_head || d->length > 0) {
        corrupt(d);
        finish(d, &d->verdict);
    } else {
        tell_end(d);
    }
}

/* Does all that is possible now. */
static void step(struct download *d)
{
    bool empty = false;

    while (d->verdict.code == CODE_OK && !empty && call_can_send(d->call)) {
        uint8_t *base;
        size_t len;

        if (d->pending.base != NULL)
            pass_take(d, TAKE(d->pending.base), d->pending.at, d->pending.len);
        else if (d->stream != NULL && e2b_stream_take(d->stream, HEADROOM, &base, &len))
            take_block(d, base, len);
        else
            empty = true;
    }
    if (d->verdict.code != CODE_OK && d->running)
        e2b_cancel(&d->op);
    if (d->ended && d->stream != NULL && (empty || d->verdict.code != CODE_OK))
        conclude(d);
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
    struct download *d = state;

    status_set(&d->verdict, call_end_reason(d->call), REASON(DEADLINE), "the caller went away");
    step(d);
}

static void on_drain(void *state)
{
    struct download *d = state;

    if (d->verdict.code == CODE_OK)
        leave_status(d->call, &d->verdict, "go on behind the last byte");
    step(d);
}

static void destroy(void *state)
{
    struct download *d = state;

    e2b_stream_free(d->stream);
    buf_deinit(&d->text);
    free(d->pending.base);
    free(d->output.out);
    free(d);
}

static const struct call_handler handler = {
    .on_sent = on_sent,
    .on_gone = on_gone,
    .on_drain = on_drain,
    .destroy = destroy,
};

static bool read_request(struct download *d, const Sandbox__V1__DownloadFileRequest *r,
                         struct status *st)
{
    if (!validate_id("sandbox_id", r->sandbox_id, st) || !validate_path("path", r->path, st) ||
        !validate_user("user", r->user, st))
        return false;
    if (r->offset > INT64_MAX)
        return status_bad_field(st, REASON(INVALID_FIELD), "offset", "offset is too large");
    if (strlen(r->if_version) > VERSION_MAX)
        return status_bad_field(st, REASON(INVALID_FIELD), "if_version",
                                "if_version is not one that this method returned");
    snprintf(d->sandbox_id, sizeof(d->sandbox_id), "%s", r->sandbox_id);
    snprintf(d->path, sizeof(d->path), "%s", r->path);
    snprintf(d->user, sizeof(d->user), "%s", r->user);
    snprintf(d->version, sizeof(d->version), "%s", r->if_version);
    d->offset = r->offset;
    d->length = r->length;
    d->to_the_end = r->length == 0;
    d->with_sha256 = r->with_sha256;
    return true;
}

void download_file_start(struct call *c, const ProtobufCMessage *message)
{
    struct download *d = xcalloc(1, sizeof(*d));
    struct status st = STATUS_INIT;

    if (!read_request(d, (const Sandbox__V1__DownloadFileRequest *)message, &st)) {
        free(d);
        call_finish(c, &st);
        return;
    }
    d->call = c;
    d->text = BUF_INIT(LENGTH_SIZE + HEAD_MAX);
    d->heartbeat.run = on_heartbeat;
    call_set_handler(c, &handler, d);
    restart_heartbeat(d);
    start(d);
}
