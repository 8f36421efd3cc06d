/*
 * The calls that the recorder carries out, against a client and a recorder made by hand: what goes
 * out, and what becomes of every answer, also of those that no recorder of ours would give.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/base/base64.h"
#include "common/base/cleanup.h"
#include "common/base/mem.h"
#include "common/journal/verbs.h"
#include "recorder/v1/recorder.pb-c.h"
#include "sandbox/v1/errors.pb-c.h"
#include "sandbox/v1/files.pb-c.h"
#include "service/app.h"
#include "service/config.h"
#include "service/e2b/e2b.h"
#include "service/handlers/file_call.h"
#include "service/handlers/files.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REASON(name) SANDBOX__V1__ERROR_REASON__ERROR_REASON_##name

/* --- the client's side --- */

struct call {
    struct app app;
    const struct call_handler *handler;
    void *state;
    bool finished;
    struct status verdict;
    uint8_t *reply; /* owned */
    size_t reply_len;
};

static struct config config = {.read_file_max = 4000000};
static struct call call;

void call_set_handler(struct call *c, const struct call_handler *handler, void *state)
{
    c->handler = handler;
    c->state = state;
}

void *call_app(const struct call *c)
{
    return (void *)&c->app;
}

struct pass *call_pass(const struct call *c)
{
    return NULL;
}

int64_t call_deadline_ns(const struct call *c)
{
    return INT64_MAX;
}

struct executor *call_executor(struct call *c)
{
    return NULL;
}

void call_ref(struct call *c) {}

void call_unref(struct call *c) {}

void call_finish(struct call *c, const struct status *st)
{
    assert_false(c->finished);
    c->finished = true;
    c->verdict = *st;
}

void call_reply(struct call *c, const ProtobufCMessage *message)
{
    c->reply_len = protobuf_c_message_get_packed_size(message);
    c->reply = xmalloc(c->reply_len + 1);
    protobuf_c_message_pack(message, c->reply);
    call_finish(c, &STATUS_INIT);
}

/* --- the sandbox's side --- */

static struct {
    struct e2b_op *op;
    struct e2b_output *ret;
    Recorder__V1__FileSpec *spec; /* as the recorder would read it; owned */
    bool as_file, idempotent;
} sent;

void e2b_verb(struct e2b *e, struct e2b_op *op, const char *sandbox_id, const char *const *args,
              const uint8_t *spec, size_t spec_len, bool idempotent, struct e2b_output *ret)
{
    assert_string_equal(sandbox_id, "sb");
    assert_string_equal(args[0], "file");
    if (sent.spec != NULL)
        recorder__v1__file_spec__free_unpacked(sent.spec, NULL);
    sent.op = op;
    sent.ret = ret;
    sent.as_file = spec != NULL;
    sent.idempotent = idempotent;
    if (spec != NULL) {
        Recorder__V1__SpecFile *m = recorder__v1__spec_file__unpack(NULL, spec_len, spec);

        assert_null(args[1]);
        assert_string_equal(m->end, "end");
        sent.spec = TAKE(m->file);
        m->spec_case = RECORDER__V1__SPEC_FILE__SPEC__NOT_SET;
        recorder__v1__spec_file__free_unpacked(m, NULL);
        return;
    }

    const char *text = args[1] + strlen("--request=");
    AUTO_FREE uint8_t *data = xmalloc(base64_decoded_max(strlen(text)));
    size_t len;

    assert_true(base64_decode(data, text, strlen(text), &len));
    sent.spec = recorder__v1__file_spec__unpack(NULL, len, data);
}

void e2b_read_file(struct e2b *e, struct e2b_op *op, const char *sandbox_id, const char *user,
                   const char *path, uint8_t **ret_data, size_t *ret_len)
{
    fail();
}

static struct {
    struct e2b_op *op; /* NULL: nothing was uploaded */
    const struct e2b_file *files;
    size_t n;
    char **paths;
} uploaded;

void e2b_write_files(struct e2b *e, struct e2b_op *op, const char *sandbox_id, const char *user,
                     const struct e2b_file *files, size_t n, char **paths_out)
{
    uploaded.op = op;
    uploaded.files = files;
    uploaded.n = n;
    uploaded.paths = paths_out;
}

void e2b_file_url(struct e2b *e, struct e2b_op *op, const char *sandbox_id, const char *user,
                  const char *path, bool write, int64_t expire_s, char **ret_url)
{
    fail();
}

void e2b_cancel(struct e2b_op *op) {}

/* The recorder's answer. */
static void answer_more(int exit_code, const char *err, const void *out, size_t len)
{
    sent.ret->exit_code = exit_code;
    sent.ret->out = xmemdup(out, len);
    sent.ret->out_len = len;
    snprintf(sent.ret->err, sizeof(sent.ret->err), "%s", err);
    sent.op->st = STATUS_INIT;
    sent.op->done(sent.op);
}

/* The same, and it is the last. */
static void answer(int exit_code, const char *err, const void *out, size_t len)
{
    answer_more(exit_code, err, out, len);
    assert_true(call.finished);
}

static void begin(void)
{
    call = (struct call){.app = {.config = &config}};
    uploaded.op = NULL;
}

static void end(void)
{
    if (call.handler != NULL)
        call.handler->destroy(call.state);
    free(call.reply);
    if (sent.spec != NULL)
        recorder__v1__file_spec__free_unpacked(sent.spec, NULL);
    sent.spec = NULL;
}

static void stat_x(void)
{
    Sandbox__V1__StatFileRequest r = SANDBOX__V1__STAT_FILE_REQUEST__INIT;

    begin();
    r.sandbox_id = (char *)"sb";
    r.path = (char *)"x";
    stat_file_start(&call, &r.base);
}

/* --- the tests --- */

static void test_every_exit_code_has_its_meaning(void **state)
{
    static const struct {
        int exit_code;
        enum code code;
        int reason;
        const char *field;
    } cases[] = {
        {RECORDER_FILE_NOT_FOUND, CODE_NOT_FOUND, REASON(FILE_NOT_FOUND), ""},
        {RECORDER_NOT_A_FILE, CODE_FAILED_PRECONDITION, REASON(NOT_A_FILE), ""},
        {RECORDER_NOT_A_DIRECTORY, CODE_FAILED_PRECONDITION, REASON(NOT_A_DIRECTORY), ""},
        {RECORDER_FILE_EXISTS, CODE_ALREADY_EXISTS, REASON(FILE_EXISTS), ""},
        {RECORDER_NOT_EMPTY, CODE_FAILED_PRECONDITION, REASON(DIRECTORY_NOT_EMPTY), ""},
        {RECORDER_FORBIDDEN, CODE_PERMISSION_DENIED, REASON(PERMISSION_DENIED), ""},
        {RECORDER_NO_USER, CODE_INVALID_ARGUMENT, REASON(USER_NOT_FOUND), "user"},
        {RECORDER_BAD_PATH, CODE_INVALID_ARGUMENT, REASON(INVALID_FIELD), "path"},
        {RECORDER_BAD_TOKEN, CODE_INVALID_ARGUMENT, REASON(INVALID_FIELD), "page_token"},
        {RECORDER_TOO_LARGE, CODE_FAILED_PRECONDITION, REASON(FILE_TOO_LARGE), ""},
        {RECORDER_FILE_CHANGED, CODE_FAILED_PRECONDITION, REASON(FILE_CHANGED), ""},
        {RECORDER_UPLOAD_GAP, CODE_OUT_OF_RANGE, REASON(UPLOAD_GAP), ""},
        {RECORDER_DIGEST, CODE_DATA_LOSS, REASON(DIGEST_MISMATCH), ""},
        {RECORDER_BAD_ARCHIVE, CODE_INVALID_ARGUMENT, REASON(BAD_ARCHIVE), ""},
        {RECORDER_BAD_OFFSET, CODE_INVALID_ARGUMENT, REASON(INVALID_FIELD), "offset"},
        {RECORDER_OTHER_DEVICE, CODE_UNIMPLEMENTED, REASON(UNSUPPORTED), ""},
        {RECORDER_NO_SPACE, CODE_RESOURCE_EXHAUSTED, REASON(DISK_FULL), ""},
        {RECORDER_BAD_SPEC, CODE_UNAVAILABLE, REASON(E2B_UNAVAILABLE), ""},
        {RECORDER_INTERNAL, CODE_INTERNAL, REASON(INTERNAL), ""},
        {RECORDER_USAGE, CODE_INTERNAL, REASON(INTERNAL), ""},
        {137, CODE_UNAVAILABLE, REASON(E2B_UNAVAILABLE), ""},
        {-1, CODE_UNAVAILABLE, REASON(E2B_UNAVAILABLE), ""},
    };

    for (size_t i = 0; i < 2 * sizeof(cases) / sizeof(cases[0]); i++) {
        stat_x();
        answer(cases[i / 2].exit_code, i % 2 == 0 ? "its words" : "", "ignored", 7);
        assert_int_equal(call.verdict.code, cases[i / 2].code);
        assert_int_equal(call.verdict.reason, cases[i / 2].reason);
        assert_string_equal(call.verdict.field, cases[i / 2].field);
        assert_true(call.verdict.message[0] != '\0');
        if (i % 2 == 0)
            assert_non_null(strstr(call.verdict.message, "its words"));
        end();
    }
}

static void test_a_failure_on_the_way_is_passed_on(void **state)
{
    stat_x();
    status_set(&sent.op->st, CODE_NOT_FOUND, REASON(SANDBOX_NOT_FOUND), "gone");
    sent.op->done(sent.op);
    assert_int_equal(call.verdict.reason, REASON(SANDBOX_NOT_FOUND));
    end();
}

static void test_answers_are_checked(void **state)
{
    static const struct {
        const char *bytes;
        size_t len;
        bool good;
    } cases[] = {
        {"", 0, true},
        {"\x0a\x05\x0a\x03"
         "abc",
         7, true},
        {"\x0a\x05\x0a\x03"
         "a\xff"
         "c",
         7, false}, /* no UTF-8, one message down */
        {"\x0a\x05\x0a\x04"
         "abc",
         7, false},             /* cut short */
        {"\x0a\xff", 2, false}, /* no protobuf */
        {"hello", 5, false},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        stat_x();
        answer(RECORDER_OK, "", cases[i].bytes, cases[i].len);
        assert_int_equal(call.verdict.code, cases[i].good ? CODE_OK : CODE_DATA_LOSS);
        if (cases[i].good)
            assert_memory_equal(call.reply, cases[i].bytes, cases[i].len);
        end();
    }
}

static void test_what_is_asked_arrives(void **state)
{
    Sandbox__V1__MoveFileRequest r = SANDBOX__V1__MOVE_FILE_REQUEST__INIT;

    begin();
    r.sandbox_id = (char *)"sb";
    r.source = (char *)"from here";
    r.destination = (char *)"to/there";
    r.overwrite = true;
    r.user = (char *)"me";
    move_file_start(&call, &r.base);
    assert_int_equal(sent.spec->op, RECORDER__V1__FILE_SPEC__OP__OP_MOVE);
    assert_int_equal(sent.spec->n_paths, 2);
    assert_string_equal(sent.spec->paths[0], "from here");
    assert_string_equal(sent.spec->paths[1], "to/there");
    assert_string_equal(sent.spec->user, "me");
    assert_true(sent.spec->tolerant && !sent.spec->parents);
    assert_false(sent.idempotent || sent.as_file);
    answer(RECORDER_OK, "", "", 0);
    assert_int_equal(call.verdict.code, CODE_OK);
    end();
}

/* --- ReadFiles --- */

static void read_files(size_t n, const char *path, Sandbox__V1__Encoding encoding)
{
    Sandbox__V1__ReadFilesRequest r = SANDBOX__V1__READ_FILES_REQUEST__INIT;
    AUTO_FREE char **paths = xcalloc(n, sizeof(*paths));

    begin();
    for (size_t i = 0; i < n; i++)
        paths[i] = (char *)path;
    r.sandbox_id = (char *)"sb";
    r.paths = paths;
    r.n_paths = n;
    r.encoding = encoding;
    read_files_start(&call, &r.base);
}

static void test_a_long_request_goes_as_a_file(void **state)
{
    char path[250];

    memset(path, 'p', sizeof(path) - 1);
    path[sizeof(path) - 1] = '\0';
    read_files(1000, path, SANDBOX__V1__ENCODING__ENCODING_BYTES);
    assert_true(sent.as_file && sent.idempotent);
    assert_int_equal(sent.spec->n_paths, 1000);
    assert_int_equal(sent.spec->limit, 4000000 - 2 * 249000 - 128000);
    answer(RECORDER_NO_SPACE, "", "", 0);
    assert_int_equal(call.verdict.reason, REASON(DISK_FULL));
    end();
}

static void test_results_are_about_what_was_asked(void **state)
{
    static const char one[] = "\x0a\x06\x0a\x01x\x12\x01y";  /* path x, data y */
    static const char neither[] = "\x0a\x03\x0a\x01x";       /* path x alone */
    static const char text[] = "\x0a\x06\x0a\x01x\x1a\x01y"; /* the recorder sends no text */
    static const struct {
        const char *bytes;
        size_t len, n;
        bool good;
    } cases[] = {
        {one, 8, 1, true},      {one, 8, 2, false},  {one, 0, 1, false},
        {neither, 5, 1, false}, {text, 8, 1, false},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        read_files(cases[i].n, "x", SANDBOX__V1__ENCODING__ENCODING_BYTES);
        answer(RECORDER_OK, "", cases[i].bytes, cases[i].len);
        assert_int_equal(call.verdict.code, cases[i].good ? CODE_OK : CODE_DATA_LOSS);
        end();
    }
}

static void test_results_are_translated(void **state)
{
    static const char file[] = "\x0a\x07\x0a\x01x\x12\x02y\xff";
    static const char error[] = "\x0a\x0a\x0a\x01x\x22\x05\x08\x11\x12\x01m"; /* exit code 17 */
    Sandbox__V1__ReadFilesResponse *m;

    read_files(1, "x", SANDBOX__V1__ENCODING__ENCODING_TEXT);
    answer(RECORDER_OK, "", file, sizeof(file) - 1);
    m = sandbox__v1__read_files_response__unpack(NULL, call.reply_len, call.reply);
    assert_string_equal(m->results[0]->text, "y\xef\xbf\xbd");
    sandbox__v1__read_files_response__free_unpacked(m, NULL);
    end();

    read_files(1, "x", SANDBOX__V1__ENCODING__ENCODING_TEXT);
    answer(RECORDER_OK, "", error, sizeof(error) - 1);
    m = sandbox__v1__read_files_response__unpack(NULL, call.reply_len, call.reply);
    assert_int_equal(m->results[0]->error->reason, REASON(FILE_NOT_FOUND));
    assert_string_equal(m->results[0]->error->message, "m");
    sandbox__v1__read_files_response__free_unpacked(m, NULL);
    end();
}

/* --- WriteFiles --- */

/* Two files, "a" and "d/b"; the second with create_only if asked. */
static void write_two(bool only_changed, bool create_only)
{
    Sandbox__V1__WriteFilesRequest r = SANDBOX__V1__WRITE_FILES_REQUEST__INIT;
    Sandbox__V1__File a, b;
    Sandbox__V1__File *files[] = {&a, &b};

    begin();
    sandbox__v1__file__init(&a);
    sandbox__v1__file__init(&b);
    a.path = (char *)"a";
    b.path = (char *)"d/b";
    b.mode = 0700;
    b.create_only = create_only;
    b.content_case = SANDBOX__V1__FILE__CONTENT_TEXT;
    b.text = (char *)"hello";
    r.sandbox_id = (char *)"sb";
    r.files = files;
    r.n_files = 2;
    r.only_changed = only_changed;
    write_files_start(&call, &r.base);
}

static void upload_ends(enum code code, const char *path)
{
    uploaded.op->st = STATUS_INIT;
    if (code != CODE_OK)
        status_set(&uploaded.op->st, code, REASON(DISK_FULL), "full");
    for (size_t i = 0; code == CODE_OK && i < uploaded.n; i++)
        uploaded.paths[i] = xasprintf("%s%zu", path, i);
    uploaded.op->done(uploaded.op);
}

#define REPORT(unchanged_b)                                                                        \
    "\x0a\x04\x0a\x02/a"                                                                           \
    "\x0a\x06\x0a\x02/b\x10" unchanged_b

static void test_plain_files_need_no_recorder(void **state)
{
    write_two(false, false);
    assert_int_equal(uploaded.n, 2);
    assert_string_equal(uploaded.files[1].path, "d/b");
    assert_int_equal(uploaded.files[1].mode, 0700);
    assert_null(sent.spec);
    upload_ends(CODE_OK, "/x");
    assert_int_equal(call.verdict.code, CODE_OK);
    end();
}

static void test_what_is_unchanged_is_not_sent(void **state)
{
    Sandbox__V1__WriteFilesResponse *m;

    write_two(true, false);
    assert_null(uploaded.op);
    assert_int_equal(sent.spec->op, RECORDER__V1__FILE_SPEC__OP__OP_CHECK);
    assert_int_equal(sent.spec->contents[1]->size, 5);
    assert_int_equal(sent.spec->contents[1]->sha256.len, 32);
    answer_more(RECORDER_OK, "", REPORT("\x01"), 14);
    assert_int_equal(uploaded.n, 1);
    assert_string_equal(uploaded.files[0].path, "a");
    upload_ends(CODE_OK, "/a");
    m = sandbox__v1__write_files_response__unpack(NULL, call.reply_len, call.reply);
    assert_string_equal(m->files[0]->path, "/a0");
    assert_string_equal(m->files[1]->path, "/b");
    assert_true(m->files[1]->unchanged && !m->files[0]->unchanged);
    sandbox__v1__write_files_response__free_unpacked(m, NULL);
    end();
}

static void test_reports_are_checked(void **state)
{
    static const struct {
        const char *bytes;
        size_t len;
    } cases[] = {
        {"", 0},
        {REPORT("\x01"), 6},                             /* of one file alone */
        {"\x0a\x03\x0a\x01x\x0a\x03\x0a\x01y", 10},      /* no absolute paths */
        {"\x0a\x04\x0a\x02/\xff\x0a\x04\x0a\x02/b", 12}, /* no UTF-8 */
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        write_two(true, false);
        answer(RECORDER_OK, "", cases[i].bytes, cases[i].len);
        assert_int_equal(call.verdict.code, CODE_DATA_LOSS);
        assert_null(uploaded.op);
        end();
    }
}

static void test_a_precondition_that_fails_costs_no_upload(void **state)
{
    write_two(false, true);
    answer(RECORDER_FILE_EXISTS, "/d/b: there", "", 0);
    assert_int_equal(call.verdict.reason, REASON(FILE_EXISTS));
    assert_null(uploaded.op);
    end();
}

static void test_files_take_their_places_together(void **state)
{
    write_two(false, true);
    answer_more(RECORDER_OK, "", REPORT("\x00"), 14);
    assert_int_equal(uploaded.n, 2);
    assert_int_equal(strncmp(uploaded.files[0].path, ".sandboxd-", 10), 0);
    assert_int_equal(strncmp(uploaded.files[1].path, "d/.sandboxd-", 12), 0);
    assert_int_equal(uploaded.files[1].mode, 0);
    upload_ends(CODE_OK, "/staged");
    assert_int_equal(sent.spec->op, RECORDER__V1__FILE_SPEC__OP__OP_COMMIT);
    assert_false(sent.idempotent);
    assert_string_equal(sent.spec->contents[1]->staged, "/staged1");
    assert_string_equal(sent.spec->contents[1]->path, "d/b");
    assert_int_equal(sent.spec->contents[1]->mode, 0700);
    assert_true(sent.spec->contents[1]->create_only);
    answer(RECORDER_OK, "", REPORT("\x00"), 14);
    assert_int_equal(call.verdict.code, CODE_OK);
    end();
}

static void test_what_came_halfway_is_thrown_away(void **state)
{
    for (int gone = 0; gone < 2; gone++) {
        write_two(false, true);
        answer_more(RECORDER_OK, "", REPORT("\x00"), 14);
        upload_ends(gone ? CODE_CANCELLED : CODE_RESOURCE_EXHAUSTED, NULL);
        assert_false(call.finished);
        assert_int_equal(sent.spec->op, RECORDER__V1__FILE_SPEC__OP__OP_DISCARD);
        assert_non_null(strstr(sent.spec->contents[0]->staged, ".sandboxd-"));
        assert_true(sent.op->deadline_ns < INT64_MAX);
        answer(RECORDER_INTERNAL, "", "", 0);
        assert_int_equal(call.verdict.reason, REASON(DISK_FULL));
        end();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_exit_code_has_its_meaning),
        cmocka_unit_test(test_a_failure_on_the_way_is_passed_on),
        cmocka_unit_test(test_answers_are_checked),
        cmocka_unit_test(test_what_is_asked_arrives),
        cmocka_unit_test(test_a_long_request_goes_as_a_file),
        cmocka_unit_test(test_results_are_about_what_was_asked),
        cmocka_unit_test(test_results_are_translated),
        cmocka_unit_test(test_plain_files_need_no_recorder),
        cmocka_unit_test(test_what_is_unchanged_is_not_sent),
        cmocka_unit_test(test_reports_are_checked),
        cmocka_unit_test(test_a_precondition_that_fails_costs_no_upload),
        cmocka_unit_test(test_files_take_their_places_together),
        cmocka_unit_test(test_what_came_halfway_is_thrown_away),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
