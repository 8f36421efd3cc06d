/* What a template.json may say, and what not; what templates are called. */
#include "runtime/local/daemon/template.h"

#include "common/base/cleanup.h"
#include "common/base/mem.h"
#include "runtime/local/zygote/sandbox_tree.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define N(array) (sizeof(array) / sizeof((array)[0]))
#define MB INT64_C(1048576)

static char folder[] = "/tmp/template_test-XXXXXX";
static const struct zygote_limits options = {.memory_bytes = 77 * MB, .pids = 99};

static int make_folder(void **state)
{
    strcpy(folder + strlen(folder) - 6, "XXXXXX");
    return mkdtemp(folder) != NULL ? 0 : -1;
}

static int remove_folder(void **state)
{
    return sandbox_tree_remove(AT_FDCWD, folder) ? 0 : -1;
}

static void write_template(const char *name, const char *text)
{
    AUTO_FREE char *dir = xasprintf("%s/%s", folder, name);
    AUTO_FREE char *path = xasprintf("%s/template.json", dir);
    FILE *file;

    mkdir(dir, 0755);
    file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static void assert_refused(const char *error)
{
    struct status st = STATUS_INIT;
    struct templates t;

    assert_false(templates_read(&t, folder, 1, &options, &st));
    assert_int_equal(st.code, CODE_INVALID_ARGUMENT);
    if (strstr(st.message, error) == NULL)
        fail_msg("'%s' is not in '%s'", error, st.message);
}

static void test_mistakes_are_named(void **state)
{
    static const struct {
        const char *text, *error;
    } cases[] = {
        {"{\"rootFs\": \"x\"}", "rootFs is not a key of a template"},
        {"{\"rootfs\": \"missing\"}", "missing: No such file or directory"},
        {"{\"rootfs\": 1}", "rootfs must be the path of a directory"},
        {"{\"rootfs\": \"template.json\"}", "is no directory"},
        {"{\"rootfs\": \"/\"}", "rootfs is the host's own root"},
        {"{\"memoryMB\": 15}", "memoryMB must be a whole number from 16 to 1073741824"},
        {"{\"memoryMB\": 99.5}", "memoryMB must be a whole number"},
        {"{\"memoryMB\": \"99\"}", "memoryMB must be a whole number"},
        {"{\"memoryMB\": 99999999999999999999}", "memoryMB must be a whole number"},
        {"{\"diskSizeMB\": 0}", "diskSizeMB must be a whole number"},
        {"{\"inodes\": 999}", "inodes must be a whole number from 1000"},
        {"{\"pids\": null}", "pids must be a whole number from 16"},
        {"{\"openFiles\": true}", "openFiles must be a whole number from 64"},
        {"{\"cpuCount\": 0}", "cpuCount must be a number from 0.01 to 1000"},
        {"{\"cpuCount\": \"1\"}", "cpuCount must be a number"},
        {"{\"disk\": \"tape\"}", "disk must be \"memory\" or \"disk\""},
        {"{\"disk\": true}", "disk must be \"memory\" or \"disk\""},
        {"{\"workdir\": \"here\"}", "workdir must be an absolute path"},
        {"{\"user\": \"\"}", "user must be a string that is not empty"},
        {"{\"startCmd\": \"a\\u0000b\"}", "startCmd must be a string"},
        {"{\"readyCmd\": [\"true\"]}", "readyCmd must be a string"},
        {"{\"envs\": []}", "envs must be an object of strings"},
        {"{\"envs\": {\"A\": 1}}", "envs must be an object of strings"},
        {"{\"envs\": {\"A=B\": \"c\"}}", "envs must have names"},
        {"{\"envs\": {\"\": \"c\"}}", "envs must have names"},
        {"{\"aliases\": \"x\"}", "aliases must be a list of names"},
        {"{\"aliases\": [\"Big\"]}", "aliases must be names of 1 to 64"},
        {"{\"aliases\": [\"base\"]}", "aliases has 'base'"},
        {"{\"aliases\": [\"web\"]}", "aliases has 'web'"},
        {"{\"aliases\": [\"x\", \"x\"]}", "aliases has 'x'"},
        {"{\"user\": ", "is no JSON"},
        {"{\"user\": \"\xff\"}", "is no JSON"},
        {"{} {}", "is no JSON"},
        {"", "is no JSON"},
        {"[]", "must be an object"},
        {"null", "is no JSON object"},
    };

    for (size_t i = 0; i < N(cases); i++) {
        write_template("web", cases[i].text);
        assert_refused("template web/template.json: ");
        assert_refused(cases[i].error);
    }
}

static void test_folders_have_a_name_and_a_file(void **state)
{
    AUTO_FREE char *file = NULL;

    write_template("web", "{}");
    write_template("Not a name", "{}");
    assert_refused("template Not a name: its folder's name must be");
    remove_folder(state);
    make_folder(state);
    write_template("two", "{\"aliases\": [\"same\"]}");
    write_template("three", "{\"aliases\": [\"same\"]}");
    assert_refused("aliases has 'same'");
    remove_folder(state);
    assert_refused("cannot be read");
    make_folder(state);
    write_template("web", "{}");
    file = xasprintf("%s/web/template.json", folder);
    unlink(file);
    assert_refused("template web/template.json: cannot be read: No such file");
}

static void test_everything_is_read(void **state)
{
    AUTO_FREE char *root = xasprintf("%s/web/root", folder);
    AUTO(templates_deinit) struct templates t = {NULL, 0};
    struct status st = STATUS_INIT;
    const struct template *web;

    write_template("web", "{\"rootfs\": \"root\", \"startCmd\": \"a\", \"readyCmd\": \"b\", "
                          "\"envs\": {\"A\": \"1\", \"B\": \"\"}, \"user\": \"u\", "
                          "\"workdir\": \"/w\", \"aliases\": [\"site\"], \"disk\": \"disk\", "
                          "\"memoryMB\": 100, \"cpuCount\": 1.5, \"diskSizeMB\": 200, "
                          "\"inodes\": 3000, \"pids\": 40, \"openFiles\": 500}");
    assert_int_equal(mkdir(root, 0755), 0);
    assert_true(templates_read(&t, folder, 1, &options, &st));
    assert_int_equal(t.n, 2);
    web = templates_get(&t, "web");
    assert_non_null(web);
    assert_string_equal(web->blueprint.rootfs, root);
    assert_string_equal(web->blueprint.start, "a");
    assert_string_equal(web->blueprint.ready, "b");
    assert_string_equal(web->blueprint.user, "u");
    assert_string_equal(web->blueprint.workdir, "/w");
    assert_string_equal(pairs_get(&web->blueprint.envs, "A"), "1");
    assert_string_equal(pairs_get(&web->blueprint.envs, "B"), "");
    assert_int_equal(web->blueprint.limits.memory_bytes, 100 * MB);
    assert_int_equal(web->blueprint.limits.disk_bytes, 200 * MB);
    assert_int_equal(web->blueprint.limits.cpu_millis, 1500);
    assert_int_equal(web->blueprint.limits.files, 3000);
    assert_int_equal(web->blueprint.limits.pids, 40);
    assert_int_equal(web->blueprint.limits.open_files, 500);
    assert_true(web->blueprint.limits.on_disk);
    assert_true(web->changed_ns > 1);
}

static void test_what_is_not_said_is_as_the_options_say(void **state)
{
    AUTO(templates_deinit) struct templates t = {NULL, 0};

    write_template("base", "{\"pids\": 50}\n");
    write_template("web", "{}");
    assert_true(templates_read(&t, folder, 1, &options, &(struct status){CODE_OK}));
    assert_int_equal(t.n, 2);
    for (size_t i = 0; i < t.n; i++) {
        assert_int_equal(t.items[i].blueprint.limits.memory_bytes, 77 * MB);
        assert_int_equal(t.items[i].blueprint.limits.pids, i == 0 ? 50 : 99);
        assert_true(t.items[i].blueprint.limits.files > 0);
        assert_null(t.items[i].blueprint.rootfs);
    }
    assert_string_not_equal(t.items[0].build_id, t.items[1].build_id);
}

static void test_references(void **state)
{
    static const struct {
        const char *reference;
        enum template_result result;
        const char *id;
    } cases[] = {
        {"base", TEMPLATE_FOUND, "base"},
        {"Base", TEMPLATE_FOUND, "base"},
        {"base:default", TEMPLATE_FOUND, "base"},
        {"local/base", TEMPLATE_FOUND, "base"},
        {"web", TEMPLATE_FOUND, "web"},
        {"SITE", TEMPLATE_FOUND, "web"},
        {"local/site:default", TEMPLATE_FOUND, "web"},
        {"base:v1.2", TEMPLATE_UNKNOWN, NULL},
        {"team/base", TEMPLATE_UNKNOWN, NULL},
        {"other", TEMPLATE_UNKNOWN, NULL},
        {"sit", TEMPLATE_UNKNOWN, NULL},
        {"", TEMPLATE_MALFORMED, NULL},
        {"a b", TEMPLATE_MALFORMED, NULL},
        {"base:", TEMPLATE_MALFORMED, NULL},
        {"base:a:b", TEMPLATE_MALFORMED, NULL},
        {"/base", TEMPLATE_MALFORMED, NULL},
        {"a/b/c", TEMPLATE_MALFORMED, NULL},
        {"../base", TEMPLATE_MALFORMED, NULL},
    };
    AUTO(templates_deinit) struct templates t = {NULL, 0};

    write_template("web", "{\"aliases\": [\"site\"]}");
    assert_true(templates_read(&t, folder, 1, &options, &(struct status){CODE_OK}));
    for (size_t i = 0; i < N(cases); i++) {
        struct template *found;

        assert_int_equal(templates_find(&t, cases[i].reference, &found), cases[i].result);
        if (cases[i].id != NULL)
            assert_string_equal(found->id, cases[i].id);
        else
            assert_null(found);
    }
}

static void test_counts_outlive_a_change(void **state)
{
    AUTO(templates_deinit) struct templates t = {NULL, 0}, fresh = {NULL, 0};

    write_template("web", "{}");
    assert_true(templates_read(&t, folder, 1, &options, &(struct status){CODE_OK}));
    templates_get(&t, "web")->n_spawned = 3;
    write_template("web", "{\"user\": \"u\"}");
    write_template("more", "{}");
    assert_true(templates_read(&fresh, folder, 1, &options, &(struct status){CODE_OK}));
    templates_replace(&t, &fresh);
    assert_int_equal(t.n, 3);
    assert_int_equal(templates_get(&t, "web")->n_spawned, 3);
    assert_string_equal(templates_get(&t, "web")->blueprint.user, "u");
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, make_folder, remove_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_mistakes_are_named), TEST(test_folders_have_a_name_and_a_file),
        TEST(test_everything_is_read), TEST(test_what_is_not_said_is_as_the_options_say),
        TEST(test_references),         TEST(test_counts_outlive_a_change),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
