#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/base/log.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

static char written[32 * 1024];

/* What log_write() puts on stderr, from behind the time on. */
static const char *say(const char *msg, const struct log_field *fields, size_t n)
{
    int ends[2], kept = dup(STDERR_FILENO);
    ssize_t len;

    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    dup2(ends[1], STDERR_FILENO);
    log_write(LOG_WARN, msg, fields, n);
    dup2(kept, STDERR_FILENO);
    close(kept);
    close(ends[1]);
    len = read(ends[0], written, sizeof(written) - 1);
    close(ends[0]);
    assert_true(len > 0);
    written[len] = '\0';
    assert_int_equal(written[len - 1], '\n');
    assert_ptr_equal(strchr(written, '\n'), written + len - 1); /* one line */
    return strchr(written, 'Z') + 1;
}

static const struct log_field fields[] = {
    {"id", "i-1", 0}, {"took_ms", NULL, 12}, {"why", "a \"b\"\nc\x01\xff", 0}, {"empty", "", 0}};

static void test_json(void **state)
{
    assert_string_equal(say("it is", fields, 4),
                        "\",\"level\":\"warn\",\"msg\":\"it is\",\"id\":\"i-1\",\"took_ms\":12,"
                        "\"why\":\"a \\\"b\\\"\\u000ac\\u0001\\ufffd\",\"empty\":\"\"}\n");
}

static void test_text(void **state)
{
    log_set_text(true);
    assert_string_equal(say("it is", fields, 4),
                        " WARN  it is id=i-1 took_ms=12 "
                        "why=\"a \\\"b\\\"\\u000ac\\u0001\\ufffd\" empty=\"\"\n");
    assert_string_equal(say("first\nsecond", NULL, 0), " WARN  first\n");
    log_set_text(false);
}

static void test_levels(void **state)
{
    enum log_level level;

    assert_true(log_level_from_name("error", &level));
    log_set_level(level);
    log_warn("this is not seen");
    log_set_level(LOG_INFO);
    assert_false(log_level_from_name("loud", &level));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_json),
        cmocka_unit_test(test_text),
        cmocka_unit_test(test_levels),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
