/* Files that are replaced in every way there is, looked at by hand. */
#include "service/identity/watch.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

struct bench {
    char dir[256], a[300], b[300];
    struct watch *watch;
    struct watched files;
    int changes;
};

static void on_changed(struct watched *files)
{
    container_of(files, struct bench, files)->changes++;
}

static void put(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");

    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static void bench_open(struct bench *b)
{
    const char *tmp = getenv("TEST_TMPDIR");

    *b = (struct bench){.changes = 0};
    snprintf(b->dir, sizeof(b->dir), "%s/watch-XXXXXX", tmp != NULL ? tmp : "/tmp");
    assert_non_null(mkdtemp(b->dir));
    snprintf(b->a, sizeof(b->a), "%s/a", b->dir);
    snprintf(b->b, sizeof(b->b), "%s/b", b->dir);
    put(b->a, "1");
    put(b->b, "1");
    b->files.paths[0] = b->a;
    b->files.paths[1] = b->b;
    b->files.changed = on_changed;
    b->watch = watch_new();
    watch_add(b->watch, &b->files);
}

static void bench_close(struct bench *b)
{
    char command[300];

    watch_free(b->watch);
    snprintf(command, sizeof(command), "rm -rf %s", b->dir);
    assert_int_equal(system(command), 0);
}

static void look_twice(struct bench *b)
{
    watch_look(b->watch);
    watch_look(b->watch);
}

static void test_nothing_changes(void **state)
{
    struct bench b;

    bench_open(&b);
    look_twice(&b);
    look_twice(&b);
    assert_int_equal(b.changes, 0);
    bench_close(&b);
}

static void test_written_in_place(void **state)
{
    struct bench b;

    bench_open(&b);
    put(b.a, "22");
    look_twice(&b);
    assert_int_equal(b.changes, 1);
    look_twice(&b);
    assert_int_equal(b.changes, 1);
    bench_close(&b);
}

static void test_told_once_when_all_is_still(void **state)
{
    struct bench b;

    bench_open(&b);
    put(b.a, "22");
    watch_look(b.watch);
    put(b.b, "333");
    watch_look(b.watch);
    assert_int_equal(b.changes, 0); /* it still changes */
    watch_look(b.watch);
    assert_int_equal(b.changes, 1);
    bench_close(&b);
}

static void test_renamed_over(void **state)
{
    struct bench b;
    char other[300];

    bench_open(&b);
    snprintf(other, sizeof(other), "%s/new", b.dir);
    put(other, "1");
    assert_int_equal(rename(other, b.a), 0);
    look_twice(&b);
    assert_int_equal(b.changes, 1);
    bench_close(&b);
}

static void test_gone_and_back(void **state)
{
    struct bench b;

    bench_open(&b);
    assert_int_equal(unlink(b.a), 0);
    look_twice(&b);
    assert_int_equal(b.changes, 1); /* whoever reads it will complain */
    put(b.a, "1");
    look_twice(&b);
    assert_int_equal(b.changes, 2);
    bench_close(&b);
}

/* dir/a -> ..data/a, ..data -> ..1, and ..data is swapped. */
static void test_a_mounted_secret(void **state)
{
    struct bench b;
    char path[400], link_path[400];

    bench_open(&b);
    watch_free(b.watch);
    for (int i = 1; i <= 2; i++) {
        snprintf(path, sizeof(path), "%s/..%d", b.dir, i);
        assert_int_equal(mkdir(path, 0755), 0);
        snprintf(path, sizeof(path), "%s/..%d/a", b.dir, i);
        put(path, "same size");
    }
    snprintf(link_path, sizeof(link_path), "%s/..data", b.dir);
    assert_int_equal(symlink("..1", link_path), 0);
    unlink(b.a);
    assert_int_equal(symlink("..data/a", b.a), 0);
    b.watch = watch_new();
    watch_add(b.watch, &b.files);
    look_twice(&b);
    assert_int_equal(b.changes, 0);
    snprintf(path, sizeof(path), "%s/..tmp", b.dir);
    assert_int_equal(symlink("..2", path), 0);
    assert_int_equal(rename(path, link_path), 0);
    look_twice(&b);
    assert_int_equal(b.changes, 1);
    bench_close(&b);
}

static void test_reading(void **state)
{
    struct buf text = BUF_INIT(4), small = BUF_INIT(3);
    struct bench b;
    struct status st;

    bench_open(&b);
    put(b.a, "1234");
    assert_true(watch_read_file(b.a, &text, &st));
    assert_string_equal(buf_str(&text), "1234");
    assert_false(watch_read_file(b.a, &small, &st));
    assert_non_null(strstr(st.message, "longer than 3"));
    assert_false(watch_read_file("/no/such/file", &small, &st));
    assert_non_null(strstr(st.message, "/no/such/file: No such file"));
    buf_deinit(&text);
    buf_deinit(&small);
    bench_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_changes),
        cmocka_unit_test(test_written_in_place),
        cmocka_unit_test(test_told_once_when_all_is_still),
        cmocka_unit_test(test_renamed_over),
        cmocka_unit_test(test_gone_and_back),
        cmocka_unit_test(test_a_mounted_secret),
        cmocka_unit_test(test_reading),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
