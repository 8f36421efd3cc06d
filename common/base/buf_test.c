#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/base/buf.h"
#include "common/base/cleanup.h"

#include <string.h>

static void test_append_keeps_order_and_content(void **state)
{
    AUTO(buf_deinit) struct buf b = BUF_INIT(100000);
    size_t total = 0;

    for (int i = 0; i < 2000; i++) {
        uint8_t chunk[37];

        memset(chunk, i & 0xff, sizeof(chunk));
        assert_true(buf_append(&b, chunk, sizeof(chunk)));
        total += sizeof(chunk);
        while (buf_len(&b) > 300) {
            buf_consume(&b, 11);
            total -= 11;
        }
        assert_int_equal(buf_len(&b), total);
        assert_int_equal(buf_data(&b)[buf_len(&b) - 1], i & 0xff);
    }
}

static void test_append_over_the_cap_changes_nothing(void **state)
{
    AUTO(buf_deinit) struct buf b = BUF_INIT(4);

    assert_true(buf_append(&b, "abc", 3));
    assert_false(buf_append(&b, "de", 2));
    assert_false(buf_printf(&b, "%d", 10));
    assert_string_equal(buf_str(&b), "abc");
    assert_true(buf_append_byte(&b, 'd'));
    assert_int_equal(buf_room(&b), 0);
    assert_string_equal(buf_str(&b), "abcd");
}

static void test_take_str_leaves_it_empty(void **state)
{
    AUTO(buf_deinit) struct buf b = BUF_INIT(64);

    buf_append_str(&b, "xyhello");
    buf_consume(&b, 2);
    AUTO_FREE char *s = buf_take_str(&b);
    assert_string_equal(s, "hello");
    assert_int_equal(buf_len(&b), 0);
    assert_string_equal(buf_str(&b), "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_append_keeps_order_and_content),
        cmocka_unit_test(test_append_over_the_cap_changes_nothing),
        cmocka_unit_test(test_take_str_leaves_it_empty),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
