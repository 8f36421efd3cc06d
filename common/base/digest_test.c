/* Base64 and SHA-256 against their specifications' vectors. */
#include "common/base/base64.h"
#include "common/base/sha256.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static void hex_of(const uint8_t *digest, char *to)
{
    for (int i = 0; i < SHA256_LEN; i++)
        snprintf(to + 2 * i, 3, "%02x", digest[i]);
}

static void test_sha256_known_vectors(void **state)
{
    static const struct {
        const char *text;
        const char *hex;
    } cases[] = {
        {"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
        {"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
        {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
         "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
    };
    uint8_t digest[SHA256_LEN];
    char hex[65];

    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct sha256 h;

        sha256_init(&h);
        sha256_update(&h, cases[i].text, strlen(cases[i].text));
        sha256_final(&h, digest);
        hex_of(digest, hex);
        assert_string_equal(hex, cases[i].hex);
    }
}

static void test_sha256_pieces_do_not_matter(void **state)
{
    struct sha256 h;
    uint8_t digest[SHA256_LEN];
    char hex[65];

    sha256_init(&h);
    for (int i = 0; i < 1000000; i += 8)
        sha256_update(&h, "aaaaaaaa", 8);
    sha256_final(&h, digest);
    hex_of(digest, hex);
    assert_string_equal(hex, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

static void test_base64_both_ways(void **state)
{
    static const char *const cases[][2] = {
        {"", ""},
        {"f", "Zg=="},
        {"fo", "Zm8="},
        {"foo", "Zm9v"},
        {"foob", "Zm9vYg=="},
        {"fooba", "Zm9vYmE="},
        {"foobar", "Zm9vYmFy"},
        {"\xff\xfe", "//4="},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        const char *plain = cases[i][0], *coded = cases[i][1];
        char text[16] = "";
        uint8_t bytes[16];
        size_t len;

        assert_int_equal(base64_encode(text, plain, strlen(plain)), strlen(coded));
        assert_string_equal(text, coded);
        assert_true(base64_decode(bytes, coded, strlen(coded), &len));
        assert_int_equal(len, strlen(plain));
        assert_memory_equal(bytes, plain, len);
        assert_true(base64_decode(bytes, coded, strcspn(coded, "="), &len));
        assert_int_equal(len, strlen(plain));
    }
}

static void test_base64_refuses_what_is_none(void **state)
{
    static const char *const cases[] = {"A", "A===", "Zg=", "Zm9v!", "Zm 9", "====", "Zg==Zg=="};
    uint8_t bytes[16];
    size_t len;

    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
        assert_false(base64_decode(bytes, cases[i], strlen(cases[i]), &len));
    assert_true(base64_decode(bytes, "__-_", 4, &len));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sha256_known_vectors),
        cmocka_unit_test(test_sha256_pieces_do_not_matter),
        cmocka_unit_test(test_base64_both_ways),
        cmocka_unit_test(test_base64_refuses_what_is_none),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
