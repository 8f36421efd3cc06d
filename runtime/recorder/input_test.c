#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/base/cleanup.h"
#include "common/base/list.h"
#include "common/journal/verbs.h"
#include "runtime/recorder/input.h"
#include "runtime/recorder/spec.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

/* A command's end of its stdin, and inputs for it. */
struct bench {
    struct input_queue queue;
    int command;
};

struct brought {
    struct input input;
    int result; /* -1: not done */
};

static void done(struct input *in, int exit_code)
{
    container_of(in, struct brought, input)->result = exit_code;
}

static void open_bench(struct bench *b)
{
    int ends[2];

    assert_int_equal(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
    b->command = ends[0];
    input_queue_init(&b->queue, ends[1], false);
}

static void close_bench(struct bench *b)
{
    input_queue_close(&b->queue, RECORDER_ENDED);
    close(b->command);
}

/* Brings data for the offset, -1 for behind what is there; the result. */
static int bring(struct bench *b, const char *data, int64_t offset, bool eof)
{
    struct brought in = {.result = -1};

    in.input = (struct input){.data = BUF_INIT(INPUT_MAX),
                              .done = done,
                              .eof = eof,
                              .positioned = offset >= 0,
                              .offset = (uint64_t)offset};
    list_init(&in.input.link);
    buf_append_str(&in.input.data, data);
    input_queue_add(&b->queue, &in.input);
    buf_deinit(&in.input.data);
    return in.result;
}

static void expect_read(struct bench *b, const char *want)
{
    char got[256] = "";
    ssize_t n = read(b->command, got, sizeof(got) - 1);

    assert_int_equal(n < 0 ? 0 : n, strlen(want));
    assert_string_equal(got, want);
}

static void test_what_has_a_place_is_written_once(void **state)
{
    static const struct {
        const char *data;
        int64_t offset;
        int result;
        const char *read;
    } steps[] = {
        {"one", 0, RECORDER_OK, "one"},     {"one", 0, RECORDER_OK, ""},
        {"ne two", 1, RECORDER_OK, " two"}, {"", 7, RECORDER_OK, ""},
        {"x", 8, RECORDER_INPUT_GAP, ""},   {"three", -1, RECORDER_OK, "three"},
        {"other", 4, RECORDER_OK, ""}, /* all of it was taken: what it says is not looked at */
        {"four", 10, RECORDER_OK, "ur"},
    };
    struct bench b;

    open_bench(&b);
    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
        assert_int_equal(bring(&b, steps[i].data, steps[i].offset, false), steps[i].result);
        expect_read(&b, steps[i].read);
    }
    close_bench(&b);
}

static void test_behind_the_end_only_what_was_taken_is_acknowledged(void **state)
{
    struct bench b;

    open_bench(&b);
    assert_int_equal(bring(&b, "all", 0, true), RECORDER_OK);
    assert_true(b.queue.eof);
    assert_int_equal(bring(&b, "all", 0, true), RECORDER_OK);
    assert_int_equal(bring(&b, "ll", 1, false), RECORDER_OK);
    assert_int_equal(bring(&b, "more", 3, false), RECORDER_STDIN_CLOSED);
    assert_int_equal(bring(&b, "more", -1, false), RECORDER_STDIN_CLOSED);
    expect_read(&b, "all");
    close_bench(&b);
}

static void test_what_waits_when_it_ends_is_told(void **state)
{
    static char much[300000];
    struct brought waits = {.result = -1}, behind = {.result = -1};
    struct bench b;

    open_bench(&b);
    waits.input =
        (struct input){.data = BUF_INIT(INPUT_MAX), .done = done, .positioned = true, .offset = 0};
    behind.input = (struct input){.data = BUF_INIT(INPUT_MAX), .done = done};
    list_init(&waits.input.link);
    list_init(&behind.input.link);
    buf_append(&waits.input.data, much, sizeof(much));
    buf_append_str(&behind.input.data, "x");
    input_queue_add(&b.queue, &waits.input);
    input_queue_add(&b.queue, &behind.input);
    assert_int_equal(waits.result, -1); /* the pipe is full */
    assert_in_range(b.queue.offset, 1, sizeof(much) - 1);
    assert_false(input_queue_is_idle(&b.queue));
    input_queue_close(&b.queue, RECORDER_ENDED);
    assert_int_equal(waits.result, RECORDER_ENDED);
    assert_int_equal(behind.result, RECORDER_ENDED);
    buf_deinit(&waits.input.data);
    buf_deinit(&behind.input.data);
    close_bench(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_has_a_place_is_written_once),
        cmocka_unit_test(test_behind_the_end_only_what_was_taken_is_acknowledged),
        cmocka_unit_test(test_what_waits_when_it_ends_is_told),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
