#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/base/cleanup.h"
#include "recorder/v1/recorder.pb-c.h"
#include "runtime/recorder/fault.h"
#include "runtime/recorder/spec.h"

#include <stdlib.h>
#include <string.h>

static char *args[] = {"/bin/sh", "-c", "end", ""};
static char *envs[] = {"A=1",
                       "END=end\x7a\x03"
                       "end",
                       "EMPTY="};

static size_t pack(Recorder__V1__CommandSpec *spec, uint8_t *to)
{
    Recorder__V1__SpecFile file = RECORDER__V1__SPEC_FILE__INIT;

    file.spec_case = RECORDER__V1__SPEC_FILE__SPEC_COMMAND;
    file.command = spec;
    file.end = "end";
    return recorder__v1__spec_file__pack(&file, to);
}

static Recorder__V1__CommandSpec full_spec(void)
{
    Recorder__V1__CommandSpec spec = RECORDER__V1__COMMAND_SPEC__INIT;

    spec.command_id = "build-1";
    spec.sandbox_id = "i123";
    spec.digest = (ProtobufCBinaryData){.len = 3, .data = (uint8_t *)"\x00\x01\x02"};
    spec.n_args = 4;
    spec.args = args;
    spec.n_envs = 3;
    spec.envs = envs;
    spec.cwd = "src";
    spec.user = "user";
    spec.timeout_ms = 1500;
    spec.grace_ms = 20;
    spec.overflow = 3;
    spec.stdin = true;
    spec.max_journal_bytes = 2 << 20;
    return spec;
}

static void test_what_protobuf_c_wrote_is_read(void **state)
{
    AUTO(command_spec_deinit) struct command_spec s = {0};
    Recorder__V1__CommandSpec spec = full_spec();
    struct status st = STATUS_INIT;
    uint8_t bytes[1024];
    bool whole;

    assert_true(spec_parse_command(bytes, pack(&spec, bytes), &s, &whole, &st));
    assert_true(whole);
    assert_string_equal(s.meta.command_id, "build-1");
    assert_string_equal(s.meta.sandbox_id, "i123");
    assert_int_equal(s.meta.digest_len, 3);
    assert_int_equal(strings_count(s.meta.args), 4);
    assert_string_equal(s.meta.args[3], "");
    assert_int_equal(strings_count(s.envs), 3);
    assert_string_equal(s.meta.env_names[1], "END");
    assert_string_equal(s.meta.cwd, "src");
    assert_string_equal(s.meta.user, "user");
    assert_int_equal(s.timeout_ms, 1500);
    assert_int_equal(s.grace_ms, 20);
    assert_int_equal(s.meta.overflow, 3);
    assert_true(s.stdin_pipe);
    assert_int_equal(s.meta.max_bytes, 2 << 20);
}

static void test_defaults_are_filled_in(void **state)
{
    AUTO(command_spec_deinit) struct command_spec s = {0};
    Recorder__V1__CommandSpec spec = RECORDER__V1__COMMAND_SPEC__INIT;
    struct status st = STATUS_INIT;
    uint8_t bytes[256];
    bool whole;

    spec.command_id = "x";
    spec.sandbox_id = "i";
    spec.n_args = 1;
    spec.args = args;
    assert_true(spec_parse_command(bytes, pack(&spec, bytes), &s, &whole, &st));
    assert_int_equal(s.meta.overflow, 1);
    assert_int_equal(s.meta.max_bytes, JOURNAL_BYTES_DEFAULT);
    assert_int_equal(s.grace_ms, DEFAULT_GRACE_MS);
    assert_int_equal(s.timeout_ms, 0);
}

static void test_no_prefix_is_whole(void **state)
{
    Recorder__V1__CommandSpec spec = full_spec();
    uint8_t bytes[1024];
    size_t len = pack(&spec, bytes);

    for (size_t cut = 0; cut < len; cut++) {
        AUTO(command_spec_deinit) struct command_spec s = {0};
        AUTO_FREE uint8_t *copy = malloc(cut + 1);
        struct status st = STATUS_INIT;
        bool whole;

        memcpy(copy, bytes, cut);
        assert_false(spec_parse_command(copy, cut, &s, &whole, &st));
        assert_false(whole);
        assert_int_equal(st.reason, RECORDER_BAD_SPEC);
    }
}

static void test_damage_is_survived(void **state)
{
    Recorder__V1__CommandSpec spec = full_spec();
    uint8_t bytes[1024];
    size_t len = pack(&spec, bytes);

    srand(1);
    for (int round = 0; round < 20000; round++) {
        AUTO(command_spec_deinit) struct command_spec s = {0};
        AUTO_FREE uint8_t *copy = malloc(len);
        struct status st = STATUS_INIT;
        bool whole;

        memcpy(copy, bytes, len);
        copy[(size_t)rand() % len] ^= (uint8_t)(1 + rand() % 255);
        if (spec_parse_command(copy, len, &s, &whole, &st))
            assert_true(id_is_valid(s.meta.command_id));
    }
}

static void test_ids_are_checked(void **state)
{
    static char *const bad[] = {
        "",    "a/b",      "..",
        "a b", "\xc3\xa9", "01234567890123456789012345678901234567890123456789012345678901234"};

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        AUTO(command_spec_deinit) struct command_spec s = {0};
        Recorder__V1__CommandSpec spec = full_spec();
        struct status st = STATUS_INIT;
        uint8_t bytes[1024];
        bool whole;

        spec.command_id = bad[i];
        assert_false(spec_parse_command(bytes, pack(&spec, bytes), &s, &whole, &st));
        assert_int_equal(st.reason, RECORDER_BAD_SPEC);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_protobuf_c_wrote_is_read),
        cmocka_unit_test(test_defaults_are_filled_in),
        cmocka_unit_test(test_no_prefix_is_whole),
        cmocka_unit_test(test_damage_is_survived),
        cmocka_unit_test(test_ids_are_checked),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
