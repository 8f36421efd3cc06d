/*
 * See upload.h. The bytes go straight into a hidden file beside the path, as they come; each stream
 * that goes on after a cut makes another one, and the recorder puts them together at the commit. So
 * no pod remembers anything. The client is held while E2B takes nothing. All on the call's worker.
 */
#include "service/handlers/upload.h"

#include "common/base/cleanup.h"
#include "common/base/list.h"
#include "common/base/mem.h"
#include "common/journal/verbs.h"
#include "sandbox/v1/errors.pb-c.h"
#include "service/app.h"
#include "service/handlers/file_call.h"
#include "service/handlers/leave.h"
#include "service/identity/caller.h"

#include <inttypes.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REASON(name) SANDBOX__V1__ERROR_REASON__ERROR_REASON_##name

/* Fields that the messages of all kinds have. */
enum {
    REQUEST_START = 1, /* one of these three */
    REQUEST_DATA = 2,
    REQUEST_COMMIT = 3,
    COMMIT_SIZE = 1,
    COMMIT_SHA256 = 2,
    RESPONSE_RECEIVED_SIZE = 1,
    RESPONSE_COMMITTED = 2,
};

static void op_done(struct e2b_op *op);

/* A field of a message; NULL: it is one of several, and another is set. */
static const void *field(const ProtobufCMessage *m, unsigned number)
{
    const ProtobufCFieldDescriptor *f =
        protobuf_c_message_descriptor_get_field(m->descriptor, number);
    const char *at = (const char *)m;

    if ((f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0 &&
        *(const uint32_t *)(at + f->quantifier_offset) != number)
        return NULL;
    return at + f->offset;
}

static struct e2b *e2b_of(const struct upload *u)
{
    return ((const struct app *)call_app(u->call))->e2b;
}

static void enter(struct upload *u, enum upload_state state)
{
    u->state = state;
}

static void finish(struct upload *u, const struct status *st)
{
    if (u->state == UPLOAD_OVER)
        return;
    enter(u, UPLOAD_OVER);
    call_finish(u->call, st);
}

/* Ends the call, with this verdict, as soon as nothing of it runs. */
static void fail(struct upload *u, const struct status *st)
{
    if (!u->running) {
        finish(u, st);
        return;
    }
    if (u->verdict.code == CODE_OK)
        u->verdict = *st;
    e2b_cancel(&u->op);
}

static void begin_op(struct upload *u)
{
    u->op = (struct e2b_op){
        .executor = call_executor(u->call),
        .done = op_done,
        .caller = caller_of(u->call),
        .deadline_ns = call_deadline_ns(u->call),
    };
    u->running = true;
    call_ref(u->call);
}

/* --- asking the recorder --- */

static void ask(struct upload *u)
{
    Recorder__V1__FileSpec spec = RECORDER__V1__FILE_SPEC__INIT;
    Recorder__V1__FileContent content = RECORDER__V1__FILE_CONTENT__INIT;
    AUTO_FREE char *argument = NULL;

    content.path = u->path;
    content.staged = u->staged;
    spec.op = RECORDER__V1__FILE_SPEC__OP__OP_UPLOADED;
    spec.user = u->user;
    spec.contents = (Recorder__V1__FileContent *[]){&content};
    spec.n_contents = 1;
    if (u->committing) {
        content.size = u->size;
        content.sha256 = (ProtobufCBinaryData){UPLOAD_SHA256_LEN, u->sha256};
        u->kind->commit(u, &spec, &content);
    }
    argument = file_verb_argument(&spec); /* two paths, and what else is capped, always fit */
    enter(u, UPLOAD_ASKING);
    begin_op(u);
    e2b_long_verb(e2b_of(u), &u->op, u->sandbox_id, (const char *[]){"file", argument, NULL}, true,
                  &u->output);
}

static void answer(struct upload *u)
{
    ProtobufCMessage *m =
        protobuf_c_message_unpack(u->kind->response, NULL, u->output.out_len, u->output.out);
    int exit_code = u->output.exit_code;
    uint64_t received = 0;
    bool committed = false;
    struct status st;

    if (m != NULL) {
        received = *(const uint64_t *)field(m, RESPONSE_RECEIVED_SIZE);
        committed = *(const protobuf_c_boolean *)field(m, RESPONSE_COMMITTED);
    }
    if (exit_code != RECORDER_OK) {
        file_result(exit_code, u->output.err, &st);
        if (exit_code == RECORDER_UPLOAD_GAP && m != NULL)
            status_detail(&st, "expected_offset", "%" PRIu64, received);
        finish(u, &st);
    } else if (m == NULL || !message_is_text(m) || committed != u->committing) {
        file_answer_corrupt(&st);
        finish(u, &st);
    } else {
        enter(u, UPLOAD_OVER);
        call_reply(u->call, m);
    }
    if (m != NULL)
        protobuf_c_message_free_unpacked(m, NULL);
}

/* --- sending --- */

static void release_client(struct upload *u)
{
    if (!u->held)
        return;
    u->held = false;
    call_release(u->call);
}

static void on_writable(struct e2b_op *op)
{
    struct upload *u = container_of(op, struct upload, op);

    if (u->state == UPLOAD_RECEIVING)
        release_client(u);
}

static void send(struct upload *u, const ProtobufCBinaryData *data)
{
    AUTO_FREE char *part = NULL;
    uint64_t random;

    if (data->len == 0)
        return;
    if (u->out == NULL) {
        RAND_bytes((unsigned char *)&random, sizeof(random));
        part = xasprintf("%s%" PRIu64 "-%016" PRIx64, u->staged, u->offset, random);
        begin_op(u);
        u->out = e2b_upload_start(e2b_of(u), &u->op, u->sandbox_id, u->user, part, on_writable);
    }
    e2b_upload_write(u->out, data->data, data->len);
    if (e2b_upload_is_full(u->out)) {
        u->held = true;
        call_hold(u->call);
    }
}

/* No more will come. */
static void end(struct upload *u)
{
    if (u->out == NULL) {
        ask(u);
        return;
    }
    enter(u, UPLOAD_ENDING);
    e2b_upload_end(u->out);
}

/* --- what happens --- */

static void sending_ended(struct upload *u)
{
    struct status st = u->op.st;

    e2b_upload_free(u->out);
    u->out = NULL;
    if (u->verdict.code != CODE_OK)
        st = u->verdict;
    else if (st.code == CODE_OK && u->state != UPLOAD_ENDING)
        status_set(&st, CODE_UNAVAILABLE, REASON(E2B_UNAVAILABLE),
                   "E2B answered before the file was whole");
    if (st.code == CODE_OK)
        ask(u);
    else
        finish(u, &st);
}

static void op_done(struct e2b_op *op)
{
    struct upload *u = container_of(op, struct upload, op);
    struct call *c = u->call;

    u->running = false;
    if (u->out != NULL)
        sending_ended(u);
    else if (u->verdict.code != CODE_OK)
        finish(u, &u->verdict);
    else if (op->st.code != CODE_OK)
        finish(u, &op->st);
    else
        answer(u);
    call_unref(c);
}

static bool take_start(struct upload *u, const Sandbox__V1__UploadStart *m, struct status *st)
{
    size_t len = strlen(m->path);
    const char *slash;
    int dir;

    if (!validate_id("start.sandbox_id", m->sandbox_id, st) ||
        !validate_path("start.path", m->path, st) ||
        !validate_id("start.upload_id", m->upload_id, st) ||
        !validate_user("start.user", m->user, st))
        return false;
    while (u->kind->is_directory && len > 1 && m->path[len - 1] == '/')
        len--;
    if (!u->kind->is_directory && m->path[len - 1] == '/')
        return status_bad_field(st, REASON(INVALID_FIELD), "start.path",
                                "start.path names a directory");
    if (m->offset > INT64_MAX)
        return status_bad_field(st, REASON(INVALID_FIELD), "start.offset",
                                "start.offset is too large");
    snprintf(u->sandbox_id, sizeof(u->sandbox_id), "%s", m->sandbox_id);
    snprintf(u->user, sizeof(u->user), "%s", m->user);
    snprintf(u->path, sizeof(u->path), "%.*s", (int)len, m->path);
    slash = strrchr(u->path, '/');
    dir = slash != NULL ? (int)(slash + 1 - u->path) : 0;
    snprintf(u->staged, sizeof(u->staged), "%.*s.sandboxd-upload-%s-", dir, m->path, m->upload_id);
    u->offset = m->offset;
    enter(u, UPLOAD_RECEIVING);
    return true;
}

static bool take_commit(struct upload *u, const ProtobufCMessage *m, struct status *st)
{
    const ProtobufCBinaryData *sha256 = field(m, COMMIT_SHA256);

    if (sha256->len != UPLOAD_SHA256_LEN)
        return status_bad_field(st, REASON(INVALID_FIELD), "commit.sha256",
                                "commit.sha256 has %zu bytes: SHA-256 has %d", sha256->len,
                                UPLOAD_SHA256_LEN);
    if (!u->kind->take_commit(u, m, st))
        return false;
    u->committing = true;
    u->size = *(const uint64_t *)field(m, COMMIT_SIZE);
    memcpy(u->sha256, sha256->data, UPLOAD_SHA256_LEN);
    end(u);
    return true;
}

static bool take(struct upload *u, const ProtobufCMessage *m, struct status *st)
{
    const Sandbox__V1__UploadStart *const *start = field(m, REQUEST_START);
    const ProtobufCBinaryData *data = field(m, REQUEST_DATA);
    const ProtobufCMessage *const *commit = field(m, REQUEST_COMMIT);

    if ((u->state == UPLOAD_NEW) != (start != NULL))
        return status_bad_field(st, REASON(INVALID_FIELD), "start",
                                "start must come first, and only first");
    if (start != NULL)
        return take_start(u, *start, st);
    if (commit != NULL)
        return take_commit(u, *commit, st);
    if (data == NULL)
        return status_bad_field(st, REASON(INVALID_FIELD), "message",
                                "the message says nothing: set start, data or commit");
    send(u, data);
    return true;
}

static void on_message(void *state, const ProtobufCMessage *message)
{
    struct upload *u = state;
    struct status st = STATUS_INIT;

    if (u->verdict.code != CODE_OK)
        return;
    if (u->state == UPLOAD_NEW && message == NULL) {
        status_bad_field(&st, REASON(INVALID_FIELD), "start", "the stream ended without start");
        fail(u, &st);
    } else if (u->state == UPLOAD_NEW || u->state == UPLOAD_RECEIVING) {
        if (message == NULL)
            end(u);
        else if (!take(u, message, &st))
            fail(u, &st);
    } else if (message != NULL && u->state != UPLOAD_OVER) {
        status_bad_field(&st, REASON(INVALID_FIELD), "message", "commit must be the last message");
        fail(u, &st);
    }
}

/* What came stays, as far as E2B has it. */
static void on_gone(void *state)
{
    struct upload *u = state;
    struct status st;

    status_set(&st, call_end_reason(u->call), REASON(DEADLINE), "the caller went away");
    fail(u, &st);
}

/* A commit goes on to its end; bytes can go on in another call. */
static void on_drain(void *state)
{
    struct upload *u = state;
    struct status st;

    if (u->state != UPLOAD_NEW && u->state != UPLOAD_RECEIVING)
        return;
    leave_status(u->call, &st, "go on with the next byte in another call");
    if (u->out == NULL) {
        finish(u, &st);
        return;
    }
    u->verdict = st;
    end(u);
}

static void destroy(void *state)
{
    struct upload *u = state;

    free(u->output.out);
    if (u->kind->destroy != NULL)
        u->kind->destroy(u);
    free(u);
}

static const struct call_handler handler = {
    .on_gone = on_gone,
    .on_drain = on_drain,
    .on_message = on_message,
    .destroy = destroy,
};

void upload_begin(struct upload *u, const struct upload_kind *kind, struct call *c)
{
    u->kind = kind;
    u->call = c;
    call_set_handler(c, &handler, u);
}
