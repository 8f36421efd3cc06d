#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/base/cleanup.h"
#include "common/base/timers.h"

#include <stdlib.h>

enum { N = 500 };

static void test_due_timers_come_in_order(void **state)
{
    AUTO(timers_deinit) struct timers t = {0};
    struct timer timers[N] = {0};
    int64_t last = 0;
    size_t left = 0;

    srandom(1);
    for (int round = 0; round < 20; round++) {
        for (int i = 0; i < N; i++) {
            if (random() % 2 == 0)
                timers_set(&t, &timers[i], 1 + random() % 1000);
            else if (random() % 3 == 0)
                timers_stop(&t, &timers[i]);
        }
    }
    for (int i = 0; i < N; i++)
        left += timer_is_set(&timers[i]);
    assert_int_equal(t.n, left);
    for (int64_t now = 0; now <= 1000; now += 10) {
        for (;;) {
            int64_t next = timers_next_ns(&t);
            struct timer *timer = timers_take_due(&t, now);

            if (timer == NULL)
                break;
            assert_false(timer_is_set(timer));
            assert_true(timer->at_ns == next);
            assert_true(next <= now);
            assert_true(next >= last);
            last = next;
            left--;
        }
        assert_true(timers_next_ns(&t) > now);
    }
    assert_int_equal(left, 0);
    assert_true(timers_next_ns(&t) == INT64_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_due_timers_come_in_order),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
