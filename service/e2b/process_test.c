/* The stream of a process, fed cut at every place. */
#include "service/e2b/process.h"

#include "common/base/mem.h"
#include "envd/process/process.pb-c.h"
#include "sandbox/v1/errors.pb-c.h"
#include "service/e2b/fake.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct buf output;

static void on_stdout(struct process *p, const uint8_t *data, size_t len)
{
    assert_true(buf_append(&output, data, len));
}

static void feed_copy(struct process *p, const uint8_t *data, size_t len)
{
    uint8_t *copy = xmemdup(data, len ? len : 1);

    if (p->failed == NULL)
        process_feed(p, copy, len);
    free(copy);
}

static void feed_cut(struct process *p, const struct buf *b, size_t cut)
{
    process_init(p, on_stdout);
    buf_clear(&output);
    feed_copy(p, buf_data(b), cut);
    feed_copy(p, buf_data(b) + cut, buf_len(b) - cut);
}

static void test_whole_life_cut_anywhere(void **state)
{
    struct buf b = BUF_INIT(1 << 20);
    char large[300];

    memset(large, 'L', sizeof large);
    fake_add_start(&b, 4711);
    fake_add_data(&b, false, "hello ", 6);
    fake_add_data(&b, true, "warning", 7);
    fake_add_keepalive(&b);
    fake_add_data(&b, false, large, sizeof large);
    fake_add_data(&b, false, "", 0);
    fake_add_data(&b, false, "bye", 3);
    fake_add_exit(&b, 7, true);
    envelope_append(&b, ENVELOPE_END, "{}", 2);
    for (size_t cut = 0; cut <= buf_len(&b); cut++) {
        struct process p;

        feed_cut(&p, &b, cut);
        assert_null(p.failed);
        assert_true(p.started);
        assert_int_equal(p.pid, 4711);
        assert_true(p.exited);
        assert_int_equal(p.exit_code, 7);
        assert_int_equal(buf_len(&output), 309);
        assert_memory_equal(buf_data(&output), "hello LLL", 9);
        assert_memory_equal(buf_data(&output) + 306, "bye", 3);
        assert_int_equal(p.err_len, 7);
        assert_memory_equal(p.err, "warning", 7);
        process_deinit(&p);
    }
    buf_deinit(&b);
}

static void test_byte_by_byte(void **state)
{
    struct buf b = BUF_INIT(1 << 20);
    struct process p;

    fake_add_start(&b, 1);
    fake_add_data(&b, false, "abcdefghij", 10);
    fake_add_exit(&b, 0, true);
    envelope_append(&b, ENVELOPE_END, "{}", 2);
    process_init(&p, on_stdout);
    buf_clear(&output);
    for (size_t i = 0; i < buf_len(&b); i++)
        feed_copy(&p, buf_data(&b) + i, 1);
    assert_true(p.exited && p.failed == NULL);
    assert_string_equal(buf_str(&output), "abcdefghij");
    assert_null(p.frame.base); /* an idle stream holds nothing */
    process_deinit(&p);
    buf_deinit(&b);
}

/* Output that is not encoded the usual way (a field behind it) still counts. */
static void test_unusual_encoding(void **state)
{
    static const uint8_t message[] = {0x0a, 0x09, 0x12, 0x05, 0x0a, 0x03,
                                      'a',  'b',  'c',  0x28, 0x01};
    struct buf b = BUF_INIT(1000);

    envelope_append(&b, 0, message, sizeof message);
    for (size_t cut = 0; cut <= buf_len(&b); cut++) {
        struct process p;

        feed_cut(&p, &b, cut);
        assert_null(p.failed);
        assert_string_equal(buf_str(&output), "abc");
        process_deinit(&p);
    }
    buf_deinit(&b);
}

static void test_killed(void **state)
{
    struct buf b = BUF_INIT(1000);
    struct process p;

    fake_add_exit(&b, -1, false);
    envelope_append(&b, ENVELOPE_END, "{}", 2);
    feed_cut(&p, &b, 3);
    assert_true(p.ended && !p.exited && p.failed != NULL);
    assert_int_equal(p.failed->st.code, CODE_UNAVAILABLE);
    assert_non_null(strstr(p.failed->st.message, "signal: killed"));
    process_deinit(&p);
    buf_deinit(&b);
}

static void check_end(const char *end, enum code code, int reason)
{
    struct buf b = BUF_INIT(1000);

    envelope_append(&b, ENVELOPE_END, end, strlen(end));
    for (size_t cut = 0; cut <= buf_len(&b); cut++) {
        struct process p;

        feed_cut(&p, &b, cut);
        assert_non_null(p.failed);
        assert_int_equal(p.failed->st.code, code);
        assert_int_equal(p.failed->st.reason, reason);
        process_deinit(&p);
    }
    buf_deinit(&b);
}

static void test_errors_at_the_end(void **state)
{
    check_end("{\"error\":{\"code\":\"unauthenticated\",\"message\":\"invalid username: 'root'\"}}",
              CODE_INVALID_ARGUMENT, SANDBOX__V1__ERROR_REASON__ERROR_REASON_USER_NOT_FOUND);
    check_end("{\"error\":{\"code\":\"deadline_exceeded\"}}", CODE_UNAVAILABLE,
              SANDBOX__V1__ERROR_REASON__ERROR_REASON_E2B_UNAVAILABLE);
    check_end("{\"error\":7}", CODE_UNAVAILABLE,
              SANDBOX__V1__ERROR_REASON__ERROR_REASON_E2B_UNAVAILABLE);
    check_end("[]", CODE_UNAVAILABLE, SANDBOX__V1__ERROR_REASON__ERROR_REASON_E2B_UNAVAILABLE);
    check_end("", CODE_UNAVAILABLE, SANDBOX__V1__ERROR_REASON__ERROR_REASON_E2B_UNAVAILABLE);
}

static void test_garbage(void **state)
{
    static const struct {
        const char *bytes;
        size_t len;
    } cases[] = {
        {"<html>no gateway</html>", 23},
        {"\0\0\0\0\003\377\377\377", 8},                   /* no message */
        {"\0\377\377\377\377", 5},                         /* far too long */
        {"\0\0\017\377\377\x18\1", 7},                     /* long, and no output */
        {"\0\0\0\0\006\x0a\x04\x12\x02\x0a\x05xxxxx", 16}, /* lengths that disagree */
        {"\1\0\0\0\0", 5},                                 /* compressed */
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct buf b = BUF_INIT(1000);
        struct process p;

        buf_append(&b, cases[i].bytes, cases[i].len);
        feed_cut(&p, &b, cases[i].len / 2);
        assert_non_null(p.failed);
        assert_int_equal(p.failed->st.code, CODE_UNAVAILABLE);
        process_deinit(&p);
        buf_deinit(&b);
    }
}

static void test_stderr_keeps_its_end(void **state)
{
    struct buf b = BUF_INIT(1 << 20);
    struct process p;
    char text[1000];

    for (size_t i = 0; i < sizeof text; i++)
        text[i] = (char)('a' + i % 26);
    for (size_t at = 0; at < sizeof text; at += 100)
        fake_add_data(&b, true, text + at, 100);
    feed_cut(&p, &b, 10);
    assert_int_equal(p.err_len, PROCESS_ERR_MAX);
    assert_memory_equal(p.err, text + sizeof text - PROCESS_ERR_MAX, PROCESS_ERR_MAX);
    process_deinit(&p);
    buf_clear(&b);
    fake_add_data(&b, true, text, sizeof text);
    feed_cut(&p, &b, 10);
    assert_memory_equal(p.err, text + sizeof text - PROCESS_ERR_MAX, PROCESS_ERR_MAX);
    process_deinit(&p);
    buf_deinit(&b);
}

static void test_encode_start(void **state)
{
    const char *argv[] = {"/bin/x", "a", "", NULL};
    size_t len;
    uint8_t *data = process_encode_start(argv, "/", false, &len);
    Process__StartRequest *m =
        process__start_request__unpack(NULL, len - ENVELOPE_HEADER, data + ENVELOPE_HEADER);

    assert_non_null(m);
    assert_int_equal(data[4], len - ENVELOPE_HEADER);
    assert_string_equal(m->process->cmd, "/bin/x");
    assert_int_equal(m->process->n_args, 2);
    assert_string_equal(m->process->args[1], "");
    assert_string_equal(m->process->cwd, "/");
    assert_int_equal(m->stdin_set_case, PROCESS__START_REQUEST__STDIN_SET_STDIN);
    assert_false(m->stdin);
    process__start_request__free_unpacked(m, NULL);
    free(data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_whole_life_cut_anywhere), cmocka_unit_test(test_byte_by_byte),
        cmocka_unit_test(test_unusual_encoding),        cmocka_unit_test(test_killed),
        cmocka_unit_test(test_errors_at_the_end),       cmocka_unit_test(test_garbage),
        cmocka_unit_test(test_stderr_keeps_its_end),    cmocka_unit_test(test_encode_start),
    };
    int failed;

    buf_init(&output, 1 << 20);
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    buf_deinit(&output);
    return failed;
}
