/*
 * Finding control groups, on made-up hierarchies in a temporary directory: what a kernel would
 * offer, as plain files. (Only the real kernel refuses writes; the tests of the daemon run there.)
 */
#include "runtime/local/zygote/sandbox_cgroup.h"

#include "common/base/cleanup.h"
#include "common/base/mem.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

static char root[] = "/tmp/cgroup-test-XXXXXX";

static void make(const char *path)
{
    AUTO_FREE char *full = xasprintf("%s/%s", root, path);

    for (char *slash = full + strlen(root) + 1; (slash = strchr(slash, '/')) != NULL; slash++) {
        *slash = '\0';
        mkdir(full, 0755);
        *slash = '/';
    }
    mkdir(full, 0755);
}

static void put(const char *path, const char *text)
{
    AUTO_FREE char *full = xasprintf("%s/%s", root, path);
    FILE *file = fopen(full, "w");

    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static int set_up(void **state)
{
    strcpy(root, "/tmp/cgroup-test-XXXXXX");
    return mkdtemp(root) ? 0 : -1;
}

static int tear_down(void **state)
{
    AUTO_FREE char *command = xasprintf("rm -rf %s", root);

    return system(command);
}

static void expect(const struct sandbox_cgroups *c, enum sandbox_controller which, int version,
                   const char *base)
{
    AUTO_FREE char *full = xasprintf("%s/%s", root, base != NULL ? base : "");

    assert_int_equal(c->controller[which].version, version);
    if (version)
        assert_string_equal(c->controller[which].base, full);
}

static void test_hybrid_with_version_1_controllers(void **state)
{
    struct sandbox_cgroups c;

    make("memory/own/path");
    make("pids");
    make("cpu,cpuacct");
    make("unified");
    put("unified/cgroup.controllers", "hugetlb\n");
    sandbox_cgroups_find(&c, root,
                         "9:name=systemd:/\n8:pids:/\n4:memory:/own/path\n1:cpu,cpuacct:/\n0::/\n",
                         "mine");
    expect(&c, CONTROLLER_MEMORY, 1, "memory/own/path/mine");
    expect(&c, CONTROLLER_PIDS, 1, "pids/mine");
    expect(&c, CONTROLLER_CPU, 1, "cpu,cpuacct/mine");
    sandbox_cgroups_deinit(&c);
}

static void test_version_2_in_its_own_group(void **state)
{
    struct sandbox_cgroups c;

    make("a/mine/stale");
    put("cgroup.controllers", "cpuset cpu io memory pids\n");
    put("a/cgroup.subtree_control", "");
    put("a/mine/cgroup.subtree_control", "");
    sandbox_cgroups_find(&c, root, "0::/a\n", "mine");
    for (int i = 0; i < CONTROLLER_FREEZER; i++)
        expect(&c, (enum sandbox_controller)i, 2, "a/mine");
    /* What an earlier daemon left is gone. */
    AUTO_FREE char *stale = xasprintf("%s/a/mine/stale", root);
    assert_int_equal(access(stale, F_OK), -1);
    AUTO_FREE char *control = xasprintf("%s/a/mine/cgroup.subtree_control", root);
    unlink(control); /* a kernel's group has no files of its own to be removed first */
    sandbox_cgroups_deinit(&c);
}

static void test_version_2_where_only_the_root_may(void **state)
{
    struct sandbox_cgroups c;

    make("mine");
    make("a");
    put("cgroup.controllers", "memory pids\n");
    put("cgroup.subtree_control", "");
    put("mine/cgroup.subtree_control", "");
    sandbox_cgroups_find(&c, root, "0::/a\n", "mine");
    expect(&c, CONTROLLER_MEMORY, 2, "mine");
    expect(&c, CONTROLLER_PIDS, 2, "mine");
    expect(&c, CONTROLLER_CPU, 0, NULL);
    sandbox_cgroups_deinit(&c);
}

static void test_nothing_to_be_had(void **state)
{
    static const char *const selves[] = {"", "garbage", "0::/a\n", "4:memory:/not/there\n", "::\n"};

    for (size_t i = 0; i < sizeof(selves) / sizeof(*selves); i++) {
        struct sandbox_cgroups c;

        sandbox_cgroups_find(&c, root, selves[i], "mine");
        for (int k = 0; k < CONTROLLERS; k++)
            expect(&c, (enum sandbox_controller)k, 0, NULL);
        sandbox_cgroups_deinit(&c);
    }
}

static void expect_text(const char *path, const char *wanted)
{
    AUTO_FREE char *full = xasprintf("%s/%s", root, path);
    AUTO_CLOSE int fd = open(full, O_RDONLY);
    char text[32] = "";

    assert_true(read(fd, text, sizeof(text) - 1) > 0);
    assert_string_equal(text, wanted);
}

static void test_what_was_left_frozen_moves_on(void **state)
{
    struct sandbox_cgroups c;

    make("freezer/mine/old");
    put("freezer/mine/old/freezer.state", "FROZEN");
    sandbox_cgroups_find(&c, root, "5:freezer:/\n", "mine");
    expect_text("freezer/mine/old/freezer.state", "THAWED");
    sandbox_cgroups_deinit(&c);
}

static void test_one_group_of_version_2_serves_all(void **state)
{
    static const struct zygote_limits limits = {.memory_bytes = 100, .pids = 7, .cpu_millis = 500};
    struct status st = STATUS_INIT;
    struct sandbox_cgroup_ways ways;
    struct sandbox_cgroups c;

    make("mine/s1");
    put("cgroup.controllers", "cpu memory pids\n");
    put("cgroup.subtree_control", "");
    put("mine/cgroup.subtree_control", "");
    put("mine/s1/pids.max", "");
    put("mine/s1/memory.max", "");
    put("mine/s1/cpu.max", "");
    sandbox_cgroups_find(&c, root, "0::/\n", "mine");
    assert_true(sandbox_cgroups_make(&c, "s1", &limits, &ways, &st));
    assert_true(ways.group_fd >= 0);
    for (int i = 0; i < CONTROLLERS; i++)
        assert_int_equal(ways.tasks_fd[i], -1);
    assert_true(sandbox_cgroups_join(&ways)); /* clone3() has */
    sandbox_cgroup_ways_deinit(&ways);
    expect_text("mine/s1/cpu.max", "50000 100000");
    sandbox_cgroups_deinit(&c);
}

static void test_limits_are_written(void **state)
{
    static const struct zygote_limits limits = {
        .memory_bytes = 100, .disk_bytes = 20, .pids = 7, .cpu_millis = 1500};
    struct status st = STATUS_INIT;
    struct sandbox_cgroup_ways ways;
    struct sandbox_cgroups c;

    make("pids/mine/s1");
    put("pids/mine/s1/pids.max", "");
    put("pids/mine/s1/tasks", "");
    sandbox_cgroups_find(&c, root, "8:pids:/\n", "mine");
    assert_true(sandbox_cgroups_make(&c, "s1", &limits, &ways, &st));
    assert_int_equal(ways.group_fd, -1);
    assert_true(sandbox_cgroups_join(&ways));
    sandbox_cgroup_ways_deinit(&ways);
    expect_text("pids/mine/s1/pids.max", "7");
    expect_text("pids/mine/s1/tasks", "0");
    assert_false(sandbox_cgroups_make(&c, "s2", &limits, &ways, &st)); /* no such files there */
    assert_int_equal(st.code, CODE_INTERNAL);
    sandbox_cgroups_deinit(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_hybrid_with_version_1_controllers, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_version_2_in_its_own_group, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_version_2_where_only_the_root_may, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_nothing_to_be_had, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_limits_are_written, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_what_was_left_frozen_moves_on, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_one_group_of_version_2_serves_all, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
