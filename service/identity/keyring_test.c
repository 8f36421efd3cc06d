/* The file of keys: what it means, and everything that is a mistake in it. */
#include "service/identity/keyring.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* sha256 of "one", "two", "three" */
#define ONE "sha256:7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed"
#define TWO "sha256:3fc4ccfe745870e2c0d99f71f30ff0656c8dedd41cc1d7d3d376b0dbe685e2f3"
#define THREE "sha256:8b5b9db0c13db24256c829aa364aa90c6d2eba318b9232a4ab9313b954d3555f"

static const struct limits defaults = {.calls = 100, .streams = 50, .creates_per_minute = 0};

static bool parse(const char *text, struct keyring **ret, struct status *st)
{
    return keyring_parse(text, strlen(text), &defaults, ret, st);
}

static struct keyring *must_parse(const char *text)
{
    struct keyring *k;
    struct status st = STATUS_INIT;

    if (!parse(text, &k, &st))
        fail_msg("%s", st.message);
    return k;
}

static void test_keys_name_tenants(void **state)
{
    struct keyring *k = must_parse("# ours\n"
                                   "key acme " ONE " ci # since May\r\n"
                                   "\n"
                                   "\tkey acme\t" TWO "\n"
                                   "tenant acme templates=base,python max-streams=3 max-calls=0\n"
                                   "key b-1_x " THREE);
    const struct keyring_tenant *t = keyring_find(k, "one");

    assert_non_null(t);
    assert_string_equal(t->name, "acme");
    assert_ptr_equal(keyring_find(k, "two"), t);
    assert_int_equal(t->n_templates, 2);
    assert_string_equal(t->templates[1], "python");
    assert_int_equal(t->limits.streams, 3);
    assert_int_equal(t->limits.calls, 0);
    t = keyring_find(k, "three");
    assert_string_equal(t->name, "b-1_x");
    assert_int_equal(t->n_templates, 0);
    assert_int_equal(t->limits.calls, 100);
    assert_int_equal(k->n_tenants, 2);
    assert_int_equal(k->n_keys, 3);
    keyring_unref(k);
}

static void test_other_keys_are_nobodys(void **state)
{
    static const char *const others[] = {"", "on", "onee", "One", "one ", " one", ONE};
    struct keyring *k = must_parse("key acme " ONE);
    char *long_one = malloc(KEYRING_KEY_LEN_MAX + 2);

    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
        assert_null(keyring_find(k, others[i]));
    memset(long_one, 'a', KEYRING_KEY_LEN_MAX + 1);
    long_one[KEYRING_KEY_LEN_MAX + 1] = '\0';
    assert_null(keyring_find(k, long_one));
    free(long_one);
    keyring_unref(k);
}

static void test_mistakes(void **state)
{
    static const struct {
        const char *text, *says;
    } cases[] = {
        {"", "no key"},
        {"# nothing\n\n", "no key"},
        {"tenant acme\n", "no key"},
        {"key acme\n", "line 1"},
        {"key acme one\n", "sha256:"},
        {"\nkey acme sha256:77\n", "line 2"},
        {"key acme " ONE "0", "64"},
        {"key acme SHA256:7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed", "64"},
        {"key acme sha256:7692C3AD3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed", "64"},
        {"key acme " ONE " a b", "TENANT"},
        {"key Acme " ONE, "small letters"},
        {"key -acme " ONE, "small letters"},
        {"key acme_ " ONE, "small letters"},
        {"key ac__me " ONE, "small letters"},
        {"key ac.me " ONE, "small letters"},
        {"key a/b " ONE, "small letters"},
        {"key aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa " ONE, "63"},
        {"key a " ONE "\nkey b " ONE, "line 2: this key"},
        {"allow a " ONE, "starts with"},
        {"key a " ONE "\ntenant a max-calls", "NAME=VALUE"},
        {"key a " ONE "\ntenant a max-calls=", "number"},
        {"key a " ONE "\ntenant a max-calls=-1", "number"},
        {"key a " ONE "\ntenant a max-calls=1234567890", "number"},
        {"key a " ONE "\ntenant a max-call=1", "settings"},
        {"key a " ONE "\ntenant a templates=", "none"},
        {"key a " ONE "\ntenant a templates=,", "none"},
        {"key a " ONE "\ntenant a templates=x templates=y", "twice"},
        {"key a " ONE "\ntenant a\ntenant a", "already"},
        {"key a " ONE "\ntenant", "small letters"},
        {"tenant a 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5", "too many words"},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct keyring *k;
        struct status st = STATUS_INIT;

        if (parse(cases[i].text, &k, &st))
            fail_msg("%s was taken", cases[i].text);
        if (strstr(st.message, cases[i].says) == NULL)
            fail_msg("%s: %s", cases[i].text, st.message);
    }
}

static void test_no_text(void **state)
{
    struct keyring *k;
    struct status st;

    assert_false(keyring_parse("key\0a", 5, &defaults, &k, &st));
}

/* Somebody pastes the key where its hash belongs: it must not end in a log. */
static void test_mistakes_do_not_quote(void **state)
{
    struct keyring *k;
    struct status st;

    assert_false(parse("key acme sbx_secretsecret", &k, &st));
    assert_null(strstr(st.message, "secret"));
    assert_false(parse("sbx_secretsecret", &k, &st));
    assert_null(strstr(st.message, "secret"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keys_name_tenants),
        cmocka_unit_test(test_other_keys_are_nobodys),
        cmocka_unit_test(test_mistakes),
        cmocka_unit_test(test_no_text),
        cmocka_unit_test(test_mistakes_do_not_quote),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
