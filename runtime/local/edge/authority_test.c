/* The authority: made once, read again, and its certificates hold for their names alone. */
#include "common/base/cleanup.h"
#include "common/base/mem.h"
#include "runtime/local/edge/authority.h"

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char dir[64];

static int make_dir(void **state)
{
    strcpy(dir, "/tmp/tls-test-XXXXXX");
    return mkdtemp(dir) != NULL ? 0 : -1;
}

static char *in_dir(const char *name)
{
    return xasprintf("%s/%s", dir, name);
}

static int remove_dir(void **state)
{
    static const char *const names[] = {"authority.pem", "ca.pem"};

    for (size_t i = 0; i < 2; i++) {
        AUTO_FREE char *path = in_dir(names[i]);

        unlink(path);
    }
    return rmdir(dir);
}

static mode_t mode_of(const char *name)
{
    AUTO_FREE char *path = in_dir(name);
    struct stat info;

    assert_int_equal(stat(path, &info), 0);
    return info.st_mode & 0777;
}

static void test_the_authority_is_made_once(void **state)
{
    AUTO(authority_deinit) struct authority first = {NULL}, second = {NULL};
    struct status st = STATUS_INIT;

    assert_true(authority_load(&first, dir, &st));
    assert_true(authority_load(&second, dir, &st));
    assert_int_equal(X509_cmp(first.certificate, second.certificate), 0);
    assert_int_equal(EVP_PKEY_eq(first.key, second.key), 1);
    assert_int_equal(EVP_PKEY_eq(first.leaf, second.leaf), 0);
    assert_int_equal(mode_of("authority.pem"), 0600);
    assert_int_equal(mode_of("ca.pem"), 0644);
}

static void test_what_clients_trust_has_no_key(void **state)
{
    AUTO(authority_deinit) struct authority a = {NULL};
    struct status st = STATUS_INIT;
    AUTO_FREE char *path = in_dir("ca.pem");
    FILE *f;
    X509 *x;

    assert_true(authority_load(&a, dir, &st));
    f = fopen(path, "r");
    assert_non_null(f);
    assert_null(PEM_read_PrivateKey(f, NULL, NULL, NULL));
    rewind(f);
    x = PEM_read_X509(f, NULL, NULL, NULL);
    fclose(f);
    assert_int_equal(X509_cmp(x, a.certificate), 0);
    X509_free(x);
}

static void test_a_broken_authority_is_refused(void **state)
{
    AUTO(authority_deinit) struct authority a = {NULL};
    AUTO_FREE char *path = in_dir("authority.pem");
    struct status st = STATUS_INIT;
    FILE *f = fopen(path, "w");

    fputs("no key\n", f);
    fclose(f);
    assert_false(authority_load(&a, dir, &st));
    assert_non_null(strstr(st.message, "authority.pem"));
    assert_null(a.leaf);
}

static bool is_trusted(const struct authority *a, X509 *leaf)
{
    X509_STORE *store = X509_STORE_new();
    X509_STORE_CTX *ctx = X509_STORE_CTX_new();
    bool ok;

    X509_STORE_add_cert(store, a->certificate);
    X509_STORE_CTX_init(ctx, store, leaf, NULL);
    X509_STORE_CTX_set_purpose(ctx, X509_PURPOSE_SSL_SERVER);
    X509_STORE_CTX_set_flags(ctx, X509_V_FLAG_X509_STRICT);
    ok = X509_verify_cert(ctx) == 1;
    X509_STORE_CTX_free(ctx);
    X509_STORE_free(store);
    return ok;
}

static void test_certificates_hold_for_their_names(void **state)
{
    static const char *const names[] = {"localhost", "*.example.com", "8000-iabc.localhost",
                                        "127.0.0.1", "::1"};
    static const struct {
        const char *host;
        bool fits;
    } cases[] = {
        {"localhost", true},    {"8000-iabc.example.com", true}, {"8000-iabc.localhost", true},
        {"example.com", false}, {"8001-iabc.localhost", false},  {"a.b.example.com", false},
    };
    AUTO(authority_deinit) struct authority a = {NULL};
    struct status st = STATUS_INIT;
    X509 *leaf;

    assert_true(authority_load(&a, dir, &st));
    leaf = authority_issue(&a, names, 5);
    assert_non_null(leaf);
    assert_true(is_trusted(&a, leaf));
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_int_equal(X509_check_host(leaf, cases[i].host, 0, 0, NULL), cases[i].fits);
    assert_int_equal(X509_check_ip_asc(leaf, "127.0.0.1", 0), 1);
    assert_int_equal(X509_check_ip_asc(leaf, "::1", 0), 1);
    assert_int_equal(X509_check_ip_asc(leaf, "127.0.0.2", 0), 0);
    X509_free(leaf);
}

static void test_names_cannot_bring_others_along(void **state)
{
    static const char *const bad[] = {"", "a,DNS:b", "a b", "a:b", "a\nb", "é.localhost", "a/b"};
    AUTO(authority_deinit) struct authority a = {NULL};
    struct status st = STATUS_INIT;

    assert_true(authority_load(&a, dir, &st));
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_null(authority_issue(&a, &bad[i], 1));
    assert_null(authority_issue(&a, bad, 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_the_authority_is_made_once, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(test_what_clients_trust_has_no_key, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(test_a_broken_authority_is_refused, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(test_certificates_hold_for_their_names, make_dir,
                                        remove_dir),
        cmocka_unit_test_setup_teardown(test_names_cannot_bring_others_along, make_dir, remove_dir),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
