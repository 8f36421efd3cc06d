/* Digests that are gone on with, and those that must not be. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/base/cleanup.h"
#include "runtime/recorder/digest.h"
#include "runtime/recorder/files.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SIZE = DIGEST_STEP + 12345, NAME_SIZE = 80 };

/* A file that is kept twice: after its first DIGEST_STEP bytes, and at its end. */
static struct {
    struct state state;
    int file;
    struct sha256 half;
    uint8_t right[SHA256_LEN];
} bench;

static void add_zeros(struct sha256 *h, size_t len)
{
    static const uint8_t zeros[1 << 16];

    for (size_t n; len > 0; len -= n) {
        n = len < sizeof(zeros) ? len : sizeof(zeros);
        sha256_update(h, zeros, n);
    }
}

static int set_up_all(void **unused)
{
    struct sha256 h;

    (void)unused;
    sha256_init(&bench.half);
    add_zeros(&bench.half, DIGEST_STEP);
    h = bench.half;
    add_zeros(&h, SIZE - 3 - DIGEST_STEP);
    sha256_update(&h, "end", 3);
    sha256_final(&h, bench.right);
    return 0;
}

static int set_up(void **unused)
{
    char path[256];

    (void)unused;
    snprintf(path, sizeof(path), "%.200s/digest-XXXXXX", getenv("TEST_TMPDIR"));
    assert_non_null(mkdtemp(path));
    bench.state = STATE_INIT;
    bench.state.dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bench.file = openat(bench.state.dir, "file", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_int_equal(ftruncate(bench.file, SIZE - 3), 0);
    assert_int_equal(pwrite(bench.file, "end", 3, SIZE - 3), 3);
    return 0;
}

static int tear_down(void **unused)
{
    (void)unused;
    close(bench.file);
    close(bench.state.dir);
    return 0;
}

static bool is_right(const struct state *s)
{
    uint8_t digest[SHA256_LEN];

    assert_true(digest_file(s, bench.file, digest));
    return memcmp(digest, bench.right, SHA256_LEN) == 0;
}

static bool take_name(void *arg, const char *name)
{
    snprintf(arg, NAME_SIZE, "%s", name);
    return true;
}

static int open_kept(void)
{
    return openat(bench.state.dir, "receipts", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

/* Puts this in the place of what the first digest of the file has kept. */
static void replace_kept(const void *data, size_t len)
{
    AUTO_CLOSE int dir = open_kept();
    char name[NAME_SIZE] = "";

    for_each_name(dir, take_name, name);
    assert_string_not_equal(name, "");
    assert_true(file_write(dir, name, data, len));
}

static void test_a_digest_goes_on_where_another_was_stopped(void **state)
{
    struct sha256 other = bench.half;

    (void)state;
    assert_true(is_right(&bench.state));
    assert_true(is_right(&bench.state)); /* nothing is left */
    replace_kept(&bench.half, sizeof(bench.half));
    assert_true(is_right(&bench.state));
    /* It did: what came before was not read again. */
    other.state[3] ^= 1;
    replace_kept(&other, sizeof(other));
    assert_false(is_right(&bench.state));
}

static void test_a_file_that_was_changed_is_read_anew(void **state)
{
    struct timespec times[2];
    struct stat info;

    (void)state;
    assert_true(is_right(&bench.state));
    assert_int_equal(fstat(bench.file, &info), 0);
    times[0] = info.st_atim;
    times[1] = info.st_mtim;
    /* Its size and the time of its change say nothing; the other time passes in ticks. */
    for (struct timespec was = info.st_ctim;
         info.st_ctim.tv_sec == was.tv_sec && info.st_ctim.tv_nsec == was.tv_nsec;) {
        assert_int_equal(pwrite(bench.file, "x", 1, 5), 1);
        assert_int_equal(futimens(bench.file, times), 0);
        assert_int_equal(fstat(bench.file, &info), 0);
    }
    assert_false(is_right(&bench.state));
}

static void test_what_is_no_progress_is_not_believed(void **state)
{
    struct sha256 beyond = bench.half;

    (void)state;
    assert_true(is_right(&bench.state));
    replace_kept(&bench.half, sizeof(bench.half) - 1);
    assert_true(is_right(&bench.state));
    beyond.len = SIZE + 1;
    replace_kept(&beyond, sizeof(beyond));
    assert_true(is_right(&bench.state));
}

static void test_of_a_small_file_nothing_is_kept(void **state)
{
    uint8_t digest[SHA256_LEN];
    AUTO_CLOSE int dir = -1;

    (void)state;
    assert_int_equal(ftruncate(bench.file, DIGEST_STEP - 1), 0);
    assert_true(digest_file(&bench.state, bench.file, digest));
    dir = open_kept();
    assert_int_equal(dir, -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_digest_goes_on_where_another_was_stopped, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_a_file_that_was_changed_is_read_anew, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_what_is_no_progress_is_not_believed, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_of_a_small_file_nothing_is_kept, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, set_up_all, NULL);
}
