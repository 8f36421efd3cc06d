/* Which folders a new daemon takes for abandoned ones: the old whose lock is free. */
#include "runtime/local/daemon/workdir.h"

#include "common/base/cleanup.h"
#include "common/base/mem.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <cmocka.h>

static char base[64];

/* A folder of that name with a lock and a file in a folder. Returns the lock. */
static int make(const char *name, bool old)
{
    AUTO_FREE char *path = xasprintf("%s/%s", base, name);
    AUTO_FREE char *lock = xasprintf("%s/lock", path);
    AUTO_FREE char *inner = xasprintf("%s/base", path);
    AUTO_FREE char *file = xasprintf("%s/file", inner);
    struct timespec times[2] = {{.tv_sec = 1}, {.tv_sec = 1}};
    int fd;

    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(mkdir(inner, 0700), 0);
    close(open(file, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
    fd = open(lock, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    if (old)
        assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
    return fd;
}

static bool is_there(const char *name)
{
    AUTO_FREE char *path = xasprintf("%s/%s", base, name);

    return access(path, F_OK) == 0;
}

static void test_abandoned_folders_are_swept(void **state)
{
    AUTO_CLOSE int held = make("e2b-local-alive0", true);
    struct status st = STATUS_INIT;

    assert_int_equal(flock(held, LOCK_EX), 0);
    close(make("e2b-local-dead00", true));
    close(make("e2b-local-fresh0", false));
    close(make("e2b-local-other-name", true));
    AUTO_FREE char *path = workdir_make(&st);
    assert_non_null(path);
    assert_int_equal(access(path, F_OK), 0);
    assert_true(is_there("e2b-local-alive0"));
    assert_false(is_there("e2b-local-dead00"));
    assert_true(is_there("e2b-local-fresh0"));
    assert_true(is_there("e2b-local-other-name"));
}

static void test_paths_become_absolute(void **state)
{
    struct status st = STATUS_INIT;
    AUTO_FREE char *here = getcwd(NULL, 0), *want = xasprintf("%s/a/b", here);
    AUTO_FREE char *relative = workdir_absolute("a/b", &st);
    AUTO_FREE char *absolute = workdir_absolute("/a/b", &st);

    assert_string_equal(relative, want);
    assert_string_equal(absolute, "/a/b");
}

static int setup(void **state)
{
    strcpy(base, "/tmp/workdir-test-XXXXXX");
    return mkdtemp(base) == NULL || setenv("TMPDIR", base, 1) != 0;
}

static int teardown(void **state)
{
    workdir_remove(base);
    return access(base, F_OK) == 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_abandoned_folders_are_swept),
        cmocka_unit_test(test_paths_become_absolute),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
