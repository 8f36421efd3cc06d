/* Signed URLs of files, from an E2B that misbehaves as it may. */
#include "service/e2b/bench.h"
#include "service/e2b/url.h"

#include <stdlib.h>
#include <string.h>

static void test_signature(void **state)
{
    /* Made with another program: SHA-256 of "a b/c:read:me:t0:1700000000" and so on. */
    static const struct {
        bool write;
        const char *user, *signature;
    } cases[] = {
        {false, "me", "v1_Bzgz2hUSIvcIQO7UfUOyJtl7lzFCUSHIlr4mXPBd0d8"},
        {true, "", "v1_acIeO6i16H/vY2buGpYu/eCQh73blu21/smJynEzxx0"},
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *s = url_file_signature("a b/c", cases[i].write, cases[i].user, "t0", 1700000000);

        assert_string_equal(s, cases[i].signature);
        free(s);
    }
}

static void serve(struct fake_call *c, void *arg)
{
    struct bench *b = arg;

    if (fake_is(c, "GET", "/sandboxes/iabc")) {
        if (strcmp(b->mode, "gone") == 0)
            fake_reply(c, 404, "", NOT_FOUND_BODY);
        else if (strcmp(b->mode, "paused") == 0)
            fake_reply(c, 200, "", DETAIL("paused", ""));
        else if (strcmp(b->mode, "domain") == 0)
            fake_reply(c, 200, "", DETAIL("running", ",\"domain\":\"else.where\""));
        else if (strcmp(b->mode, "garbage") == 0)
            fake_reply(c, 200, "", "<html>");
        else
            fake_reply(c, 200, "", DETAIL("running", ""));
        return;
    }
    if (strcmp(b->mode, "dead") == 0)
        fake_reply(c, 502, "", "{\"message\":\"The sandbox was not found\",\"code\":502}");
    else if (strcmp(b->mode, "cut once") == 0 && atomic_fetch_add(&b->n[0], 1) == 0)
        c->close = true;
    else
        fake_reply(c, fake_is(c, "GET", "/health") && fake_has(c, "X-Access-Token: t0") ? 204 : 400,
                   "", "");
}

static void test_file_url(void **state)
{
    static const struct {
        const char *mode, *user;
        bool write;
        enum code code;
        int reason;
        const char *host, *query;
    } cases[] = {
        {"", "me", false, CODE_OK, 0, "://49983-iabc.e2b.app:",
         "/files?path=a%20b%2Fc&username=me&signature=v1_"
         "Bzgz2hUSIvcIQO7UfUOyJtl7lzFCUSHIlr4mXPBd0d8"
         "&signature_expiration=1700000000"},
        {"cut once", "", true, CODE_OK, 0, "://49983-iabc.e2b.app:",
         "/files?path=a%20b%2Fc&signature=v1_acIeO6i16H%2FvY2buGpYu%2FeCQh73blu21%2FsmJynEzxx0"
         "&signature_expiration=1700000000"},
        {"domain", "", true, CODE_OK, 0, "://49983-iabc.else.where:", "/files?path=a%20b%2Fc&sig"},
        {"gone", "", false, CODE_NOT_FOUND, REASON(SANDBOX_NOT_FOUND), NULL, NULL},
        {"paused", "", false, CODE_FAILED_PRECONDITION, REASON(SANDBOX_PAUSED), NULL, NULL},
        {"dead", "", false, CODE_UNAVAILABLE, REASON(E2B_UNAVAILABLE), NULL, NULL},
        {"garbage", "", false, CODE_UNAVAILABLE, REASON(E2B_UNAVAILABLE), NULL, NULL},
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct bench b = {.mode = cases[i].mode};
        struct waiter w = WAITER;
        char *url;

        bench_open(&b, serve);
        e2b_file_url(b.e2b, &w.op, "iabc", cases[i].user, "a b/c", cases[i].write, 1700000000,
                     &url);
        check(wait_for(&w), cases[i].code, cases[i].reason);
        assert_int_equal(url != NULL, cases[i].code == CODE_OK);
        if (url != NULL) {
            assert_non_null(strstr(url, cases[i].host));
            assert_non_null(strstr(url, cases[i].query));
        }
        free(url);
        bench_close(&b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_signature),
        cmocka_unit_test(test_file_url),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
