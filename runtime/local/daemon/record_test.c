/* What a daemon writes of a sandbox the next one reads, and nothing else passes for it. */
#include "runtime/local/daemon/record.h"

#include "common/base/cleanup.h"
#include "common/base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define ID "iabcdefghij0123456789"

enum { ROOM = 1 << 16 };

static struct sandbox *full(void)
{
    struct sandbox *s = registry_make(ID);

    s->template_id = xstrdup("base");
    s->blueprint = (struct blueprint){
        .rootfs = xstrdup("/srv/a \"root\""),
        .start = xstrdup("start"),
        .ready = xstrdup("ready"),
        .user = xstrdup("somebody"),
        .workdir = xstrdup("/srv"),
        .limits = {1, 2, 3, 4, 5, 6, true},
    };
    pairs_add(&s->blueprint.envs, "NAME", "value");
    memset(s->access_token, 'a', SANDBOX_TOKEN_LEN);
    memset(s->traffic_token, 'b', SANDBOX_TOKEN_LEN);
    pairs_add(&s->metadata, "user", "j\xc3\xb6rg \"the\\first\"\n");
    pairs_add(&s->metadata, "", "");
    pairs_add(&s->metadata, "a", "b");
    creation_key_set(&s->creation, "key-1", "request", 7, NULL);
    s->internet = true;
    s->network = xstrdup("{\"allowOut\":[\"1.1.1.1\"]}");
    s->start_ns = 1795238454406050000;
    s->end_ns = 1795238754406051234;
    s->start_at_ns = 5;
    return s;
}

static struct sandbox *there_and_back(const struct sandbox *s)
{
    AUTO(buf_deinit) struct buf text = BUF_INIT(ROOM);
    struct sandbox *got;

    assert_true(record_write(s, &text, NULL));
    got = record_read(ID, buf_data(&text), buf_len(&text), NULL);
    assert_non_null(got);
    return got;
}

static void assert_same_text(const char *a, const char *b)
{
    if (a == NULL || b == NULL)
        assert_ptr_equal(a, b);
    else
        assert_string_equal(a, b);
}

static void assert_same_pairs(const struct pairs *a, const struct pairs *b)
{
    assert_int_equal(a->n, b->n);
    for (size_t i = 0; i < a->n; i++) {
        assert_string_equal(a->items[i].name, b->items[i].name);
        assert_string_equal(a->items[i].value, b->items[i].value);
    }
}

static void assert_same_blueprint(const struct blueprint *a, const struct blueprint *b)
{
    assert_same_text(a->rootfs, b->rootfs);
    assert_same_text(a->start, b->start);
    assert_same_text(a->ready, b->ready);
    assert_same_text(a->user, b->user);
    assert_same_text(a->workdir, b->workdir);
    assert_same_pairs(&a->envs, &b->envs);
    assert_int_equal(a->limits.memory_bytes, b->limits.memory_bytes);
    assert_int_equal(a->limits.disk_bytes, b->limits.disk_bytes);
    assert_int_equal(a->limits.files, b->limits.files);
    assert_int_equal(a->limits.pids, b->limits.pids);
    assert_int_equal(a->limits.cpu_millis, b->limits.cpu_millis);
    assert_int_equal(a->limits.open_files, b->limits.open_files);
    assert_int_equal(a->limits.on_disk, b->limits.on_disk);
}

static void assert_same(const struct sandbox *a, const struct sandbox *b)
{
    assert_string_equal(a->id, b->id);
    assert_string_equal(a->template_id, b->template_id);
    assert_same_blueprint(&a->blueprint, &b->blueprint);
    assert_string_equal(a->access_token, b->access_token);
    assert_string_equal(a->traffic_token, b->traffic_token);
    assert_same_pairs(&a->metadata, &b->metadata);
    assert_int_equal(a->creation.text != NULL, b->creation.text != NULL);
    if (a->creation.text != NULL)
        assert_true(creation_key_asked_the_same(&a->creation, &b->creation));
    assert_int_equal(a->internet, b->internet);
    assert_same_text(a->network, b->network);
    assert_int_equal(a->start_ns, b->start_ns);
    assert_int_equal(a->end_ns, b->end_ns);
    assert_int_equal(a->start_at_ns, b->start_at_ns);
}

static void test_everything_comes_back(void **state)
{
    struct sandbox *s = full(), *got = there_and_back(s);

    assert_same(s, got);
    registry_unmake(s);
    registry_unmake(got);
}

static void test_nothing_comes_back_as_nothing(void **state)
{
    struct sandbox *s = registry_make(ID), *got;

    s->template_id = xstrdup("base");
    got = there_and_back(s);
    assert_same(s, got);
    assert_string_equal(got->access_token, "");
    assert_null(got->creation.text);
    registry_unmake(s);
    registry_unmake(got);
}

static void test_what_is_no_record_is_refused(void **state)
{
    static const char *const texts[] = {
        "",
        "{",
        "[]",
        "null",
        "{}",
        "{\"version\":1}",
        "{\"version\":1,\"template\":3}",
        "{\"template\":\"base\"}",
        "{\"version\":2,\"template\":\"base\"}",
    };

    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct status st = STATUS_INIT;

        assert_null(record_read(ID, (const uint8_t *)texts[i], strlen(texts[i]), &st));
        assert_int_equal(st.code, CODE_DATA_LOSS);
    }
}

/* Whatever the bytes are, at worst there is no sandbox. */
static void test_a_cut_record_is_refused(void **state)
{
    AUTO(buf_deinit) struct buf text = BUF_INIT(ROOM);
    struct sandbox *s = full();

    assert_true(record_write(s, &text, NULL));
    for (size_t len = 0; len < buf_len(&text); len++)
        assert_null(record_read(ID, buf_data(&text), len, NULL));
    registry_unmake(s);
}

static void test_too_much_is_refused(void **state)
{
    AUTO(buf_deinit) struct buf text = BUF_INIT(256);
    struct status st = STATUS_INIT;
    struct sandbox *s = full();

    assert_false(record_write(s, &text, &st));
    assert_int_equal(st.code, CODE_INVALID_ARGUMENT);
    registry_unmake(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_everything_comes_back),
        cmocka_unit_test(test_nothing_comes_back_as_nothing),
        cmocka_unit_test(test_what_is_no_record_is_refused),
        cmocka_unit_test(test_a_cut_record_is_refused),
        cmocka_unit_test(test_too_much_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
