/* The agent's pure parts: paths, users, signatures, ranges, modes, gzip, its configuration. */
#include "common/base/cleanup.h"
#include "runtime/local/agent/access.h"
#include "runtime/local/agent/config.h"
#include "runtime/local/agent/content_type.h"
#include "runtime/local/agent/encoding.h"
#include "runtime/local/agent/entry.h"
#include "runtime/local/agent/files.h"
#include "runtime/local/agent/gzip.h"
#include "runtime/local/agent/path.h"
#include "runtime/local/agent/spawn.h"
#include "runtime/local/agent/users.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

static const struct user someone = {.name = "user", .home = "/home/user", .uid = 1000, .gid = 1000};

static void test_paths(void **state)
{
    static const struct {
        const char *path;
        const char *workdir;
        const char *resolved; /* NULL: refused */
    } cases[] = {
        {"", "", "/home/user"},
        {"", "/work", "/work"},
        {"", "work", "/home/user/work"},
        {"~", "/work", "/home/user"},
        {"~/a", "", "/home/user/a"},
        {"~root", "", NULL},
        {"a/b", "/work", "/home/user/a/b"},
        {"./a/../b//c/", "", "/home/user/b/c"},
        {"../../../..", "", "/"},
        {"/a/../b//", "", "/a/../b//"}, /* absolute paths are the file system's business */
        {"..a/.b/...", "", "/home/user/..a/.b/..."},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct status st = STATUS_INIT;
        char *resolved = path_resolve(cases[i].path, &someone, cases[i].workdir, &st);

        if (cases[i].resolved)
            assert_string_equal(resolved, cases[i].resolved);
        else
            assert_int_equal(st.code, CODE_INVALID_ARGUMENT);
        free(resolved);
    }
}

static void test_long_paths_are_refused(void **state)
{
    char path[8192];
    struct status st = STATUS_INIT;

    memset(path, 'a', sizeof(path) - 1);
    path[sizeof(path) - 1] = '\0';
    assert_null(path_resolve(path, &someone, "", &st));
    assert_int_equal(st.code, CODE_INVALID_ARGUMENT);
}

static void test_passwd_lines(void **state)
{
    static const char *const bad[] = {
        "",
        "user",
        "user:x:1000:1000:name:/home",
        ":x:1:1::/:",
        "u:x:-1:1::/:",
        "u:x::1::/:",
        "u:x:1x:1::/:",
        "u:x:4294967295:1::/:",
        "u:x:99999999999999999999:1::/:",
    };
    struct user user;
    struct group_line group;

    assert_true(user_parse_line("user:x:1000:1001:A, B:/home/user:/bin/sh", &user));
    assert_string_equal(user.name, "user");
    assert_string_equal(user.home, "/home/user");
    assert_int_equal(user.uid, 1000);
    assert_int_equal(user.gid, 1001);
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
        assert_false(user_parse_line(bad[i], &user));
    assert_true(group_parse_line("sudo:x:27:user,other", &group));
    assert_int_equal(group.gid, 27);
    assert_string_equal(group.members, "user,other");
    assert_false(group_parse_line("sudo:x:", &group));
}

static void test_signatures(void **state)
{
    char signature[ACCESS_SIGNATURE_SIZE], other[ACCESS_SIGNATURE_SIZE];
    const char *token = "0tQG31xiMp0IOQfaz9dcwi72L1CPo8e0";

    access_sign("hello.txt", "read", "user", token, NULL, signature);
    assert_string_equal(signature, "v1_gUtH/s9YCJWgCizjfUxuWfhFE4QSydOWEIIvfLwDr6E");
    access_sign("hello.txt", "read", "user", token, "", other);
    assert_string_not_equal(signature, other);
    access_sign("hello.txt", "write", "user", token, NULL, other);
    assert_string_not_equal(signature, other);
}

static void test_ranges(void **state)
{
    static const struct {
        const char *header;
        int64_t size;
        enum range_result result;
        int64_t first;
        int64_t len;
    } cases[] = {
        {NULL, 10, RANGE_NONE},
        {"bytes=0-0", 10, RANGE_ONE, 0, 1},
        {"bytes=2-5", 10, RANGE_ONE, 2, 4},
        {"bytes=2-", 10, RANGE_ONE, 2, 8},
        {"bytes=2-99999999999999999999999", 10, RANGE_ONE, 2, 8},
        {"bytes=-3", 10, RANGE_ONE, 7, 3},
        {"bytes=-30", 10, RANGE_ONE, 0, 10},
        {"bytes=9-9", 10, RANGE_ONE, 9, 1},
        {"bytes=10-", 10, RANGE_IMPOSSIBLE},
        {"bytes=-0", 10, RANGE_IMPOSSIBLE},
        {"bytes=0-", 0, RANGE_IMPOSSIBLE},
        {"bytes=-1", 0, RANGE_IMPOSSIBLE},
        {"bytes=0-1,3-4", 10, RANGE_NONE},
        {"bytes=5-2", 10, RANGE_NONE},
        {"bytes=-", 10, RANGE_NONE},
        {"bytes=a-", 10, RANGE_NONE},
        {"lines=1-2", 10, RANGE_NONE},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct range range = {0};

        assert_int_equal(range_parse(cases[i].header, cases[i].size, &range), cases[i].result);
        assert_int_equal(range.first, cases[i].first);
        assert_int_equal(range.len, cases[i].len);
    }
}

static void test_modes_read_as_in_go(void **state)
{
    static const struct {
        unsigned mode;
        const char *text;
    } cases[] = {
        {S_IFREG | 0644, "-rw-r--r--"},  {S_IFDIR | 0755, "drwxr-xr-x"},
        {S_IFLNK | 0777, "Lrwxrwxrwx"},  {S_IFDIR | 01777, "dtrwxrwxrwx"},
        {S_IFREG | 04755, "urwxr-xr-x"}, {S_IFREG | 02755, "grwxr-xr-x"},
        {S_IFIFO | 0600, "prw-------"},  {S_IFSOCK | 0, "S---------"},
    };
    char text[ENTRY_MODE_SIZE];

    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        entry_format_mode(cases[i].mode, text);
        assert_string_equal(text, cases[i].text);
    }
}

static void test_encodings_are_chosen_by_quality(void **state)
{
    static const struct {
        const char *accept;
        bool must_be_identity;
        enum encoding chosen;
    } cases[] = {
        {NULL, false, ENCODING_IDENTITY},
        {"", false, ENCODING_IDENTITY},
        {"gzip", false, ENCODING_GZIP},
        {"gzip", true, ENCODING_IDENTITY},
        {"GZip;q=0.1", false, ENCODING_GZIP},
        {"gzip, deflate, br, zstd", false, ENCODING_GZIP},
        {"br,gzip", false, ENCODING_GZIP},
        {"br", false, ENCODING_IDENTITY},
        {"identity, gzip", false, ENCODING_IDENTITY},
        {"gzip;q=0.5, identity;q=0.6", false, ENCODING_IDENTITY},
        {"gzip; x=1; q=0.7 , identity;q=0.6", false, ENCODING_GZIP},
        {"gzip;q=0", false, ENCODING_IDENTITY},
        {"gzip;q=often", false, ENCODING_GZIP},
        {"*", false, ENCODING_IDENTITY},
        {"*;q=0", false, ENCODING_NONE},
        {"*;q=0, identity;q=0.1", false, ENCODING_IDENTITY},
        {"identity;q=0, *", false, ENCODING_GZIP},
        {"identity;q=0, gzip", true, ENCODING_NONE},
        {"identity;q=0", false, ENCODING_NONE},
        {",,;;q=,", false, ENCODING_IDENTITY},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
        assert_int_equal(encoding_choose(cases[i].accept, cases[i].must_be_identity),
                         cases[i].chosen);
}

static void test_content_is_known_by_name_or_start(void **state)
{
    static const struct {
        const char *start;
        size_t len;
        const char *type;
    } cases[] = {
        {"", 0, "text/plain; charset=utf-8"},
        {"caf\xe9", 4, "text/plain; charset=utf-8"},
        {"a\0b", 3, "application/octet-stream"},
        {" \n<HTML>", 8, "text/html; charset=utf-8"},
        {"<html", 5, "text/plain; charset=utf-8"},
        {"<p>", 3, "text/html; charset=utf-8"},
        {"\x89PNG\r\n\x1a\n", 8, "image/png"},
        {"\x89PNG\r\n\x1a", 7, "application/octet-stream"},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
        assert_string_equal(content_type_of_bytes((const uint8_t *)cases[i].start, cases[i].len),
                            cases[i].type);
    assert_string_equal(content_type_of_name("/a/b.JSON"), "application/json");
    assert_null(content_type_of_name("/a.json/b"));
    assert_null(content_type_of_name("/a/json"));
}

static void append_to(void *ctx, const uint8_t *data, size_t len)
{
    assert_true(buf_append(ctx, data, len));
}

static void test_gzip_comes_back_as_it_was(void **state)
{
    AUTO(buf_deinit) struct buf packed = BUF_INIT(1 << 20);
    AUTO(buf_deinit) struct buf plain = BUF_INIT(1 << 20);
    static uint8_t data[300000];
    struct gzip_out out;

    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = (uint8_t)(i * i >> 7);
    gzip_out_init(&out);
    for (size_t at = 0; at < sizeof(data); at += 1000)
        gzip_out_next(&out, data + at, 1000, false, append_to, &packed);
    gzip_out_next(&out, NULL, 0, true, append_to, &packed);
    gzip_out_deinit(&out);
    gzip_out_deinit(&out);
    assert_true(gzip_inflate_all(&plain, buf_data(&packed), buf_len(&packed)));
    assert_int_equal(buf_len(&plain), sizeof(data));
    assert_memory_equal(buf_data(&plain), data, sizeof(data));
}

/* Deflated by the library itself, members and all. */
static size_t deflate_gzip(const void *data, size_t len, uint8_t *to, size_t size)
{
    z_stream z = {.next_in = (uint8_t *)data, .avail_in = (uInt)len, .next_out = to};

    z.avail_out = (uInt)size;
    assert_int_equal(deflateInit2(&z, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
    assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
    deflateEnd(&z);
    return z.total_out;
}

static bool append(void *ctx, const uint8_t *data, size_t len)
{
    return buf_append(ctx, data, len);
}

static void test_gzip_cut_anywhere(void **state)
{
    uint8_t packed[512];
    size_t first = deflate_gzip("hello, ", 7, packed, sizeof(packed));
    size_t len = first + deflate_gzip("world", 5, packed + first, sizeof(packed) - first);

    for (size_t cut = 0; cut <= len; cut++) {
        struct buf out = BUF_INIT(64);
        struct gzip g;

        gzip_init(&g);
        assert_true(gzip_next(&g, packed, cut, append, &out));
        assert_int_equal(gzip_is_complete(&g), cut == first || cut == len);
        assert_true(gzip_next(&g, packed + cut, len - cut, append, &out));
        assert_true(gzip_is_complete(&g));
        assert_string_equal(buf_str(&out), "hello, world");
        gzip_deinit(&g);
        buf_deinit(&out);
    }
}

static void test_gzip_is_bounded_and_checked(void **state)
{
    static char zeros[1 << 20];
    static uint8_t packed[1 << 16];
    size_t len = deflate_gzip(zeros, sizeof(zeros), packed, sizeof(packed));
    struct buf small = BUF_INIT(4096), large = BUF_INIT(2 << 20);

    assert_false(gzip_inflate_all(&small, packed, len));
    assert_true(gzip_inflate_all(&large, packed, len));
    assert_int_equal(buf_len(&large), sizeof(zeros));
    buf_clear(&large);
    assert_false(gzip_inflate_all(&large, packed, len - 1));
    packed[len - 5] ^= 1; /* the checksum */
    buf_clear(&large);
    assert_false(gzip_inflate_all(&large, packed, len));
    assert_false(gzip_inflate_all(&small, (const uint8_t *)"plain", 5));
    buf_deinit(&small);
    buf_deinit(&large);
}

static char *copy_of(const char *data, size_t len)
{
    char *copy = malloc(len);

    memcpy(copy, data, len);
    return copy;
}

static void test_configuration(void **state)
{
    static const char text[] = "id=i1\0token=a=b\0uids=single\0env:A=1=2\0env:B=\0disk=123";
    struct config config;
    struct status st = STATUS_INIT;

    assert_true(config_parse(&config, copy_of(text, sizeof(text)), sizeof(text), &st));
    assert_string_equal(config.id, "i1");
    assert_string_equal(config.token, "a=b");
    assert_string_equal(config.user, "user");
    assert_true(config.single_user);
    assert_int_equal(config.disk_bytes, 123);
    assert_int_equal(config.n_envs, 2);
    assert_string_equal(config.envs[0], "A=1=2");
    config_deinit(&config);
    assert_false(config_parse(&config, copy_of("id=i1", 5), 5, &st));
    config_deinit(&config);
    assert_false(config_parse(&config, copy_of("nothing", 8), 8, &st));
    config_deinit(&config);
}

static const char *get(const char **env, const char *name)
{
    for (; *env; env++)
        if (strncmp(*env, name, strlen(name)) == 0 && (*env)[strlen(name)] == '=')
            return *env + strlen(name) + 1;
    return NULL;
}

static void test_environment_precedence(void **state)
{
    static char a[] = "A=sandbox", b[] = "B=sandbox", forged[] = "E2B_SANDBOX_ID=forged";
    char *of_sandbox[] = {a, b, forged};
    const char *const of_command[] = {"B=command", "HOME=/elsewhere"};
    struct config config = {.id = "i1", .template_id = "base", .envs = of_sandbox, .n_envs = 3};
    const char **env = spawn_env_new(&config, &someone, of_command, 2);

    assert_string_equal(get(env, "A"), "sandbox");
    assert_string_equal(get(env, "B"), "command");
    assert_string_equal(get(env, "HOME"), "/elsewhere");
    assert_string_equal(get(env, "USER"), "user");
    assert_string_equal(get(env, "E2B_SANDBOX_ID"), "i1");
    assert_non_null(get(env, "PATH"));
    spawn_env_free(env);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_paths),
        cmocka_unit_test(test_long_paths_are_refused),
        cmocka_unit_test(test_passwd_lines),
        cmocka_unit_test(test_signatures),
        cmocka_unit_test(test_ranges),
        cmocka_unit_test(test_modes_read_as_in_go),
        cmocka_unit_test(test_gzip_cut_anywhere),
        cmocka_unit_test(test_gzip_is_bounded_and_checked),
        cmocka_unit_test(test_encodings_are_chosen_by_quality),
        cmocka_unit_test(test_content_is_known_by_name_or_start),
        cmocka_unit_test(test_gzip_comes_back_as_it_was),
        cmocka_unit_test(test_configuration),
        cmocka_unit_test(test_environment_precedence),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
