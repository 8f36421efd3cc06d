#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/base/buf.h"
#include "common/base/nearest.h"
#include "common/base/options_page.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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
    assert_string_equal(st.message, "unknown option --cuont; did you mean --count?");
    assert_int_equal(PARSE(&args, &st, "--nothing-like-it"), OPTIONS_ERROR);
    assert_string_equal(st.message, "unknown option --nothing-like-it; see test --help");
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

/* --- the file, names that are wrong, and where values come from --- */

static const char *config, *choice;
static uint8_t sources[6];

static const struct option full_table[] = {
    {"config", 0, "FULL_CONFIG", OPTION_STRING, &config, "FILE", "A file.", .not_in_file = true},
    {"count", 'c', "FULL_COUNT", OPTION_INT, &count, "N", "A number.", 1, 10},
    {"word", 'w', "FULL_WORD", OPTION_STRINGS, &words, "WORD", "A word."},
    {"size", 0, NULL, OPTION_SIZE, &size, "BYTES", "How much.", .section = "More"},
    {"choice", 0, NULL, OPTION_STRING, &choice, "ONE", "Which.", .choices = "red green"},
    {"key", 0, NULL, OPTION_STRING, &text, "KEY", "A secret.", .secret = true},
    {NULL},
};

static const char *const other_names[] = {"FULL_OTHER", NULL};

static const struct program full = {
    .name = "full",
    .summary = "All of it.",
    .usage = "[OPTIONS]",
    .options = full_table,
    .tells_defaults = true,
    .file_option = "config",
    .env_prefix = "FULL_",
    .env_others = other_names,
    .sources = sources,
    .print_page = options_page,
};

static char path[] = "/tmp/options_test.XXXXXX";

static void write_config(const char *content)
{
    FILE *to = fopen(path, "w");

    assert_non_null(to);
    fputs(content, to);
    assert_int_equal(fclose(to), 0);
}

static enum options_result parse_full(const char *a, const char *b, struct status *st)
{
    const char *argv[] = {"full", "--config", path, a, b, NULL};
    int at;

    count = size = -1;
    text = choice = config = NULL;
    words.n = 0;
    *st = STATUS_INIT;
    return options_parse(&full, 3 + (a != NULL) + (b != NULL), (char **)argv, &at, st);
}

static int full_setup(void **state)
{
    int fd = mkstemp(path);

    return fd < 0 ? -1 : close(fd);
}

static int full_teardown(void **state)
{
    unlink(path);
    strcpy(path + strlen(path) - 6, "XXXXXX");
    unsetenv("FULL_COUNT");
    unsetenv("FULL_WORD");
    return 0;
}

static void test_stronger_sources_win(void **state)
{
    struct status st;

    write_config("# a comment\n\n  count =  3\t\r\nword = a b = c\nword=d\nsize=4KiB");
    assert_int_equal(parse_full(NULL, NULL, &st), OPTIONS_RUN);
    assert_int_equal(count, 3);
    assert_int_equal(size, 4096);
    assert_int_equal(words.n, 2);
    assert_string_equal(words.at[0], "a b = c");
    assert_int_equal(sources[1], OPTION_FROM_FILE);
    assert_int_equal(sources[4], OPTION_DEFAULT);

    setenv("FULL_COUNT", "4", 1);
    setenv("FULL_WORD", "e", 1);
    assert_int_equal(parse_full("--size=1", NULL, &st), OPTIONS_RUN);
    assert_int_equal(count, 4);
    assert_int_equal(size, 1);
    assert_int_equal(words.n, 1);
    assert_string_equal(words.at[0], "e");
    assert_int_equal(sources[1], OPTION_FROM_ENV);
    assert_int_equal(sources[3], OPTION_FROM_FLAG);

    assert_int_equal(parse_full("-c", "5", &st), OPTIONS_RUN);
    assert_int_equal(count, 5);
    assert_int_equal(parse_full("-w=x", "-w=y", &st), OPTIONS_RUN);
    assert_int_equal(words.n, 2);
    assert_string_equal(words.at[0], "x");
}

static void test_what_a_file_must_not_say(void **state)
{
    static const struct {
        const char *content, *says;
    } cases[] = {
        {"\ncuont = 3", ":2: there is no option cuont; did you mean count?"},
        {"colour = 3", ":1: there is no option colour"},
        {"--count = 3", ":1: there is no option --count; did you mean count?"},
        {"count", ":1: write name = value"},
        {"count = 11", ":1: 11 is outside 1 to 10"},
        {"count =", ":1:  is not a whole number"},
        {"count = 3 # three", ":1: 3 # three is not a whole number"},
        {"count = 3\ncount = 3", ":2: count is set for the second time"},
        {"config = /tmp/x", ":1: config cannot be set in a file"},
        {"choice = blue", ":1: blue is none of: red green"},
        {"choice = re", ":1: re is none of: red green"},
        {"= 3", ":1: there is no option "},
    };
    struct status st;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        write_config(cases[i].content);
        assert_int_equal(parse_full(NULL, NULL, &st), OPTIONS_ERROR);
        assert_memory_equal(st.message, path, strlen(path));
        assert_memory_equal(st.message + strlen(path), cases[i].says, strlen(cases[i].says));
    }
    unlink(path);
    assert_int_equal(parse_full(NULL, NULL, &st), OPTIONS_ERROR);
    assert_non_null(strstr(st.message, "No such file"));
}

static void test_unknown_variables(void **state)
{
    static const struct {
        const char *name, *value, *says; /* NULL: it is let be */
    } cases[] = {
        {"FULL_CUONT", "3",
         "the environment has FULL_CUONT, which is no option of full; did you "
         "mean FULL_COUNT?"},
        {"FULL_CONFIGURATION_OF_IT_ALL", "",
         "the environment has FULL_CONFIGURATION_OF_IT_ALL, "
         "which is no option of full"},
        {"FULL_PORT", "50051",
         "the environment has FULL_PORT, which is no option of full; did you "
         "mean FULL_WORD?"},
        {"FULL_OTHER", "3", NULL},
        {"FULLY", "3", NULL},
        {"FULL_PORT", "tcp://10.0.0.1:50051", NULL},
        {"FULL_SERVICE_HOST", "10.0.0.1", NULL},
        {"FULL_SERVICE_PORT_GRPC", "50051", NULL},
        {"FULL_PORT_50051_TCP_ADDR", "10.0.0.1", NULL},
    };
    struct status st;

    write_config("");
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        setenv(cases[i].name, cases[i].value, 1);
        assert_int_equal(parse_full(NULL, NULL, &st),
                         cases[i].says == NULL ? OPTIONS_RUN : OPTIONS_ERROR);
        if (cases[i].says != NULL)
            assert_string_equal(st.message, cases[i].says);
        unsetenv(cases[i].name);
    }
}

static void test_values_as_they_are_written(void **state)
{
    static const struct {
        enum option_type type;
        int64_t value;
        const char *text;
    } cases[] = {
        {OPTION_DURATION, 0, "0s"},
        {OPTION_DURATION, 1, "1ms"},
        {OPTION_DURATION, 1500, "1500ms"},
        {OPTION_DURATION, 15000, "15s"},
        {OPTION_DURATION, 600000, "10m"},
        {OPTION_DURATION, 7200000, "2h"},
        {OPTION_SIZE, 0, "0"},
        {OPTION_SIZE, 4096, "4KiB"},
        {OPTION_SIZE, 4097, "4097"},
        {OPTION_SIZE, 4 << 20, "4MiB"},
        {OPTION_INT, 1000, "1000"},
    };
    struct buf value = BUF_INIT(64);

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        int64_t number = cases[i].value;
        struct option o = {.name = "o", .type = cases[i].type, .target = &number};

        buf_clear(&value);
        options_value(&o, &value);
        assert_string_equal(buf_str(&value), cases[i].text);
    }
    text = "hush";
    buf_clear(&value);
    options_value(&full_table[5], &value);
    assert_string_equal(buf_str(&value), "***");
    buf_deinit(&value);
}

/* Every page names every option; what a page tells a shell or man is checked with the real ones in
 * tests/e2e. */
static void test_pages_name_all_options(void **state)
{
    static const char *const kinds[] = {"man", "markdown", "bash", "zsh", "fish", "config"};

    count = size = 1;
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        char *page = NULL;
        size_t len;
        FILE *to = open_memstream(&page, &len);

        assert_true(options_page(&full, kinds[i], to));
        fclose(to);
        for (const struct option *o = full_table; o->name != NULL; o++)
            assert_true((strstr(page, o->name) != NULL) ==
                        !(o->not_in_file && strcmp(kinds[i], "config") == 0));
        free(page);
    }
    assert_false(options_page(&full, "html", stdout));
}

static void test_distances(void **state)
{
    static const struct {
        const char *a, *b;
        size_t distance;
    } cases[] = {
        {"", "", 0},
        {"a", "", 1},
        {"", "abc", 3},
        {"listen", "listen", 0},
        {"lsiten", "listen", 1},
        {"listn", "listen", 1},
        {"kitten", "sitting", 3},
    };
    char longest[NEAREST_NAME_MAX + 2] = "";

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_int_equal(
            nearest_distance(cases[i].a, strlen(cases[i].a), cases[i].b, strlen(cases[i].b)),
            cases[i].distance);
    memset(longest, 'x', sizeof(longest) - 1);
    assert_int_equal(nearest_distance(longest, NEAREST_NAME_MAX, longest, NEAREST_NAME_MAX), 0);
    assert_true(nearest_distance(longest, NEAREST_NAME_MAX + 1, longest, NEAREST_NAME_MAX) >
                NEAREST_NAME_MAX);
}

#define FULL_TEST(name) cmocka_unit_test_setup_teardown(name, full_setup, full_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_both_forms_are_the_same),
        cmocka_unit_test(test_options_and_operands_mix),
        cmocka_unit_test(test_a_value_is_not_taken_from_the_operands),
        cmocka_unit_test(test_command_line_wins_over_environment),
        cmocka_unit_test(test_errors_say_what_to_do),
        cmocka_unit_test(test_options_end_at_the_first_operand),
        FULL_TEST(test_stronger_sources_win),
        FULL_TEST(test_what_a_file_must_not_say),
        FULL_TEST(test_unknown_variables),
        cmocka_unit_test(test_values_as_they_are_written),
        cmocka_unit_test(test_pages_name_all_options),
        cmocka_unit_test(test_distances),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
