/* Addresses, the metadata filter's encoding, and what is remembered of sandboxes. */
#include "service/e2b/url.h"

#include "common/base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct e2b e2b_with(const char *api_url, const char *sandbox_url)
{
    return (struct e2b){
        .config = {.api_key = "k", .domain = "e2b.app", .sandbox_url = sandbox_url},
        .api_url = (char *)api_url,
    };
}

static void expect(char *actual, const char *expected)
{
    assert_string_equal(actual, expected);
    free(actual);
}

static void test_sandbox_base(void **state)
{
    struct e2b cloud = e2b_with("https://api.e2b.app", NULL);
    struct e2b local = e2b_with("http://localhost:3000", NULL);
    struct e2b gate = e2b_with("http://localhost:3000", "http://127.0.0.1:7070/x");

    expect(url_sandbox_base(&cloud, "iabc", NULL), "https://sandbox.e2b.app");
    expect(url_sandbox_base(&cloud, "iabc", "e2b-staging.dev"), "https://sandbox.e2b-staging.dev");
    expect(url_sandbox_base(&cloud, "iabc", "my.org"), "https://49983-iabc.my.org");
    expect(url_sandbox_base(&local, "iabc", "localhost:3000"), "http://49983-iabc.localhost:3000");
    expect(url_sandbox_base(&gate, "iabc", "e2b.app"), "http://127.0.0.1:7070/x");
}

static void check_port(const struct e2b *e, const char *domain, const char *url, const char *host)
{
    char *actual_url, *actual_host;

    url_port(e, "iabc", domain, 8080, &actual_url, &actual_host);
    expect(actual_url, url);
    expect(actual_host, host);
}

static void test_port(void **state)
{
    struct e2b cloud = e2b_with("https://api.e2b.app", NULL);
    struct e2b gate = e2b_with("http://localhost:3000", "http://127.0.0.1:7070");
    struct e2b v6 = e2b_with("http://localhost:3000", "http://[::1]");

    check_port(&cloud, NULL, "https://8080-iabc.e2b.app", "8080-iabc.e2b.app");
    check_port(&cloud, "my.org", "https://8080-iabc.my.org", "8080-iabc.my.org");
    check_port(&gate, "localhost", "http://8080-iabc.localhost:7070", "8080-iabc.localhost:7070");
    check_port(&gate, "localhost:1", "http://8080-iabc.localhost:1", "8080-iabc.localhost:1");
    check_port(&v6, "localhost", "http://8080-iabc.localhost", "8080-iabc.localhost");
}

static void test_escape(void **state)
{
    expect(url_escape("aZ0-._~"), "aZ0-._~");
    expect(url_escape("/a b?c=d&e%\xc3\xa4"), "%2Fa%20b%3Fc%3Dd%26e%25%C3%A4");
    expect(url_escape(""), "");
    expect(url_sandbox_path("../x", "/timeout"), "/sandboxes/..%2Fx/timeout");
}

static void test_metadata(void **state)
{
    struct e2b_pair one[] = {{(char *)"k 1", (char *)"v&2"}};
    struct e2b_pair two[] = {{(char *)"a", (char *)"b"}, {(char *)"c=", (char *)""}};

    /* As the official SDK sends it. */
    expect(url_metadata(one, 1), "k%2525201%3Dv%2525262");
    expect(url_metadata(two, 2), "a%3Db%26c%25253D%3D");
    expect(url_metadata(NULL, 0), "");
}

static void test_address_is_remembered(void **state)
{
    struct address_cache *c = address_cache_new(8, 100);
    struct address a;

    assert_false(address_lookup(c, "s", "a", 1, &a));
    address_note_recorder(c, "s", "a", true, true);
    assert_false(address_lookup(c, "s", "a", 1, &a));
    address_store(c, "s", "a", "d", NULL, 1);
    assert_true(address_lookup(c, "s", "a", 100, &a));
    assert_string_equal(a.domain, "d");
    assert_null(a.token);
    assert_false(a.has_recorder);
    address_deinit(&a);
    address_deinit(&a);
    assert_false(address_lookup(c, "s", "a", 101, &a));
    assert_false(address_lookup(c, "s", "a", 1, &a));
    address_cache_free(c);
}

static void test_address_recorder_survives_a_new_look(void **state)
{
    struct address_cache *c = address_cache_new(8, 100);
    struct address a;

    address_store(c, "s", "a", NULL, "t", 1);
    address_note_recorder(c, "s", "a", true, false);
    address_store(c, "s", "a", NULL, "u", 50);
    assert_true(address_lookup(c, "s", "a", 140, &a));
    assert_true(a.has_recorder);
    assert_string_equal(a.token, "u");
    address_deinit(&a);
    address_forget(c, "s", "a");
    address_forget(c, "s", "a");
    assert_false(address_lookup(c, "s", "a", 60, &a));
    address_store(c, "s", "a", NULL, "t", 60);
    assert_true(address_lookup(c, "s", "a", 60, &a));
    assert_false(a.has_recorder);
    address_deinit(&a);
    address_cache_free(c);
}

static void test_address_least_used_goes_first(void **state)
{
    struct address_cache *c = address_cache_new(8, 1000);
    struct address a;
    char id[16];

    for (int i = 0; i < 1000; i++) {
        snprintf(id, sizeof id, "i%d", i);
        address_store(c, "s", id, NULL, id, 1);
        assert_true(address_lookup(c, "s", "i0", 1, &a)); /* used all the time */
        assert_string_equal(a.token, "i0");
        address_deinit(&a);
    }
    for (int i = 1; i < 1000; i++) {
        snprintf(id, sizeof id, "i%d", i);
        assert_int_equal(address_lookup(c, "s", id, 1, &a), i >= 993);
        if (i >= 993)
            address_deinit(&a);
    }
    address_cache_free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sandbox_base),
        cmocka_unit_test(test_port),
        cmocka_unit_test(test_escape),
        cmocka_unit_test(test_metadata),
        cmocka_unit_test(test_address_is_remembered),
        cmocka_unit_test(test_address_recorder_survives_a_new_look),
        cmocka_unit_test(test_address_least_used_goes_first),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
