/* Files of a sandbox, read and written through E2B. */
#include "service/e2b/bench_sandbox.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

static void serve_read(struct fake_call *c, void *arg)
{
    struct bench *b = arg;
    char block[1000] = {'x'};

    if (serve_sandbox(c, b))
        return;
    if (fake_is(c, "GET", "/files?path=%2Fa%20b&username=me"))
        fake_reply_bytes(c, 200, "", "a\0b", 3);
    else if (fake_is(c, "GET", "/files?path=%2Fempty"))
        fake_reply(c, 200, "", "");
    else if (fake_is(c, "GET", "/files?path=%2Fproc%2Fx") && fake_has(c, "Accept-Encoding: gzip")) {
        static const uint8_t gzipped[] = {31,  139, 8, 0, 0,  0,   0,   0,  2, 3, 43, 40,
                                          202, 79,  6, 0, 52, 132, 208, 43, 4, 0, 0,  0};

        fake_reply_bytes(c, 200, "Content-Encoding: gzip\r\n", gzipped, sizeof gzipped);
    } else if (fake_is(c, "GET", "/files?path=%2Fproc%2Fx"))
        fake_reply(c, 200, "", "");
    else if (fake_is(c, "GET", "/files?path=%2Fbig"))
        fake_raw(c, "HTTP/1.1 200 OK\r\nContent-Length: 100001\r\n\r\nx", 44);
    else if (fake_is(c, "GET", "/files?path=%2Fendless")) {
        fake_stream(c, "text/plain");
        while (fake_chunk(c, block, sizeof block))
            ;
        c->close = true;
    } else if (fake_is(c, "GET", "/files?path=%2Fdir"))
        fake_reply(c, 400, "", "{\"code\":400,\"message\":\"path '/dir' is a directory\"}");
    else if (fake_is(c, "GET", "/files?path=%2Fx&username=nobody2"))
        fake_reply(c, 401, "", "{\"code\":401,\"message\":\"error looking up user 'nobody2'\"}");
    else
        fake_reply(c, 404, "", "{\"code\":404,\"message\":\"path does not exist\"}");
}

static void test_read_file(void **state)
{
    static const struct {
        const char *path, *user;
        enum code code;
        int reason;
        const char *data;
        size_t len;
    } cases[] = {
        {"/a b", "me", CODE_OK, 0, "a\0b", 3},
        {"/empty", "", CODE_OK, 0, "", 0},
        {"/proc/x", "", CODE_OK, 0, "proc", 4},
        {"/big", "", CODE_FAILED_PRECONDITION, REASON(FILE_TOO_LARGE), NULL, 0},
        {"/endless", "", CODE_FAILED_PRECONDITION, REASON(FILE_TOO_LARGE), NULL, 0},
        {"/dir", "", CODE_FAILED_PRECONDITION, REASON(NOT_A_FILE), NULL, 0},
        {"/x", "nobody2", CODE_INVALID_ARGUMENT, REASON(USER_NOT_FOUND), NULL, 0},
        {"/none", "", CODE_NOT_FOUND, REASON(FILE_NOT_FOUND), NULL, 0},
    };
    struct bench b = {0};

    bench_open(&b, serve_read);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct waiter w = WAITER;
        uint8_t *data = NULL;
        size_t len = 0;

        e2b_read_file(b.e2b, &w.op, "iabc", cases[i].user, cases[i].path, &data, &len);
        check(wait_for(&w), cases[i].code, cases[i].reason);
        assert_int_equal(len, cases[i].len);
        if (cases[i].data != NULL)
            assert_memory_equal(data, cases[i].data, len);
        if (cases[i].reason == REASON(FILE_TOO_LARGE)) {
            assert_string_equal(w.op.st.detail[0].key, "limit_bytes");
            assert_string_equal(w.op.st.detail[0].value, "100000");
        }
        free(data);
    }
    bench_close(&b);
}

static void serve_write(struct fake_call *c, void *arg)
{
    struct bench *b = arg;
    char what[2048];

    if (serve_sandbox(c, b))
        return;
    if (fake_is(c, "POST", "/files?path=")) {
        bool odd = fake_is(c, "POST", "/files?path=q%22uote&username=me") && c->body_len == 3 &&
                   memcmp(c->body, "odd", 3) == 0 &&
                   fake_has(c, "Content-Type: application/octet-stream");

        fake_reply(c, odd ? 200 : 507, "",
                   odd ? "[{\"path\":\"/home/me/q\\\"uote\",\"name\":\"q\",\"type\":\"file\"}]"
                       : "{\"code\":507,\"message\":\"full\"}");
        return;
    }
    if (fake_is(c, "POST", "/files?&username=me")) {
        const char *body = (const char *)c->body;

        if (strstr(body, "filename=\"a.txt\"\r\nContent-Type: application/octet-stream\r\n\r\nA\r\n"
                         "--sandboxd-") != NULL &&
            strstr(body, "filename=\"/b/c d\"\r\nContent-Type: application/octet-stream\r\n\r\n\r\n"
                         "--sandboxd-") != NULL &&
            strcmp(body + c->body_len - 4, "--\r\n") == 0)
            fake_reply(c, 200, "",
                       "[{\"path\":\"/home/me/a.txt\",\"name\":\"a.txt\",\"type\":\"file\"},"
                       "{\"path\":\"/b/c d\",\"name\":\"c d\",\"type\":\"file\"}]");
        else
            fake_reply(c, 200, "", "[]");
        return;
    }
    describe_start(c, what, sizeof what);
    if (fake_has(c, "Authorization: Basic bWU6") &&
        strcmp(what, "|/|/bin/chmod|0755|--|/home/me/a.txt|/home/me/q\"uote") == 0)
        atomic_fetch_add(&b->n[VERBS], 1);
    answer_start(c, "", "chmod: no", strcmp(b->mode, "chmod fails") == 0 ? 1 : 0);
}

static void test_write_files(void **state)
{
    static const struct e2b_file files[] = {
        {"a.txt", (const uint8_t *)"A", 1, 0755},
        {"q\"uote", (const uint8_t *)"odd", 3, 0755},
        {"/b/c d", NULL, 0, 0},
    };
    static const char *const modes[] = {"", "chmod fails"};

    for (int i = 0; i < 2; i++) {
        struct bench b = {.mode = modes[i]};
        struct waiter w = WAITER;
        char *paths[3];

        bench_open(&b, serve_write);
        e2b_write_files(b.e2b, &w.op, "iabc", "me", files, 3, paths);
        if (i == 0) {
            check(wait_for(&w), CODE_OK, 0);
            assert_string_equal(paths[0], "/home/me/a.txt");
            assert_string_equal(paths[1], "/home/me/q\"uote");
            assert_string_equal(paths[2], "/b/c d");
        } else {
            check(wait_for(&w), CODE_FAILED_PRECONDITION, REASON(E2B_REJECTED));
            assert_non_null(strstr(w.op.st.message, "chmod: no"));
            assert_null(paths[0]);
        }
        assert_int_equal(atomic_load(&b.n[VERBS]), 1);
        for (int k = 0; k < 3; k++)
            free(paths[k]);
        bench_close(&b);
    }
}

static void test_write_failures(void **state)
{
    static const struct e2b_file one[] = {{"/one", (const uint8_t *)"1", 1, 0}};
    static const struct e2b_file two[] = {{"/one", NULL, 0, 0}, {"/two", NULL, 0, 0}};
    struct bench b = {.mode = ""};
    struct waiter w = WAITER;
    struct waiter w2 = WAITER;
    char *paths[2];

    bench_open(&b, serve_write);
    e2b_write_files(b.e2b, &w.op, "iabc", "me", one, 1, paths);
    check(wait_for(&w), CODE_RESOURCE_EXHAUSTED, REASON(DISK_FULL));
    assert_non_null(strstr(w.op.st.message, "/one"));
    e2b_write_files(b.e2b, &w2.op, "iabc", "me", two, 2, paths);
    check(wait_for(&w2), CODE_UNAVAILABLE, REASON(E2B_UNAVAILABLE));
    bench_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_read_file),
        cmocka_unit_test(test_write_files),
        cmocka_unit_test(test_write_failures),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
