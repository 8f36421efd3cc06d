#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/base/cleanup.h"
#include "common/base/mem.h"
#include "sandbox/v1/commands.pb-c.h"
#include "sandbox/v1/files.pb-c.h"
#include "service/rpc/wire_check.h"

#include <stdlib.h>
#include <string.h>

#define FILES &sandbox__v1__write_files_request__descriptor
#define RUN &sandbox__v1__run_command_request__descriptor

struct example {
    const char *what;
    const ProtobufCMessageDescriptor *type;
    const char *bytes;
    size_t len;
    const char *field; /* "": at fault, but no field is named; NULL: fine */
};

#define BYTES(text) text, sizeof(text) - 1

static void test_each_byte_is_looked_at(void **state)
{
    static const struct example examples[] = {
        {"nothing", FILES, BYTES(""), NULL},
        {"a string", FILES,
         BYTES("\x0a\x03"
               "abc"),
         NULL},
        {"a string with a NUL", FILES,
         BYTES("\x0a\x03"
               "a\0b"),
         "sandbox_id"},
        {"a string that is no UTF-8", FILES,
         BYTES("\x0a\x02"
               "\xc3("),
         "sandbox_id"},
        {"a string that is longer than the rest", FILES,
         BYTES("\x0a\x04"
               "abc"),
         ""},
        {"a length without its end", FILES, BYTES("\x0a\xff"), ""},
        {"a length of 2^64-1", FILES, BYTES("\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), ""},
        {"a varint of eleven bytes", FILES,
         BYTES("\x78\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01"), ""},
        {"field number 0", FILES,
         BYTES("\x02\x01"
               "a"),
         ""},
        {"a group", FILES, BYTES("\x7b\x7c"), ""},
        {"wire type 7", FILES, BYTES("\x7f"), ""},
        {"a cut fixed64", FILES,
         BYTES("\x79"
               "1234567"),
         ""},
        {"a fixed64", FILES,
         BYTES("\x79"
               "12345678"),
         NULL},
        {"a cut fixed32", FILES,
         BYTES("\x7d"
               "123"),
         ""},
        {"a fixed32", FILES,
         BYTES("\x7d"
               "1234"),
         NULL},
        {"an unknown field of any bytes", FILES,
         BYTES("\x7a\x03"
               "\xff\0\xff"),
         NULL},
        {"a nested path with a NUL", FILES,
         BYTES("\x12\x05\x0a\x03"
               "a\0b"),
         "path"},
        {"nested bytes with a NUL", FILES,
         BYTES("\x12\x05\x12\x03"
               "a\0b"),
         NULL},
        {"a nested message that is cut", FILES, BYTES("\x12\x02\x0a\x03"), ""},
    };

    for (size_t i = 0; i < sizeof(examples) / sizeof(examples[0]); i++) {
        const struct example *e = &examples[i];
        struct status st = STATUS_INIT;
        bool ok = wire_check(e->type, (const uint8_t *)e->bytes, e->len, &st);

        if (ok != (e->field == NULL))
            fail_msg("%s: %s", e->what, ok ? "accepted" : st.message);
        if (ok)
            continue;
        assert_int_equal(st.code, CODE_INVALID_ARGUMENT);
        if (strcmp(st.field, e->field) != 0)
            fail_msg("%s: the field is \"%s\"", e->what, st.field);
    }
}

/* What gets through can be unpacked or refused, but never reads beyond its end (see --config=asan).
 */
static void test_random_bytes_are_survived(void **state)
{
    srandom(7);
    for (int i = 0; i < 200000; i++) {
        size_t len = (size_t)(random() % 40);
        AUTO_FREE uint8_t *bytes = xmalloc(len + 1);
        struct status st = STATUS_INIT;
        ProtobufCMessage *m = NULL;

        for (size_t j = 0; j < len; j++)
            bytes[j] = random() % 3 == 0 ? (uint8_t)random() : (uint8_t)(random() % 32);
        bytes = realloc(bytes, len > 0 ? len : 1); /* what lies behind is out of bounds */
        if (wire_check(RUN, bytes, len, &st))
            m = protobuf_c_message_unpack(RUN, NULL, len, bytes);
        if (m != NULL)
            protobuf_c_message_free_unpacked(m, NULL);
    }
}

static void test_many_small_fields_are_too_many(void **state)
{
    size_t n = 128 * 1024;
    AUTO_FREE uint8_t *bytes = xmalloc(2 * (n + 1));
    struct status st = STATUS_INIT;

    for (size_t i = 0; i <= n; i++)
        memcpy(bytes + 2 * i, "\x12", 2); /* an empty file */
    assert_true(wire_check(FILES, bytes, 2 * n, &st));
    assert_false(wire_check(FILES, bytes, 2 * n + 2, &st));
    assert_int_equal(st.code, CODE_INVALID_ARGUMENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_byte_is_looked_at),
        cmocka_unit_test(test_random_bytes_are_survived),
        cmocka_unit_test(test_many_small_fields_are_too_many),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
