/* The table of upstream failures, row by row as callers meet them; and the retries they lead to. */
#include "service/e2b/errors.h"

#include "common/base/clock.h"
#include "sandbox/v1/errors.pb-c.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define REASON(name) SANDBOX__V1__ERROR_REASON__ERROR_REASON_##name

static void test_table(void **state)
{
    static const struct {
        enum source source;
        int number;
        const char *words;
        enum code code;
        int reason;
        enum again again;
        enum remedy remedy;
    } cases[] = {
        {SOURCE_CURL, CURLE_COULDNT_CONNECT, NULL, CODE_UNAVAILABLE, REASON(E2B_UNAVAILABLE),
         AGAIN_ALWAYS, REMEDY_NONE},
        {SOURCE_CURL, CURLE_GOT_NOTHING, NULL, CODE_UNAVAILABLE, REASON(E2B_UNAVAILABLE),
         AGAIN_IF_SAFE, REMEDY_NONE},
        {SOURCE_CURL, CURLE_PEER_FAILED_VERIFICATION, NULL, CODE_UNAVAILABLE,
         REASON(E2B_UNAVAILABLE), AGAIN_NEVER, REMEDY_NONE},
        {SOURCE_API, 401, "no", CODE_FAILED_PRECONDITION, REASON(E2B_UNAUTHENTICATED), AGAIN_NEVER,
         REMEDY_NONE},
        {SOURCE_CREATE, 403, "blocked", CODE_FAILED_PRECONDITION, REASON(E2B_FORBIDDEN),
         AGAIN_NEVER, REMEDY_NONE},
        {SOURCE_API, 404, "x", CODE_NOT_FOUND, REASON(SANDBOX_NOT_FOUND), AGAIN_NEVER, REMEDY_NONE},
        {SOURCE_CREATE, 404, "x", CODE_NOT_FOUND, REASON(TEMPLATE_NOT_FOUND), AGAIN_NEVER,
         REMEDY_NONE},
        {SOURCE_FILES, 404, "x", CODE_NOT_FOUND, REASON(FILE_NOT_FOUND), AGAIN_NEVER, REMEDY_NONE},
        {SOURCE_API, 409, "x", CODE_UNAVAILABLE, REASON(SANDBOX_BUSY), AGAIN_IF_SAFE, REMEDY_NONE},
        {SOURCE_API, 429, "x", CODE_RESOURCE_EXHAUSTED, REASON(E2B_QUOTA), AGAIN_IF_TOLD,
         REMEDY_NONE},
        {SOURCE_CREATE, 503, "sandbox_capacity_unavailable: x", CODE_UNAVAILABLE,
         REASON(E2B_UNAVAILABLE), AGAIN_ALWAYS, REMEDY_NONE},
        {SOURCE_CREATE, 503, "unconfirmed", CODE_UNAVAILABLE, REASON(E2B_UNAVAILABLE),
         AGAIN_IF_SAFE, REMEDY_NONE},
        {SOURCE_CREATE, 400, "timeout", CODE_INVALID_ARGUMENT, REASON(E2B_REJECTED), AGAIN_NEVER,
         REMEDY_NONE},
        {SOURCE_API, 302, "", CODE_UNAVAILABLE, REASON(E2B_UNAVAILABLE), AGAIN_NEVER, REMEDY_NONE},
        {SOURCE_FILES, 502, "The sandbox was not found", CODE_UNAVAILABLE, REASON(E2B_UNAVAILABLE),
         AGAIN_ALWAYS, REMEDY_LOOK},
        {SOURCE_START, 502, "port is not open", CODE_UNAVAILABLE, REASON(E2B_UNAVAILABLE),
         AGAIN_ALWAYS, REMEDY_LOOK},
        {SOURCE_FILES, 401, "error looking up user 'x'", CODE_INVALID_ARGUMENT,
         REASON(USER_NOT_FOUND), AGAIN_NEVER, REMEDY_USER},
        {SOURCE_FILES, 401, "unauthorized access", CODE_UNAVAILABLE, REASON(E2B_UNAVAILABLE),
         AGAIN_ALWAYS, REMEDY_LOOK},
        {SOURCE_FILES, 400, "path is a directory: /x", CODE_FAILED_PRECONDITION, REASON(NOT_A_FILE),
         AGAIN_NEVER, REMEDY_NONE},
        {SOURCE_FILES, 507, "x", CODE_RESOURCE_EXHAUSTED, REASON(DISK_FULL), AGAIN_NEVER,
         REMEDY_NONE},
        {SOURCE_FILES, 500, "mkdir /a/b: not a directory", CODE_FAILED_PRECONDITION,
         REASON(NOT_A_FILE), AGAIN_NEVER, REMEDY_NONE},
        {SOURCE_START, 500, "x", CODE_UNAVAILABLE, REASON(E2B_UNAVAILABLE), AGAIN_IF_SAFE,
         REMEDY_NONE},
        {SOURCE_CONNECT, CODE_UNAUTHENTICATED, "x", CODE_INVALID_ARGUMENT, REASON(USER_NOT_FOUND),
         AGAIN_NEVER, REMEDY_USER},
        {SOURCE_CONNECT, CODE_DEADLINE_EXCEEDED, "x", CODE_UNAVAILABLE, REASON(E2B_UNAVAILABLE),
         AGAIN_IF_SAFE, REMEDY_NONE},
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct verdict v;

        errors_lookup(cases[i].source, cases[i].number, cases[i].words, &v);
        assert_int_equal(v.st.code, cases[i].code);
        assert_int_equal(v.st.reason, cases[i].reason);
        assert_int_equal(v.again, cases[i].again);
        assert_int_equal(v.remedy, cases[i].remedy);
        assert_true(strlen(v.st.message) > 10);
        if (cases[i].words != NULL)
            assert_non_null(strstr(v.st.message, cases[i].words));
    }
}

/* The lookup has no end of its own: each source must have a rule for whatever number. */
static void test_every_number_has_a_rule(void **state)
{
    for (unsigned source = SOURCE_CURL; source <= SOURCE_CONNECT; source *= 2) {
        for (int number = 0; number < 1000; number++) {
            struct verdict v;

            errors_lookup(source, number, NULL, &v);
            assert_int_not_equal(v.st.code, CODE_OK);
            assert_int_not_equal(v.st.reason, 0);
        }
    }
}

static void test_words_are_made_safe(void **state)
{
    struct verdict v;

    errors_lookup(SOURCE_API, 500, "a\nb\xff\x01", &v);
    assert_non_null(strstr(v.st.message, "a b? "));
}

static void test_connect_codes(void **state)
{
    assert_int_equal(errors_connect_code("canceled"), CODE_CANCELLED);
    assert_int_equal(errors_connect_code("not_found"), CODE_NOT_FOUND);
    assert_int_equal(errors_connect_code("unauthenticated"), CODE_UNAUTHENTICATED);
    assert_int_equal(errors_connect_code("nonsense"), CODE_UNKNOWN);
    assert_int_equal(errors_connect_code(""), CODE_UNKNOWN);
}

static void test_retry_gives_up(void **state)
{
    struct retry r = {0};
    int64_t at, now = 5 * NS_PER_S;

    assert_false(retry_next(&r, AGAIN_NEVER, true, -1, now, INT64_MAX, 0, &at));
    r.attempts = 0;
    assert_false(retry_next(&r, AGAIN_IF_SAFE, false, -1, now, INT64_MAX, 0, &at));
    r.attempts = 0;
    assert_false(retry_next(&r, AGAIN_IF_TOLD, true, -1, now, INT64_MAX, 0, &at));
    r.attempts = 0;
    assert_false(retry_next(&r, AGAIN_ALWAYS, true, -1, now, now + NS_PER_MS, 0, &at));
    r.attempts = 0;
    assert_false(retry_next(&r, AGAIN_IF_TOLD, true, 31000, now, INT64_MAX, 0, &at));
    r.attempts = 0;
    assert_true(retry_next(&r, AGAIN_ALWAYS, false, -1, now, INT64_MAX, 0, &at));
    assert_true(retry_next(&r, AGAIN_ALWAYS, false, -1, now, INT64_MAX, 0, &at));
    assert_false(retry_next(&r, AGAIN_ALWAYS, false, -1, now, INT64_MAX, 0, &at));
}

static void test_retry_waits_longer_each_time(void **state)
{
    int64_t now = 5 * NS_PER_S;

    for (uint64_t random = 0; random < 1000; random++) {
        struct retry r = {0};
        int64_t at, mixed = random * UINT64_C(0x9e3779b97f4a7c15) >> 1;

        assert_true(retry_next(&r, AGAIN_IF_SAFE, true, -1, now, INT64_MAX, mixed, &at));
        assert_in_range(at - now, 50 * NS_PER_MS, 150 * NS_PER_MS);
        assert_true(retry_next(&r, AGAIN_IF_SAFE, true, 0, now, INT64_MAX, mixed, &at));
        assert_in_range(at - now, 100 * NS_PER_MS, 300 * NS_PER_MS);
    }
}

static void test_retry_honours_what_it_was_told(void **state)
{
    struct retry r = {0};
    int64_t at, now = 5 * NS_PER_S;

    assert_true(retry_next(&r, AGAIN_IF_TOLD, false, 2000, now, now + 3 * NS_PER_S, 7, &at));
    assert_in_range(at - now, 2050 * NS_PER_MS, 2150 * NS_PER_MS);
    r.attempts = 0;
    assert_false(retry_next(&r, AGAIN_IF_TOLD, false, 2000, now, now + 2 * NS_PER_S, 7, &at));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_every_number_has_a_rule),
        cmocka_unit_test(test_words_are_made_safe),
        cmocka_unit_test(test_connect_codes),
        cmocka_unit_test(test_retry_gives_up),
        cmocka_unit_test(test_retry_waits_longer_each_time),
        cmocka_unit_test(test_retry_honours_what_it_was_told),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
