#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "service/trace/trace.h"

#include <string.h>

#define ID "4bf92f3577b34da6a3ce929d0e0e4736"
#define SPAN "00f067aa0ba902b7"

static void test_what_is_a_traceparent(void **state)
{
    static const struct {
        const char *text;
        bool valid, sampled;
    } cases[] = {
        {"00-" ID "-" SPAN "-01", true, true},
        {"00-" ID "-" SPAN "-00", true, false},
        {"00-" ID "-" SPAN "-03", true, true},
        {"01-" ID "-" SPAN "-01", true, true},
        {"01-" ID "-" SPAN "-01-more", true, true},
        {"00-" ID "-" SPAN "-01-more", false, false},
        {"01-" ID "-" SPAN "-01more", false, false},
        {"ff-" ID "-" SPAN "-01", false, false},
        {"00-00000000000000000000000000000000-" SPAN "-01", false, false},
        {"00-" ID "-0000000000000000-01", false, false},
        {"00-4BF92F3577B34DA6A3CE929D0E0E4736-" SPAN "-01", false, false},
        {"00-" ID "-" SPAN "-0", false, false},
        {"00-" ID "-" SPAN "-0g", false, false},
        {"00_" ID "-" SPAN "-01", false, false},
        {"00-" ID "_" SPAN "-01", false, false},
        {"00-" ID "-" SPAN "_01", false, false},
        {"", false, false},
        {"00", false, false},
        {NULL, false, false},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct trace *t = trace_parse(cases[i].text, NULL);

        assert_int_equal(t != NULL, cases[i].valid);
        assert_int_equal(trace_is_sampled(t), cases[i].sampled);
        trace_unref(t);
    }
}

static void test_it_comes_out_as_it_went_in(void **state)
{
    struct trace *t = trace_parse("00-" ID "-" SPAN "-01", "a=1,b=2");
    char text[TRACE_PARENT_SIZE], id[TRACE_ID_TEXT];

    trace_format(t, t->span, text);
    assert_string_equal(text, "00-" ID "-" SPAN "-01");
    trace_id_text(t, id);
    assert_string_equal(id, ID);
    assert_string_equal(t->state, "a=1,b=2");
    assert_ptr_equal(trace_ref(t), t);
    trace_unref(t);
    trace_unref(t);
}

static void test_a_child_stays_in_the_trace(void **state)
{
    struct trace *t = trace_parse("00-" ID "-" SPAN "-01", "a=1");
    struct trace *child = trace_child(t, TRACE_SAMPLED), *silent = trace_child(t, 0);

    assert_memory_equal(child->id, t->id, TRACE_ID_LEN);
    assert_memory_equal(child->parent, t->span, TRACE_SPAN_LEN);
    assert_memory_not_equal(child->span, t->span, TRACE_SPAN_LEN);
    assert_memory_not_equal(child->span, silent->span, TRACE_SPAN_LEN);
    assert_string_equal(child->state, "a=1");
    assert_true(trace_is_sampled(child));
    assert_false(trace_is_sampled(silent));
    trace_unref(silent);
    trace_unref(child);
    trace_unref(t);
}

static void test_a_new_one_is_its_own(void **state)
{
    static const uint8_t zeros[TRACE_ID_LEN];
    struct trace *a = trace_new(0), *b = trace_new(TRACE_SAMPLED);

    assert_memory_not_equal(a->id, b->id, TRACE_ID_LEN);
    assert_memory_not_equal(a->id, zeros, TRACE_ID_LEN);
    assert_memory_equal(a->parent, zeros, TRACE_SPAN_LEN);
    assert_false(trace_is_sampled(a));
    trace_unref(a);
    trace_unref(b);
    trace_unref(NULL);
    assert_null(trace_ref(NULL));
}

/* tracestate is somebody else's text: what is no list of members is left out, not repaired. */
static void test_states_that_are_passed_on(void **state)
{
    char long_one[TRACE_STATE_MAX + 2], many[200] = "";
    struct {
        const char *text;
        bool passed;
    } cases[] = {
        {"congo=t61rcWkgMzE,rojo=00f067aa0ba902b7", true},
        {"a=1, b=2", true},
        {"nothing", false},
        {"a=1\n", false},
        {"a=\xc3\xa4", false},
        {long_one, false},
        {many, false},
    };

    memset(long_one, 'x', sizeof(long_one) - 1);
    long_one[1] = '=';
    long_one[sizeof(long_one) - 1] = '\0';
    for (int i = 0; i < 33; i++)
        strcat(many, i == 0 ? "a=1" : ",a=1");
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct trace *t = trace_parse("00-" ID "-" SPAN "-01", cases[i].text);

        assert_string_equal(t->state, cases[i].passed ? cases[i].text : "");
        trace_unref(t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_a_traceparent),
        cmocka_unit_test(test_it_comes_out_as_it_went_in),
        cmocka_unit_test(test_a_child_stays_in_the_trace),
        cmocka_unit_test(test_a_new_one_is_its_own),
        cmocka_unit_test(test_states_that_are_passed_on),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
