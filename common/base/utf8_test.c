#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/base/utf8.h"

#include <stdlib.h>
#include <string.h>

static int sequence(const char *s)
{
    return utf8_sequence((const uint8_t *)s, strlen(s));
}

static void test_sequence_knows_whole_cut_and_wrong(void **state)
{
    assert_int_equal(sequence("a"), 1);
    assert_int_equal(sequence("\xc3\xa9"), 2);
    assert_int_equal(sequence("\xe2\x82\xac"), 3);
    assert_int_equal(sequence("\xf0\x9f\x98\x80"), 4);
    assert_int_equal(sequence("\xe2\x82"), 0);
    assert_int_equal(sequence("\xf0\x9f\x98"), 0);
    assert_int_equal(sequence("\x80"), -1);
    assert_int_equal(sequence("\xc0\xaf"), -1);         /* overlong */
    assert_int_equal(sequence("\xe0\x80\xaf"), -1);     /* overlong */
    assert_int_equal(sequence("\xed\xa0\x80"), -1);     /* surrogate */
    assert_int_equal(sequence("\xf4\x90\x80\x80"), -1); /* above U+10FFFF */
    assert_int_equal(sequence("\xe2\x82 "), -2);        /* one U+FFFD for both bytes */
}

static void test_is_valid_at_every_offset(void **state)
{
    const char *text = "0123456789 gr\xc3\xbc\xc3\x9f dich \xf0\x9f\x98\x80 0123456789";
    size_t len = strlen(text);

    assert_true(utf8_is_valid((const uint8_t *)text, len));
    for (size_t i = 0; i < len; i++) {
        char broken[64];

        memcpy(broken, text, len);
        broken[i] = '\xff';
        assert_false(utf8_is_valid((const uint8_t *)broken, len));
    }
}

static void test_sanitize_keeps_what_is_valid(void **state)
{
    char s[] = "a\xff\xc3\xa9\xe2\x82";

    utf8_sanitize(s);
    assert_string_equal(s, "a?\xc3\xa9??");
}

static void expect_repaired(const void *data, size_t len, const char *expected)
{
    char *text = utf8_repair(data, len);

    assert_string_equal(text, expected);
    free(text);
}

static void test_repair_stands_in_for_what_is_no_text(void **state)
{
    expect_repaired("gr\xc3\xbc\xc3\x9f", 6, "gr\xc3\xbc\xc3\x9f");
    expect_repaired("a\0b", 3,
                    "a\xef\xbf\xbd"
                    "b");
    expect_repaired("\xff\xff", 2, "\xef\xbf\xbd\xef\xbf\xbd");
    expect_repaired("\xe2\x82", 2, "\xef\xbf\xbd"); /* cut: one for the whole */
    expect_repaired("", 0, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sequence_knows_whole_cut_and_wrong),
        cmocka_unit_test(test_is_valid_at_every_offset),
        cmocka_unit_test(test_sanitize_keeps_what_is_valid),
        cmocka_unit_test(test_repair_stands_in_for_what_is_no_text),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
