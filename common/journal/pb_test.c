/* Tests of the hand-written protocol buffers. */
#include "common/journal/pb.h"

#include "common/base/cleanup.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static void test_varint_survives_a_round_trip(void **state)
{
    static const uint64_t values[] = {
        0, 1, 127, 128, 16383, 16384, UINT32_MAX, (uint64_t)1 << 56, INT64_MAX, UINT64_MAX, 300};

    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        uint8_t bytes[PB_VARINT_MAX];
        size_t len = (size_t)(pb_put_varint(bytes, values[i]) - bytes);
        uint64_t back;

        assert_int_equal(pb_varint(bytes, len, &back), (int)len);
        assert_true(back == values[i]);
        for (size_t cut = 0; cut < len; cut++)
            assert_int_equal(pb_varint(bytes, cut, &back), 0);
    }
}

static void test_varint_of_more_than_64_bits_is_refused(void **state)
{
    static const uint8_t eleven[] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
                                     0xff, 0xff, 0xff, 0xff, 0x01};
    static const uint8_t tenth_is_2[] = {0xff, 0xff, 0xff, 0xff, 0xff,
                                         0xff, 0xff, 0xff, 0xff, 0x02};
    uint64_t value;

    assert_int_equal(pb_varint(eleven, sizeof(eleven), &value), -1);
    assert_int_equal(pb_varint(tenth_is_2, sizeof(tenth_is_2), &value), -1);
}

static void test_fields_come_back_as_written(void **state)
{
    AUTO(buf_deinit) struct buf b = BUF_INIT(1024);
    struct pb_field f;

    assert_true(pb_add_uint(&b, 1, 300));
    assert_true(pb_add_uint(&b, 2, 0)); /* left out */
    assert_true(pb_add_bytes(&b, 3, "abc", 3));
    assert_true(pb_add_bytes(&b, 4, "", 0)); /* left out */
    assert_true(pb_add_element(&b, 5, "", 0));
    assert_true(pb_add_time(&b, 6, 0));

    struct pb_reader r = pb_reader(buf_data(&b), buf_len(&b));

    assert_true(pb_next(&r, &f));
    assert_int_equal(f.number, 1);
    assert_int_equal(f.wire, PB_VARINT);
    assert_int_equal(f.value, 300);
    assert_true(pb_next(&r, &f));
    assert_int_equal(f.number, 3);
    assert_int_equal(f.len, 3);
    assert_memory_equal(f.data, "abc", 3);
    assert_true(pb_next(&r, &f));
    assert_int_equal(f.number, 5);
    assert_int_equal(f.len, 0);
    assert_true(pb_next(&r, &f));
    assert_int_equal(f.number, 6);
    assert_int_equal(f.len, 0);
    assert_false(pb_next(&r, &f));
    assert_false(r.malformed);
}

static void test_fixed_fields_are_read(void **state)
{
    static const uint8_t bytes[] = {0x0d, 1, 2, 3, 4, 0x11, 1, 2, 3, 4, 5, 6, 7, 8};
    struct pb_reader r = pb_reader(bytes, sizeof(bytes));
    struct pb_field f;

    assert_true(pb_next(&r, &f));
    assert_int_equal(f.wire, PB_FIXED32);
    assert_int_equal(f.value, 0x04030201);
    assert_true(pb_next(&r, &f));
    assert_int_equal(f.wire, PB_FIXED64);
    assert_true(f.value == UINT64_C(0x0807060504030201));
    assert_false(pb_next(&r, &f));
    assert_false(r.malformed);
}

static void test_malformed_messages_are_told_from_ended_ones(void **state)
{
    static const struct {
        const char *bytes;
        size_t len;
    } table[] = {
        {"\x08", 1},                     /* no value */
        {"\x08\x80", 2},                 /* half a value */
        {"\x0a\x05xy", 4},               /* fewer bytes than said */
        {"\x00\x01", 2},                 /* field 0 */
        {"\x0b\x0c", 2},                 /* a group */
        {"\x0e\x00", 2},                 /* wire type 6 */
        {"\x0d\x01\x02", 3},             /* half a fixed32 */
        {"\x80\x80\x80\x80\x80\x01", 6}, /* a field number of more than 29 bits */
    };

    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct pb_reader r = pb_reader(table[i].bytes, table[i].len);
        struct pb_field f;

        assert_false(pb_next(&r, &f));
        assert_true(r.malformed);
        assert_false(pb_next(&r, &f)); /* stays so */
    }
}

static void test_a_full_buffer_is_said(void **state)
{
    AUTO(buf_deinit) struct buf b = BUF_INIT(4);

    assert_false(pb_add_bytes(&b, 1, "abcdef", 6));
    assert_int_equal(buf_len(&b), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_varint_survives_a_round_trip),
        cmocka_unit_test(test_varint_of_more_than_64_bits_is_refused),
        cmocka_unit_test(test_fields_come_back_as_written),
        cmocka_unit_test(test_fixed_fields_are_read),
        cmocka_unit_test(test_malformed_messages_are_told_from_ended_ones),
        cmocka_unit_test(test_a_full_buffer_is_said),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
