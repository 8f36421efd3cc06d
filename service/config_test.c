#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "service/config.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Also of what tells tests where programs are: the table does not know it. */
static int clear_environment(void **state)
{
    return clearenv();
}

static enum config_result read_config(struct config *c, struct status *st, const char *a,
                                      const char *b)
{
    const char *argv[] = {"sandboxd", a, b, NULL};
    int argc = 1 + (a != NULL) + (b != NULL);

    *st = STATUS_INIT;
    return config_read(c, argc, (char **)argv, st);
}

static void test_local_needs_nothing_else(void **state)
{
    struct config c;
    struct status st;

    assert_int_equal(read_config(&c, &st, "--local", NULL), CONFIG_RUN);
    assert_string_equal(c.listen, "127.0.0.1:50051");
    assert_true(c.workers >= 1);
    assert_int_equal(c.heartbeat_ms, 15000);
    assert_int_equal(c.watch_period_ms, 5000);
    assert_int_equal(c.message_max, 4 << 20);
    assert_true(c.read_file_max >= 4000000 && c.read_file_max < c.message_max);
}

static void test_neither_key_nor_local_names_both(void **state)
{
    struct config c;
    struct status st;

    assert_int_equal(read_config(&c, &st, NULL, NULL), CONFIG_ERROR);
    assert_non_null(strstr(st.message, "E2B_API_KEY"));
    assert_non_null(strstr(st.message, "--local"));
}

static void test_e2b_keeps_its_own_names(void **state)
{
    struct config c;
    struct status st;

    setenv("E2B_API_KEY", "e2b_00", 1);
    setenv("E2B_DOMAIN", "e2b.example", 1);
    setenv("E2B_API_URL", "http://127.0.0.1:1", 1);
    setenv("E2B_SANDBOX_URL", "http://127.0.0.1:2", 1);
    setenv("E2B_TEMPLATE", "mine", 1);
    assert_int_equal(read_config(&c, &st, "--e2b-template=other", NULL), CONFIG_RUN);
    assert_string_equal(c.e2b_api_key, "e2b_00");
    assert_string_equal(c.e2b_domain, "e2b.example");
    assert_string_equal(c.e2b_api_url, "http://127.0.0.1:1");
    assert_string_equal(c.e2b_sandbox_url, "http://127.0.0.1:2");
    assert_string_equal(c.e2b_template, "other");
}

static void test_listen_addresses(void **state)
{
    static const struct {
        const char *listen;
        bool loopback, valid;
    } cases[] = {
        {"127.0.0.1:0", true, true},      {"127.8.9.10:50051", true, true},
        {"localhost:1", true, true},      {"[::1]:65535", true, true},
        {"0.0.0.0:0", false, true},       {"[::]:0", false, true},
        {"10.0.0.1:50051", false, true},  {"127.0.0.1.example.org:1", false, true},
        {"example.org:443", false, true}, {"127.0.0.1", false, false},
        {"127.0.0.1:", false, false},     {"127.0.0.1:65536", false, false},
        {"127.0.0.1:http", false, false}, {":50051", false, false},
        {"50051", false, false},          {"::1:50051", false, false},
        {"[::1:50051", false, false},     {"[]:50051", false, false},
        {"unix:/tmp/s:1", false, false},  {"", false, false},
    };
    struct config c;
    struct status st;
    char listen[80];

    setenv("E2B_API_KEY", "e2b_00", 1);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        snprintf(listen, sizeof(listen), "--listen=%s", cases[i].listen);
        assert_int_equal(read_config(&c, &st, listen, NULL),
                         cases[i].loopback ? CONFIG_RUN : CONFIG_ERROR);
        if (!cases[i].loopback)
            assert_non_null(strstr(st.message, cases[i].valid ? "--insecure" : "HOST:PORT"));
        assert_int_equal(read_config(&c, &st, listen, "--insecure"),
                         cases[i].valid ? CONFIG_RUN : CONFIG_ERROR);
    }
}

static void test_what_makes_no_sense_is_refused(void **state)
{
    static const struct {
        const char *arg, *says;
    } cases[] = {
        {"--no-such-option", "--no-such-option"},   {"--workers=0", "--workers"},
        {"--log-level=loud", "--log-level"},        {"operand", "operand"},
        {"--max-message=1KiB", "--max-message"},    {"--heartbeat-interval=soon", "duration"},
        {"--watch-period=999ms", "--watch-period"},
    };
    struct config c;
    struct status st;

    setenv("E2B_API_KEY", "e2b_00", 1);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(read_config(&c, &st, cases[i].arg, NULL), CONFIG_ERROR);
        assert_non_null(strstr(st.message, cases[i].says));
    }
}

/* One spelling for all: whoever knows the flag knows the variable. */
static void test_variables_are_named_as_the_flags(void **state)
{
    struct config c;
    struct status st;
    char env[80];

    assert_int_equal(read_config(&c, &st, "--local", NULL), CONFIG_RUN);
    for (const struct option *o = c.options; o->name != NULL; o++) {
        if (o->env == NULL) {
            assert_true(o->not_in_file);
            continue;
        }
        snprintf(env, sizeof(env), "SANDBOXD_%s", o->name);
        for (char *at = env; *at != '\0'; at++)
            *at = *at == '-' ? '_' : (char)toupper((unsigned char)*at);
        if (strncmp(o->env, "SANDBOXD_", 9) == 0)
            assert_string_equal(o->env, env);
        else
            assert_true(strncmp(o->env, "E2B_", 4) == 0 || strncmp(o->env, "OTEL_", 5) == 0 ||
                        strncmp(o->env, "AWS_", 4) == 0);
    }
}

static void test_every_option_says_what_a_page_needs(void **state)
{
    struct config c;
    struct status st;

    assert_int_equal(read_config(&c, &st, "--local", NULL), CONFIG_RUN);
    assert_non_null(c.options[0].section);
    for (const struct option *o = c.options; o->name != NULL; o++) {
        assert_true((o->arg == NULL) == (o->type == OPTION_BOOL));
        assert_int_equal(o->help[strlen(o->help) - 1], '.');
        assert_null(strstr(o->help, "Default:")); /* the table tells it */
        for (const struct option *other = o + 1; other->name != NULL; other++) {
            assert_string_not_equal(o->name, other->name);
            assert_true(o->letter == '\0' || o->letter != other->letter);
        }
    }
}

static void test_a_check_does_not_run(void **state)
{
    struct config c;
    struct status st;

    assert_int_equal(read_config(&c, &st, "--check-config", "--local"), CONFIG_DONE);
    assert_int_equal(read_config(&c, &st, "--check-config", NULL), CONFIG_ERROR);
    assert_int_equal(read_config(&c, &st, "--check-config", "--workers=0"), CONFIG_ERROR);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_local_needs_nothing_else, clear_environment),
        cmocka_unit_test_setup(test_neither_key_nor_local_names_both, clear_environment),
        cmocka_unit_test_setup(test_e2b_keeps_its_own_names, clear_environment),
        cmocka_unit_test_setup(test_listen_addresses, clear_environment),
        cmocka_unit_test_setup(test_what_makes_no_sense_is_refused, clear_environment),
        cmocka_unit_test_setup(test_variables_are_named_as_the_flags, clear_environment),
        cmocka_unit_test_setup(test_every_option_says_what_a_page_needs, clear_environment),
        cmocka_unit_test_setup(test_a_check_does_not_run, clear_environment),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
