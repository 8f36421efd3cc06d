#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/base/options.h"

#include <stdlib.h>
#include <string.h>

static bool flag;
static int64_t count, wait_ms, size;
static const char *text;

static const struct option table[] = {
    {"flag", 'f', NULL, OPTION_BOOL, &flag, NULL, "A flag."},
    {"count", 'c', "OPTIONS_TEST_COUNT", OPTION_INT, &count, "N", "A number.", 1, 10},
    {"wait", 0, NULL, OPTION_DURATION, &wait_ms, "TIME", "How long."},
    {"size", 0, NULL, OPTION_SIZE, &size, "BYTES", "How much."},
    {"text", 't', NULL, OPTION_STRING, &text, "TEXT", "Words."},
    {NULL},
};

static const struct program program = {"test", "A test.", "[OPTIONS]", table, NULL};

static enum options_result parse(int argc, char **argv, int *args, struct status *st)
{
    flag = false;
    count = wait_ms = size = -1;
    text = NULL;
    return options_parse(&program, argc, argv, args, st);
}

#define PARSE(args, st, ...)                                                                       \
    parse(sizeof((const char *[]){"test", __VA_ARGS__}) / sizeof(char *),                          \
          (char **)(const char *[]){"test", __VA_ARGS__, NULL}, args, st)

static void test_both_forms_are_the_same(void **state)
{
    struct status st = STATUS_INIT;
    int args;

    assert_int_equal(PARSE(&args, &st, "-f", "--count=3", "--wait", "2m", "--size=4KiB", "verb"),
                     OPTIONS_RUN);
    assert_true(flag);
    assert_int_equal(count, 3);
    assert_int_equal(wait_ms, 120000);
    assert_int_equal(size, 4096);
    assert_int_equal(args, 6);
}

static struct option_strings words;

static const struct option mixed_table[] = {
    {"flag", 'f', NULL, OPTION_BOOL, &flag, NULL, "A flag."},
    {"word", 'w', NULL, OPTION_STRINGS, &words, "WORD", "A word."},
    {NULL},
};

static const struct program mixed = {
    .name = "mixed", .summary = "", .usage = "", .options = mixed_table, .anywhere = true};

static void test_options_and_operands_mix(void **state)
{
    static const struct {
        const char *args[8];
        const char *operands[8];
        size_t n_words;
        bool flag;
    } cases[] = {
        {{"a", "b"}, {"a", "b"}, 0, false},
        {{"a", "-f", "b"}, {"a", "b"}, 0, true},
        {{"a", "b", "-f"}, {"a", "b"}, 0, true},
        {{"-w", "x", "a", "--word=y", "-", "-w", "z"}, {"a", "-"}, 3, false},
        {{"a", "b", "--", "-f", "c"}, {"a", "b", "-f", "c"}, 0, false},
        {{"a", "-f", "--", "--", "c", "d"}, {"a", "--", "c", "d"}, 0, true},
        {{"--", "a"}, {"a"}, 0, false},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct status st = STATUS_INIT;
        const char *argv[10] = {"mixed"};
        int argc = 1, at = 0, n = 0;

        while (cases[i].args[argc - 1] != NULL) {
            argv[argc] = cases[i].args[argc - 1];
            argc++;
        }
        flag = false;
        words.n = 0;
        assert_int_equal(options_parse(&mixed, argc, (char **)argv, &at, &st), OPTIONS_RUN);
        assert_int_equal(words.n, cases[i].n_words);
        assert_int_equal(flag, cases[i].flag);
        for (; cases[i].operands[n] != NULL; n++)
            assert_string_equal(argv[at + n], cases[i].operands[n]);
        assert_int_equal(argc - at, n);
    }
}

static void test_a_value_is_not_taken_from_the_operands(void **state)
{
    struct status st = STATUS_INIT;
    const char *argv[] = {"mixed", "a", "--word", NULL};
    int at;

    assert_int_equal(options_parse(&mixed, 3, (char **)argv, &at, &st), OPTIONS_ERROR);
    assert_non_null(strstr(st.message, "--word needs a value"));
}

static void test_command_line_wins_over_environment(void **state)
{
    struct status st = STATUS_INIT;
    int args;

    setenv("OPTIONS_TEST_COUNT", "5", 1);
    assert_int_equal(PARSE(&args, &st, "verb"), OPTIONS_RUN);
    assert_int_equal(count, 5);
    assert_int_equal(PARSE(&args, &st, "-c", "7"), OPTIONS_RUN);
    assert_int_equal(count, 7);
    setenv("OPTIONS_TEST_COUNT", "many", 1);
    assert_int_equal(PARSE(&args, &st, "verb"), OPTIONS_ERROR);
    assert_string_equal(st.message, "OPTIONS_TEST_COUNT: many is not a whole number");
    unsetenv("OPTIONS_TEST_COUNT");
}

static void test_errors_say_what_to_do(void **state)
{
    struct status st = STATUS_INIT;
    int args;

    assert_int_equal(PARSE(&args, &st, "--cuont=3"), OPTIONS_ERROR);
    assert_string_equal(st.message, "unknown option --cuont; see test --help");
    assert_int_equal(PARSE(&args, &st, "--count=11"), OPTIONS_ERROR);
    assert_string_equal(st.message, "--count: 11 is outside 1 to 10");
    assert_int_equal(PARSE(&args, &st, "--wait=3"), OPTIONS_ERROR);
    assert_int_equal(PARSE(&args, &st, "--size=9223372036854775807GiB"), OPTIONS_ERROR);
    assert_int_equal(PARSE(&args, &st, "--text"), OPTIONS_ERROR);
    assert_string_equal(st.message, "--text needs a value: --text=TEXT");
}

static void test_options_end_at_the_first_operand(void **state)
{
    struct status st = STATUS_INIT;
    int args;

    assert_int_equal(PARSE(&args, &st, "-t", "a", "--", "--flag"), OPTIONS_RUN);
    assert_false(flag);
    assert_int_equal(args, 4);
    assert_int_equal(PARSE(&args, &st, "verb", "--flag"), OPTIONS_RUN);
    assert_false(flag);
    assert_int_equal(args, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_both_forms_are_the_same),
        cmocka_unit_test(test_options_and_operands_mix),
        cmocka_unit_test(test_a_value_is_not_taken_from_the_operands),
        cmocka_unit_test(test_command_line_wins_over_environment),
        cmocka_unit_test(test_errors_say_what_to_do),
        cmocka_unit_test(test_options_end_at_the_first_operand),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
