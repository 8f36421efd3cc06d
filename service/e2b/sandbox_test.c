/* What is believed of the control plane's JSON, and what is not. */
#include "service/e2b/sandbox.h"

#include "common/base/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static bool parse(const char *text, struct e2b_sandbox *ret)
{
    AUTO_JSON struct json_object *o = json_parse(text, strlen(text));

    return sandbox_from_json(o, ret);
}

#define HEAD                                                                                       \
    "{\"sandboxID\":\"iabc\",\"templateID\":\"base\",\"startedAt\":\"2026-01-02T03:04:05.25Z\","   \
    "\"endAt\":\"2026-01-02T04:04:05+01:00\",\"state\":"

static void test_detail(void **state)
{
    struct e2b_sandbox s;

    assert_true(parse(HEAD "\"paused\",\"cpuCount\":2,\"memoryMB\":512,\"domain\":null,"
                           "\"metadata\":{\"a\":\"b\",\"c\":\"\"},"
                           "\"network\":{\"allowPublicTraffic\":false}}",
                      &s));
    assert_string_equal(s.id, "iabc");
    assert_int_equal(s.state, E2B_PAUSED);
    assert_int_equal(s.start_ns, INT64_C(1767323045) * NS_PER_S + NS_PER_S / 4);
    assert_int_equal(s.end_ns, INT64_C(1767323045) * NS_PER_S);
    assert_int_equal(s.cpu_count, 2);
    assert_int_equal(s.memory_mib, 512);
    assert_null(s.domain);
    assert_false(s.public_traffic);
    assert_string_equal(sandbox_label(&s, "a"), "b");
    assert_string_equal(sandbox_label(&s, "c"), "");
    assert_null(sandbox_label(&s, "d"));
    e2b_sandbox_deinit(&s);
    e2b_sandbox_deinit(&s);
}

static void test_what_is_no_sandbox(void **state)
{
    static const char *const cases[] = {
        "",
        "null",
        "[]",
        "{}",
        "{\"sandboxID\":7}",
        HEAD "\"melted\"}",
        HEAD "7}",
        HEAD "\"running\",\"metadata\":7}",
        HEAD "\"running\",\"metadata\":{\"a\":7}}",
        HEAD "\"running\",\"metadata\":{\"a\":\"x\\u0000y\"}}",
        HEAD "\"running\",\"domain\":\"a\\r\\nX: y\"}",
        HEAD "\"running\"} x",
        "{\"sandboxID\":\"i a\",\"templateID\":\"b\",\"state\":\"running\"}",
        "{\"sandboxID\":\"iabc\",\"templateID\":\"b\",\"state\":\"running\",\"startedAt\":\"now\","
        "\"endAt\":\"2026-01-02T04:04:05Z\"}",
        "<html>",
        "{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":"
        "{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{}}}}}}}}}}}}}}}}}}",
    };
    struct e2b_sandbox s;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_false(parse(cases[i], &s));
    /* Not UTF-8. */
    assert_false(parse("{\"sandboxID\":\"\xff\"}", &s));
}

/* Whatever is cut off: never a sandbox, never a crash. */
static void test_every_prefix_fails(void **state)
{
    static const char whole[] = HEAD "\"running\",\"metadata\":{\"a\":\"b\"}}";
    struct e2b_sandbox s;

    for (size_t len = 0; len < sizeof whole - 1; len++) {
        char *copy = strndup(whole, len);

        assert_false(parse(copy, &s));
        free(copy);
    }
    assert_true(parse(whole, &s));
    e2b_sandbox_deinit(&s);
}

static void test_times(void **state)
{
    static const struct {
        const char *text;
        int64_t ns; /* -1: invalid */
    } cases[] = {
        {"1970-01-01T00:00:00Z", 0},
        {"1970-01-01T00:00:01.000000001Z", NS_PER_S + 1},
        {"1970-01-01T00:00:01.0000000019z", NS_PER_S + 1},
        {"1970-01-01T02:00:00+02:00", 0},
        {"1969-12-31T00:00:00Z", -1},
        {"1970-01-01 00:00:00Z", -1},
        {"1970-01-01T00:00:00", -1},
        {"1970-01-01T00:00:00+2:00", -1},
        {"1970-13-01T00:00:00Z", -1},
        {"1970-01-01T00:00:00Zx", -1},
        {"", -1},
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        AUTO_JSON struct json_object *o = json_object_new_object();
        int64_t ns = -1;

        json_object_object_add(o, "t", json_object_new_string(cases[i].text));
        assert_int_equal(json_time(o, "t", &ns), cases[i].ns >= 0);
        assert_int_equal(ns, cases[i].ns);
    }
}

static void test_list_path(void **state)
{
    struct e2b_pair pairs[] = {{(char *)"a", (char *)"b"}};
    struct e2b_list_args args = {
        .metadata = pairs, .n_metadata = 1, .paused = true, .limit = 7, .page_token = "x=/"};
    char *path = sandbox_list_path(&args, NULL);

    assert_string_equal(path,
                        "/v2/sandboxes?limit=7&state=paused&metadata=a%3Db&nextToken=x%3D%2F");
    free(path);
    path = sandbox_list_path(&(struct e2b_list_args){.limit = 100, .page_token = ""}, NULL);
    assert_string_equal(path, "/v2/sandboxes?limit=100");
    free(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_detail),
        cmocka_unit_test(test_what_is_no_sandbox),
        cmocka_unit_test(test_every_prefix_fails),
        cmocka_unit_test(test_times),
        cmocka_unit_test(test_list_path),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
