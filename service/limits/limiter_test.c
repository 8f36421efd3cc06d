/* What is let in, what is refused and how, with the time passed in. */
#include "service/limits/limiter.h"

#include "common/base/clock.h"
#include "sandbox/v1/errors.pb-c.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define REASON(name) SANDBOX__V1__ERROR_REASON__ERROR_REASON_##name

static const struct limits none;

static struct limiter_call call_of(const char *tenant, const struct limits *limits)
{
    return (struct limiter_call){.tenant = tenant, .limits = limits, .now_ns = NS_PER_S};
}

static void expect_quota(const struct status *st, const char *limit, const char *value)
{
    assert_int_equal(st->code, CODE_RESOURCE_EXHAUSTED);
    assert_int_equal(st->reason, REASON(TENANT_QUOTA));
    assert_true(st->retry_ms > 0);
    assert_string_equal(st->detail[0].value, "acme");
    assert_string_equal(st->detail[1].value, limit);
    assert_string_equal(st->detail[2].value, value);
}

static void expect_full(const struct status *st)
{
    assert_int_equal(st->code, CODE_UNAVAILABLE);
    assert_int_equal(st->reason, REASON(POD_FULL));
    assert_true(st->retry_ms > 0);
}

static void test_a_tenant_has_its_own_quota(void **state)
{
    const struct limits two = {.calls = 2};
    struct limiter *l = limiter_new(&none);
    struct limiter_call acme = call_of("acme", &two), other = call_of("other", &two);
    struct share *a, *b, *c;
    struct limiter_counts n;
    struct status st;

    assert_true(limiter_enter(l, &acme, &a, &st));
    assert_true(limiter_enter(l, &acme, &b, &st));
    assert_false(limiter_enter(l, &acme, &c, &st));
    expect_quota(&st, "max-calls", "2");
    assert_true(limiter_enter(l, &other, &c, &st));
    limiter_leave(l, c, false);
    limiter_leave(l, a, false);
    assert_true(limiter_enter(l, &acme, &a, &st));
    limiter_count(l, &n);
    assert_int_equal(n.calls, 2);
    assert_int_equal(n.tenants, 2);
    assert_int_equal(n.refused_tenant, 1);
    assert_int_equal(n.refused_pod, 0);
    limiter_leave(l, a, false);
    limiter_leave(l, b, false);
    limiter_free(l);
}

static void test_streams_count_twice(void **state)
{
    const struct limits limits = {.calls = 3, .streams = 1};
    struct limiter *l = limiter_new(&none);
    struct limiter_call unary = call_of("acme", &limits), stream = unary;
    struct share *a, *b, *c;
    struct status st;

    stream.stream = true;
    assert_true(limiter_enter(l, &stream, &a, &st));
    assert_false(limiter_enter(l, &stream, &b, &st));
    expect_quota(&st, "max-streams", "1");
    assert_true(limiter_enter(l, &unary, &b, &st));
    limiter_leave(l, a, true);
    assert_true(limiter_enter(l, &stream, &c, &st));
    limiter_leave(l, c, true);
    limiter_leave(l, b, false);
    limiter_free(l);
}

static void test_the_pod_is_full_for_everybody(void **state)
{
    const struct limits pod = {.calls = 2, .streams = 1};
    struct limiter *l = limiter_new(&pod);
    struct limiter_call unary = call_of("acme", &none), stream = call_of("other", &none);
    struct share *a, *b, *c;
    struct limiter_counts n;
    struct status st;

    stream.stream = true;
    assert_true(limiter_enter(l, &stream, &a, &st));
    assert_false(limiter_enter(l, &stream, &b, &st));
    expect_full(&st);
    assert_true(limiter_enter(l, &unary, &b, &st));
    assert_false(limiter_enter(l, &unary, &c, &st));
    expect_full(&st);
    limiter_count(l, &n);
    assert_int_equal(n.refused_pod, 2);
    limiter_leave(l, a, true);
    limiter_leave(l, b, false);
    limiter_free(l);
}

static void test_streams_need_memory(void **state)
{
    struct limiter *l = limiter_new(&none);
    struct limiter_call c = call_of("acme", &none);
    struct share *s;
    struct status st;

    c.pressed = true;
    assert_true(limiter_enter(l, &c, &s, &st));
    limiter_leave(l, s, false);
    c.stream = true;
    assert_false(limiter_enter(l, &c, &s, &st));
    expect_full(&st);
    limiter_free(l);
}

static bool create_at(struct limiter *l, const struct limits *limits, int64_t now_ms,
                      struct status *st)
{
    struct limiter_call c = call_of("acme", limits);
    struct share *s;

    c.creates = true;
    c.now_ns = now_ms * NS_PER_MS;
    if (!limiter_enter(l, &c, &s, st))
        return false;
    limiter_leave(l, s, false);
    return true;
}

static void test_the_rate_of_creating(void **state)
{
    const struct limits three = {.creates_per_minute = 3};
    struct limiter *l = limiter_new(&none);
    struct status st;

    for (int i = 0; i < 3; i++)
        assert_true(create_at(l, &three, 1000, &st));
    assert_false(create_at(l, &three, 1000, &st));
    expect_quota(&st, "creates-per-minute", "3");
    assert_int_equal(st.retry_ms, 20001);
    assert_false(create_at(l, &three, 20999, &st));
    assert_true(create_at(l, &three, 21000, &st)); /* one every 20 s */
    assert_false(create_at(l, &three, 21000, &st));
    for (int i = 0; i < 3; i++)
        assert_true(create_at(l, &three, 200000, &st));
    assert_false(create_at(l, &three, 200000, &st));
    limiter_free(l);
}

/* A refusal for another reason does not use up the rate. */
static void test_what_is_refused_is_not_counted(void **state)
{
    const struct limits limits = {.calls = 1, .creates_per_minute = 1};
    struct limiter *l = limiter_new(&none);
    struct limiter_call c = call_of("acme", &limits);
    struct share *s;
    struct status st;

    assert_true(limiter_enter(l, &c, &s, &st));
    assert_false(create_at(l, &limits, 1000, &st));
    expect_quota(&st, "max-calls", "1");
    limiter_leave(l, s, false);
    assert_true(create_at(l, &limits, 1000, &st));
    limiter_free(l);
}

static void test_accounts_of_the_idle_are_bounded(void **state)
{
    const struct limits one = {.creates_per_minute = 1};
    struct limiter *l = limiter_new(&none);
    struct limiter_counts n;
    struct share *s;
    struct status st;

    assert_true(create_at(l, &one, 1000, &st));
    for (int i = 0; i < LIMITER_IDLE_MAX - 1; i++) {
        char name[32];
        struct limiter_call c = call_of(name, &none);

        snprintf(name, sizeof(name), "t%d", i);
        assert_true(limiter_enter(l, &c, &s, &st));
        limiter_leave(l, s, false);
    }
    assert_false(create_at(l, &one, 1000, &st)); /* it is remembered, and now the newest */
    limiter_count(l, &n);
    assert_int_equal(n.tenants, LIMITER_IDLE_MAX);
    for (int i = 0; i < 10; i++) {
        char name[32];
        struct limiter_call c = call_of(name, &none);

        snprintf(name, sizeof(name), "u%d", i);
        assert_true(limiter_enter(l, &c, &s, &st));
        limiter_leave(l, s, false);
    }
    limiter_count(l, &n);
    assert_int_equal(n.tenants, LIMITER_IDLE_MAX);
    limiter_free(l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_tenant_has_its_own_quota),
        cmocka_unit_test(test_streams_count_twice),
        cmocka_unit_test(test_the_pod_is_full_for_everybody),
        cmocka_unit_test(test_streams_need_memory),
        cmocka_unit_test(test_the_rate_of_creating),
        cmocka_unit_test(test_what_is_refused_is_not_counted),
        cmocka_unit_test(test_accounts_of_the_idle_are_bounded),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
