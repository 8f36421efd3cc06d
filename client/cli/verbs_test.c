#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "client/cli/output.h"
#include "client/cli/verbs.h"

#include <stdio.h>
#include <string.h>

static void check_option(const struct verb *verb, const struct option *o,
                         const struct option *others)
{
    if (o->help == NULL || o->help[strlen(o->help) - 1] != '.' ||
        (o->type == OPTION_BOOL) != (o->arg == NULL))
        fail_msg("%s --%s does not explain itself", verb->name, o->name);
    for (; others->name != NULL; others++) {
        if (others == o)
            continue;
        if (strcmp(others->name, o->name) == 0 || (o->letter != 0 && others->letter == o->letter))
            fail_msg("%s has --%s or -%c twice", verb->name, o->name, o->letter);
    }
}

/* Options before the verb may stand behind it, so they must not be taken there. */
static void test_no_option_hides_another(void **state)
{
    for (size_t i = 0; cli_families[i] != NULL; i++) {
        for (const struct verb *v = cli_families[i]; v->name != NULL; v++) {
            size_t n = 0;

            for (const struct option *o = v->options; o != NULL && o->name != NULL; o++, n++) {
                check_option(v, o, v->options);
                check_option(v, o, cli_global_options);
            }
            for (const struct option *o = cli_global_options; o->name != NULL; o++, n++)
                check_option(v, o, cli_global_options);
            assert_true(n < CLI_MAX_OPTIONS);
            assert_true(v->min_operands <= v->max_operands);
        }
    }
}

static void test_maps_are_made_of_pairs(void **state)
{
    const ProtobufCMessageDescriptor *type =
        &sandbox__v1__run_command_request__envs_entry__descriptor;
    struct option_strings from = {.at = {"A=1", "B=x=y", "C="}, .n = 3};
    Sandbox__V1__RunCommandRequest request = SANDBOX__V1__RUN_COMMAND_REQUEST__INIT;

    assert_true(cli_map("env", &from, &request.base, "envs"));
    assert_int_equal(request.n_envs, 3);
    assert_ptr_equal(request.envs[1]->base.descriptor, type);
    assert_string_equal(request.envs[1]->key, "B");
    assert_string_equal(request.envs[1]->value, "x=y");
    assert_string_equal(request.envs[2]->value, "");
    cli_map_free(&request.base, "envs");
    assert_int_equal(request.n_envs, 0);
}

static void test_times_and_durations(void **state)
{
    Google__Protobuf__Timestamp t = GOOGLE__PROTOBUF__TIMESTAMP__INIT;
    Google__Protobuf__Duration d;
    char room[32];

    t.seconds = 1700000000;
    assert_string_equal(cli_time(&t, room), "2023-11-14 22:13:20");
    assert_string_equal(cli_time(NULL, room), "-");
    t.seconds = INT64_MAX;
    assert_string_equal(cli_time(&t, room), "-");
    assert_null(cli_duration(0, &d));
    assert_ptr_equal(cli_duration(90250, &d), &d);
    assert_int_equal(d.seconds, 90);
    assert_int_equal(d.nanos, 250000000);
}

static void test_enums_are_short(void **state)
{
    const ProtobufCEnumDescriptor *states = &sandbox__v1__sandbox__state__descriptor;
    char room[32];

    assert_string_equal(cli_enum(states, 1, "STATE_", room), "running");
    assert_string_equal(cli_enum(states, 1, "", room), "state_running");
    assert_string_equal(cli_enum(states, 77, "STATE_", room), "77");
}

static void test_enums_are_found_by_their_names(void **state)
{
    const ProtobufCEnumDescriptor *type = &sandbox__v1__overflow__descriptor;
    int value = 0;

    assert_true(cli_enum_of("--overflow", type, "OVERFLOW_", "drop-oldest", &value));
    assert_int_equal(value, SANDBOX__V1__OVERFLOW__OVERFLOW_DROP_OLDEST);
    assert_false(cli_enum_of("--overflow", type, "OVERFLOW_", "unspecified", &value));
    assert_false(cli_enum_of("--overflow", type, "OVERFLOW_", "", &value));
    assert_int_equal(value, SANDBOX__V1__OVERFLOW__OVERFLOW_DROP_OLDEST);
}

/* A reason that a later version may add has an exit code too. */
static void test_exit_codes(void **state)
{
    static const struct {
        int reason, code, expected;
    } cases[] = {
        {1, 0, 0},     {1, 7, 7},     {2, 139, 139}, {3, 143, 124}, {4, 143, 124},
        {5, 137, 137}, {6, 137, 137}, {6, 0, 137},   {7, 127, 127}, {7, 0, 126},
        {8, 0, 254},   {0, 0, 254},   {99, 5, 254},
    };
    struct cli cli = {.json = true};

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct sandbox_result result = {
            .exited = true,
            .reason = (Sandbox__V1__Exited__Reason)cases[i].reason,
            .code = cases[i].code,
        };

        assert_int_equal(output_exit_code(&cli, &result), cases[i].expected);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_option_hides_another),
        cmocka_unit_test(test_maps_are_made_of_pairs),
        cmocka_unit_test(test_times_and_durations),
        cmocka_unit_test(test_enums_are_short),
        cmocka_unit_test(test_enums_are_found_by_their_names),
        cmocka_unit_test(test_exit_codes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
