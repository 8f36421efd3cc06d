/* The JSON mapping, by tables: text to message to text, and what is refused. */
#include "common/connect/json.h"

#include "envd/filesystem/filesystem.pb-c.h"
#include "envd/process/process.pb-c.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

/* Every text is decoded, packed, unpacked, encoded again, and must come out as `out`. */
static const struct {
    const ProtobufCMessageDescriptor *type;
    const char *in;
    const char *out;
} good[] = {
    {&process__start_request__descriptor, "{}", "{}"},
    {&process__start_request__descriptor, " { \"stdin\" : false , \"unknown\" : [1,{}] } ",
     "{\"stdin\":false}"},
    {&process__start_request__descriptor,
     "{\"process\":{\"cmd\":\"/bin/sh\",\"args\":[\"-c\",\"\xc3\xa9\\n\\\"\"],"
     "\"envs\":{\"A\":\"1\",\"B\":\"\"},\"cwd\":\"/\"},\"tag\":\"t\"}",
     "{\"process\":{\"cmd\":\"/bin/sh\",\"args\":[\"-c\",\"\xc3\xa9\\u000a\\\"\"],"
     "\"envs\":{\"A\":\"1\",\"B\":\"\"},\"cwd\":\"/\"},\"tag\":\"t\"}"},
    {&process__start_response__descriptor, "{\"event\":{\"data\":{\"stdout\":\"aGk=\"}}}",
     "{\"event\":{\"data\":{\"stdout\":\"aGk=\"}}}"},
    {&process__start_response__descriptor, "{\"event\":{\"data\":{\"stdout\":\"\"}}}",
     "{\"event\":{\"data\":{\"stdout\":\"\"}}}"},
    {&process__start_response__descriptor, "{\"event\":{\"keepalive\":{}}}",
     "{\"event\":{\"keepalive\":{}}}"},
    {&process__process_event__end_event__descriptor,
     "{\"exitCode\":-1,\"exited\":false,\"status\":\"x\",\"error\":null}",
     "{\"exitCode\":-1,\"status\":\"x\"}"},
    {&process__process_event__end_event__descriptor, "{\"exit_code\":\"7\"}", "{\"exitCode\":7}"},
    {&process__send_signal_request__descriptor,
     "{\"process\":{\"pid\":1e2},\"signal\":\"SIGNAL_SIGTERM\"}",
     "{\"process\":{\"pid\":100},\"signal\":\"SIGNAL_SIGTERM\"}"},
    {&process__send_signal_request__descriptor, "{\"signal\":9}",
     "{\"signal\":\"SIGNAL_SIGKILL\"}"},
    {&process__send_signal_request__descriptor, "{\"signal\":77}", "{\"signal\":77}"},
    {&filesystem__stat_response__descriptor,
     "{\"entry\":{\"size\":\"9007199254740993\",\"modifiedTime\":\"2026-01-02T03:04:05."
     "000000678Z\","
     "\"type\":\"FILE_TYPE_FILE\",\"mode\":420}}",
     "{\"entry\":{\"type\":\"FILE_TYPE_FILE\",\"size\":\"9007199254740993\",\"mode\":420,"
     "\"modifiedTime\":\"2026-01-02T03:04:05.000000678Z\"}}"},
    {&filesystem__stat_response__descriptor,
     "{\"entry\":{\"modifiedTime\":\"2026-01-02T03:04:05.5+01:00\",\"size\":-3}}",
     "{\"entry\":{\"size\":\"-3\",\"modifiedTime\":\"2026-01-02T02:04:05.500Z\"}}"},
    {&filesystem__list_dir_response__descriptor, "{\"entries\":[{\"name\":\"a\"},{}]}",
     "{\"entries\":[{\"name\":\"a\"},{}]}"},
};

static void test_round_trips(void **state)
{
    for (size_t i = 0; i < sizeof(good) / sizeof(*good); i++) {
        struct status st = STATUS_INIT;
        struct buf text = BUF_INIT(4096), packed = BUF_INIT(4096);
        ProtobufCMessage *m = json_decode(good[i].type, good[i].in, strlen(good[i].in), &st);
        ProtobufCMessage *again;

        assert_string_equal(st.message, "");
        assert_non_null(m);
        buf_commit(&packed, protobuf_c_message_pack(m, buf_reserve(&packed, 4096)));
        again = protobuf_c_message_unpack(good[i].type, NULL, buf_len(&packed), buf_data(&packed));
        assert_true(json_encode(&text, again));
        assert_string_equal(buf_str(&text), good[i].out);
        protobuf_c_message_free_unpacked(m, NULL);
        protobuf_c_message_free_unpacked(again, NULL);
        buf_deinit(&text);
        buf_deinit(&packed);
    }
}

static void test_refuses_what_does_not_fit(void **state)
{
    static const struct {
        const ProtobufCMessageDescriptor *type;
        const char *in;
    } bad[] = {
        {&process__start_request__descriptor, ""},
        {&process__start_request__descriptor, "{"},
        {&process__start_request__descriptor, "{} x"},
        {&process__start_request__descriptor, "[]"},
        {&process__start_request__descriptor, "null"},
        {&process__start_request__descriptor, "{\"process\":7}"},
        {&process__start_request__descriptor, "{\"stdin\":\"yes\"}"},
        {&process__start_request__descriptor, "{\"process\":{\"args\":[\"a\",1]}}"},
        {&process__start_request__descriptor, "{\"process\":{\"args\":\"a\"}}"},
        {&process__start_request__descriptor, "{\"process\":{\"envs\":{\"A\":1}}}"},
        {&process__start_request__descriptor, "{\"process\":{\"cmd\":\"a\\u0000b\"}}"},
        {&process__start_request__descriptor, "{\"process\":{\"cmd\":\"\xff\"}}"},
        {&process__send_signal_request__descriptor, "{\"signal\":\"SIGNAL_NONE\"}"},
        {&process__send_signal_request__descriptor, "{\"process\":{\"pid\":-1}}"},
        {&process__send_signal_request__descriptor, "{\"process\":{\"pid\":4294967296}}"},
        {&process__send_signal_request__descriptor, "{\"process\":{\"pid\":1.5}}"},
        {&process__send_signal_request__descriptor, "{\"process\":{\"pid\":1,\"tag\":\"t\"}}"},
        {&filesystem__stat_response__descriptor,
         "{\"entry\":{\"symlinkTarget\":\"a\",\"symlink_target\":\"b\"}}"},
        {&process__send_input_request__descriptor, "{\"input\":{\"stdin\":\"?\"}}"},
        {&filesystem__stat_response__descriptor, "{\"entry\":{\"modifiedTime\":\"yesterday\"}}"},
        {&filesystem__stat_response__descriptor, "{\"entry\":{\"size\":\"9223372036854775808\"}}"},
    };

    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        struct status st = STATUS_INIT;

        assert_null(json_decode(bad[i].type, bad[i].in, strlen(bad[i].in), &st));
        assert_int_equal(st.code, CODE_INVALID_ARGUMENT);
        assert_non_null(strstr(st.message, "invalid JSON"));
    }
}

static void test_depth_is_bounded(void **state)
{
    char deep[4096] = "{\"x\":";
    struct status st = STATUS_INIT;

    memset(deep + 5, '[', 2000);
    assert_null(json_decode(&process__start_request__descriptor, deep, strlen(deep), &st));
    assert_int_equal(st.code, CODE_INVALID_ARGUMENT);
}

static void test_any_cut_is_refused(void **state)
{
    const char *text = good[2].in;

    for (size_t n = 0; n < strlen(text); n++) {
        struct status st = STATUS_INIT;

        assert_null(json_decode(good[2].type, text, n, &st));
    }
}

static void test_encoding_respects_the_cap(void **state)
{
    Process__ProcessInfo info = PROCESS__PROCESS_INFO__INIT;
    struct buf text = BUF_INIT(12);

    char tag[] = "a long enough tag";

    info.tag = tag;
    assert_false(json_encode(&text, &info.base));
    buf_deinit(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trips),
        cmocka_unit_test(test_refuses_what_does_not_fit),
        cmocka_unit_test(test_depth_is_bounded),
        cmocka_unit_test(test_any_cut_is_refused),
        cmocka_unit_test(test_encoding_respects_the_cap),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
