/*
 * UploadFile: a file of any size from the client to the sandbox. Its bytes go straight into a
 * hidden file beside the path, as they come; each stream that goes on after a cut makes another
 * one, and the recorder puts them together at the commit. So no pod remembers anything. The client
 * is held while E2B takes nothing. All on the call's worker.
 */
#include "common/base/cleanup.h"
#include "common/base/list.h"
#include "common/base/mem.h"
#include "common/journal/verbs.h"
#include "sandbox/v1/errors.pb-c.h"
#include "sandbox/v1/files.pb-c.h"
#include "service/app.h"
#include "service/handlers/file_call.h"
#include "service/handlers/files.h"
#include "service/handlers/leave.h"
#include "service/identity/caller.h"

#include <inttypes.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REASON(name) SANDBOX__V1__ERROR_REASON__ERROR_REASON_##name

enum { MODE_MAX = 07777, SHA256_LEN = 32, STAGED_MAX = VALIDATE_PATH_MAX + 128 };

enum upload_state {
    UPLOAD_NEW,       /* the client has not said what it is */
    UPLOAD_RECEIVING, /* bytes come and go */
    UPLOAD_ENDING,    /* all that came is on its way */
    UPLOAD_ASKING,    /* the recorder counts, or commits */
    UPLOAD_OVER,
};

struct upload {
    struct call *call; /* borrowed: it owns this */
    enum upload_state state;
    struct e2b_op op;
    bool running;           /* op is */
    struct e2b_upload *out; /* NULL: nothing is to be sent (yet) */
    struct e2b_output output;
    bool held;
    struct status verdict; /* what the call ends with when op has ended; OK: go on */

    char sandbox_id[VALIDATE_ID_MAX + 1];
    char user[VALIDATE_USER_MAX + 1];
    char path[VALIDATE_PATH_MAX + 1];
    char staged[STAGED_MAX]; /* how the names of the parts begin */
    uint64_t offset;

    bool committing;
    uint64_t size;
    uint32_t mode;
    bool create_only, conditional; /* if_sha256 is set */
    uint8_t sha256[SHA256_LEN], if_sha256[SHA256_LEN];
};

static void op_done(struct e2b_op *op);

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
    if (u->committing) {
        content.size = u->size;
        content.mode = u->mode;
        content.sha256 = (ProtobufCBinaryData){SHA256_LEN, u->sha256};
        content.create_only = u->create_only;
        if (u->conditional)
            content.if_sha256 = (ProtobufCBinaryData){SHA256_LEN, u->if_sha256};
    }
    spec.op = u->committing ? RECORDER__V1__FILE_SPEC__OP__OP_ASSEMBLE
                            : RECORDER__V1__FILE_SPEC__OP__OP_UPLOADED;
    spec.user = u->user;
    spec.contents = (Recorder__V1__FileContent *[]){&content};
    spec.n_contents = 1;
    argument = file_verb_argument(&spec); /* two paths always fit */
    enter(u, UPLOAD_ASKING);
    begin_op(u);
    e2b_long_verb(e2b_of(u), &u->op, u->sandbox_id, (const char *[]){"file", argument, NULL}, true,
                  &u->output);
}

static void answer(struct upload *u)
{
    Sandbox__V1__UploadFileResponse *m =
        sandbox__v1__upload_file_response__unpack(NULL, u->output.out_len, u->output.out);
    int exit_code = u->output.exit_code;
    struct status st;

    if (exit_code != RECORDER_OK) {
        file_result(exit_code, u->output.err, &st);
        if (exit_code == RECORDER_UPLOAD_GAP && m != NULL)
            status_detail(&st, "expected_offset", "%" PRIu64, m->received_size);
        finish(u, &st);
    } else if (m == NULL || !message_is_text(&m->base) || m->committed != u->committing) {
        file_answer_corrupt(&st);
        finish(u, &st);
    } else {
        enter(u, UPLOAD_OVER);
        call_reply(u->call, &m->base);
    }
    if (m != NULL)
        sandbox__v1__upload_file_response__free_unpacked(m, NULL);
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
    const char *slash = strrchr(m->path, '/');
    int dir = slash != NULL ? (int)(slash + 1 - m->path) : 0;

    if (!validate_id("start.sandbox_id", m->sandbox_id, st) ||
        !validate_path("start.path", m->path, st) ||
        !validate_id("start.upload_id", m->upload_id, st) ||
        !validate_user("start.user", m->user, st))
        return false;
    if (m->path[strlen(m->path) - 1] == '/')
        return status_bad_field(st, REASON(INVALID_FIELD), "start.path",
                                "start.path names a directory");
    if (m->offset > INT64_MAX)
        return status_bad_field(st, REASON(INVALID_FIELD), "start.offset",
                                "start.offset is too large");
    snprintf(u->sandbox_id, sizeof(u->sandbox_id), "%s", m->sandbox_id);
    snprintf(u->user, sizeof(u->user), "%s", m->user);
    snprintf(u->path, sizeof(u->path), "%s", m->path);
    snprintf(u->staged, sizeof(u->staged), "%.*s.sandboxd-upload-%s-", dir, m->path, m->upload_id);
    u->offset = m->offset;
    enter(u, UPLOAD_RECEIVING);
    return true;
}

static bool take_commit(struct upload *u, const Sandbox__V1__UploadCommit *m, struct status *st)
{
    if (m->sha256.len != SHA256_LEN)
        return status_bad_field(st, REASON(INVALID_FIELD), "commit.sha256",
                                "commit.sha256 has %zu bytes: SHA-256 has %d", m->sha256.len,
                                SHA256_LEN);
    if (m->if_sha256.len != 0 && m->if_sha256.len != SHA256_LEN)
        return status_bad_field(st, REASON(INVALID_FIELD), "commit.if_sha256",
                                "commit.if_sha256 has %zu bytes: SHA-256 has %d", m->if_sha256.len,
                                SHA256_LEN);
    if (m->mode > MODE_MAX)
        return status_bad_field(st, REASON(INVALID_FIELD), "commit.mode",
                                "commit.mode is %o (octal): at most %o", m->mode, MODE_MAX);
    u->committing = true;
    u->size = m->size;
    u->mode = m->mode;
    u->create_only = m->create_only;
    u->conditional = m->if_sha256.len > 0;
    memcpy(u->sha256, m->sha256.data, SHA256_LEN);
    if (u->conditional)
        memcpy(u->if_sha256, m->if_sha256.data, SHA256_LEN);
    end(u);
    return true;
}

static bool take(struct upload *u, const Sandbox__V1__UploadFileRequest *m, struct status *st)
{
    bool is_new = u->state == UPLOAD_NEW;

    if (is_new != (m->message_case == SANDBOX__V1__UPLOAD_FILE_REQUEST__MESSAGE_START))
        return status_bad_field(st, REASON(INVALID_FIELD), "start",
                                "start must come first, and only first");
    switch (m->message_case) {
    case SANDBOX__V1__UPLOAD_FILE_REQUEST__MESSAGE_START:
        return take_start(u, m->start, st);
    case SANDBOX__V1__UPLOAD_FILE_REQUEST__MESSAGE_DATA:
        send(u, &m->data);
        return true;
    case SANDBOX__V1__UPLOAD_FILE_REQUEST__MESSAGE_COMMIT:
        return take_commit(u, m->commit, st);
    default:
        return status_bad_field(st, REASON(INVALID_FIELD), "message",
                                "the message says nothing: set start, data or commit");
    }
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
        else if (!take(u, (const Sandbox__V1__UploadFileRequest *)message, &st))
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
    free(u);
}

static const struct call_handler handler = {
    .on_gone = on_gone,
    .on_drain = on_drain,
    .on_message = on_message,
    .destroy = destroy,
};

void upload_file_start(struct call *c, const ProtobufCMessage *none)
{
    struct upload *u = xcalloc(1, sizeof(*u));

    u->call = c;
    call_set_handler(c, &handler, u);
}
