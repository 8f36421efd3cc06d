/* Tables for percent-decoding and query strings. */
#include "common/http/url.h"

#include "common/base/cleanup.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static void test_decode(void **state)
{
    static const struct {
        const char *in;
        bool plus;
        const char *out; /* NULL: refused */
    } cases[] = {
        {"", false, ""},         {"a%20b", false, "a b"}, {"a+b", false, "a+b"},
        {"a+b", true, "a b"},    {"%41%5a", false, "AZ"}, {"%e2%82%ac", false, "\xe2\x82\xac"},
        {"%2541", false, "%41"}, {"%", false, NULL},      {"%4", false, NULL},
        {"%4g", false, NULL},    {"%%41", false, NULL},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        AUTO(buf_deinit) struct buf out = BUF_INIT(64);
        bool ok = url_decode(&out, cases[i].in, strlen(cases[i].in), cases[i].plus);

        assert_int_equal(ok, cases[i].out != NULL);
        if (ok)
            assert_string_equal(buf_str(&out), cases[i].out);
    }
}

static void test_encode(void **state)
{
    AUTO(buf_deinit) struct buf out = BUF_INIT(64);

    assert_true(url_encode(&out, "a b/\xc3\xbc~", 7));
    assert_string_equal(buf_str(&out), "a%20b%2F%C3%BC~");
}

static void test_query(void **state)
{
    static const struct {
        const char *query, *name;
        enum url_query result;
        const char *value;
    } cases[] = {
        {"", "a", URL_QUERY_ABSENT, ""},
        {"a=1&b=2", "b", URL_QUERY_FOUND, "2"},
        {"a=1&a=2", "a", URL_QUERY_FOUND, "1"},
        {"a", "a", URL_QUERY_FOUND, ""},
        {"a=", "a", URL_QUERY_FOUND, ""},
        {"a=b=c", "a", URL_QUERY_FOUND, "b=c"},
        {"ab=1", "a", URL_QUERY_ABSENT, ""},
        {"%61=x+y", "a", URL_QUERY_FOUND, "x y"},
        {"a=%zz", "a", URL_QUERY_BAD, NULL},
        {"a=x%00y", "a", URL_QUERY_BAD, NULL},
        {"a=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "a", URL_QUERY_BAD, NULL},
        {"&&a=1&", "a", URL_QUERY_FOUND, "1"},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        AUTO(buf_deinit) struct buf out = BUF_INIT(16);

        assert_int_equal(url_query_get(cases[i].query, cases[i].name, &out), cases[i].result);
        if (cases[i].value != NULL)
            assert_string_equal(buf_str(&out), cases[i].value);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_decode),
        cmocka_unit_test(test_encode),
        cmocka_unit_test(test_query),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
