/* What the use of a sandbox does to it: one that was paused is woken where it asked for that, and
 * one that ends when it is idle gets more time. */
#include "service/e2b/bench.h"

#include "common/base/cleanup.h"
#include "common/base/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { LOOKS, CONNECTS, READS, REFRESHES };

static void time_text(char to[32], int64_t from_now_s)
{
    time_t t = time(NULL) + from_now_s;
    struct tm tm;

    strftime(to, 32, "%FT%TZ", gmtime_r(&t, &tm));
}

/* A sandbox that was started a minute ago. */
static void reply_detail(struct fake_call *c, const char *state, int64_t left_s, const char *more)
{
    char start[32], end[32], body[1024];

    time_text(start, -60);
    time_text(end, left_s);
    snprintf(
        body, sizeof body,
        "{\"sandboxID\":\"iabc\",\"templateID\":\"base\",\"startedAt\":\"%s\",\"endAt\":\"%s\","
        "\"state\":\"%s\",\"envdAccessToken\":\"t0\"%s}",
        start, end, state, more);
    fake_reply(c, 200, "", body);
}

static const struct status *read_file(struct bench *b, struct waiter *w)
{
    AUTO_FREE uint8_t *data = NULL;
    size_t len;

    e2b_read_file(b->e2b, &w->op, "iabc", "", "/f", &data, &len);
    return wait_for(w);
}

/* --- waking --- */

static const char wakes[] = ",\"lifecycle\":{\"autoResume\":true,\"onTimeout\":\"pause\"}";

static void serve_paused(struct fake_call *c, void *arg)
{
    struct bench *b = arg;

    if (fake_is(c, "POST", "/sandboxes/iabc/connect")) {
        int nth = atomic_fetch_add(&b->n[CONNECTS], 1);

        if (c->body_len != 15 || memcmp(c->body, "{\"timeout\":600}", 15) != 0)
            fake_reply(c, 400, "", "{\"code\":400,\"message\":\"not as it should be\"}");
        else if (strcmp(b->mode, "busy once") == 0 && nth == 0)
            fake_reply(c, 409, "", "{\"code\":409,\"message\":\"busy\"}");
        else if (strcmp(b->mode, "cut once") == 0 && nth == 0)
            c->close = true;
        else if (strcmp(b->mode, "gone") == 0)
            fake_reply(c, 404, "", NOT_FOUND_BODY);
        else if (strcmp(b->mode, "quota") == 0)
            fake_reply(c, 429, "", "{\"code\":429,\"message\":\"too many sandboxes\"}");
        else
            fake_reply(c, 201, "", "{\"sandboxID\":\"iabc\",\"templateID\":\"base\"}");
    } else if (fake_is(c, "GET", "/sandboxes/iabc")) {
        int woken = strcmp(b->mode, "busy once") == 0 || strcmp(b->mode, "cut once") == 0 ? 2 : 1;
        bool paused = atomic_load(&b->n[CONNECTS]) < woken || strcmp(b->mode, "paused again") == 0;

        atomic_fetch_add(&b->n[LOOKS], 1);
        reply_detail(c, paused ? "paused" : "running", 600,
                     strcmp(b->mode, "not asked") == 0 ? "" : wakes);
    } else {
        atomic_fetch_add(&b->n[READS], 1);
        fake_reply(c, 200, "", "data");
    }
}

static void test_use_wakes_where_it_was_asked_for(void **state)
{
    static const struct {
        const char *mode;
        bool lets_sleep, aside;
        enum code code;
        int reason, connects;
    } cases[] = {
        {"well", false, false, CODE_OK, 0, 1},
        {"busy once", false, false, CODE_OK, 0, 2},
        {"cut once", false, false, CODE_OK, 0, 2}, /* waking twice does no harm */
        {"gone", false, false, CODE_NOT_FOUND, REASON(SANDBOX_NOT_FOUND), 1},
        {"quota", false, false, CODE_RESOURCE_EXHAUSTED, REASON(E2B_QUOTA), 1},
        {"paused again", false, false, CODE_FAILED_PRECONDITION, REASON(SANDBOX_PAUSED), 3},
        {"not asked", false, false, CODE_FAILED_PRECONDITION, REASON(SANDBOX_PAUSED), 0},
        {"let be", true, false, CODE_FAILED_PRECONDITION, REASON(SANDBOX_PAUSED), 0},
        {"aside", false, true, CODE_FAILED_PRECONDITION, REASON(SANDBOX_PAUSED), 0},
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct bench b = {.mode = cases[i].mode};
        struct waiter w = WAITER;

        w.op.lets_sleep = cases[i].lets_sleep;
        w.op.aside = cases[i].aside;
        bench_open(&b, serve_paused);
        check(read_file(&b, &w), cases[i].code, cases[i].reason);
        assert_int_equal(atomic_load(&b.n[CONNECTS]), cases[i].connects);
        assert_int_equal(atomic_load(&b.n[READS]), cases[i].code == CODE_OK);
        bench_close(&b);
    }
}

/* Traffic alone wakes such a sandbox, so whoever is to let it sleep looks before each attempt. */
static void test_what_lets_it_sleep_looks_first(void **state)
{
    struct bench b = {.mode = "well", .n = {[CONNECTS] = 1}};

    bench_open(&b, serve_paused);
    for (int i = 0; i < 4; i++) {
        struct waiter w = WAITER;

        w.op.lets_sleep = i >= 2;
        check(read_file(&b, &w), CODE_OK, 0);
        assert_int_equal(atomic_load(&b.n[LOOKS]), i < 2 ? 1 : i);
    }
    bench_close(&b);
}

/* --- idle time --- */

static void serve_idle(struct fake_call *c, void *arg)
{
    struct bench *b = arg;

    if (fake_is(c, "POST", "/sandboxes/iabc/refreshes")) {
        snprintf(b->seen, sizeof b->seen, "%.*s", (int)c->body_len, (const char *)c->body);
        fake_reply(c, 204, "", "");
        atomic_fetch_add(&b->n[REFRESHES], 1);
    } else if (fake_is(c, "GET", "/sandboxes/iabc")) {
        const char *labels = ",\"metadata\":{\"sandboxd.idle_timeout\":\"100\","
                             "\"sandboxd.lifetime\":\"1000\"}";

        if (strcmp(b->mode, "near its end") == 0)
            labels =
                ",\"metadata\":{\"sandboxd.idle_timeout\":\"100\",\"sandboxd.lifetime\":\"90\"}";
        else if (strcmp(b->mode, "over") == 0)
            labels =
                ",\"metadata\":{\"sandboxd.idle_timeout\":\"100\",\"sandboxd.lifetime\":\"9\"}";
        else if (strcmp(b->mode, "forged") == 0)
            labels =
                ",\"metadata\":{\"sandboxd.idle_timeout\":\"1e9\",\"sandboxd.lifetime\":\"1000\"}";
        else if (strcmp(b->mode, "none") == 0)
            labels = "";
        reply_detail(c, "running", strcmp(b->mode, "fresh") == 0 ? 99 : 80, labels);
    } else {
        atomic_fetch_add(&b->n[READS], 1);
        fake_reply(c, 200, "", "data");
    }
}

static void test_use_prolongs_once_in_a_while(void **state)
{
    static const struct {
        const char *mode;
        bool aside;
        int refreshes;
    } cases[] = {
        {"used", false, 1}, {"near its end", false, 1}, {"aside", true, 0}, {"fresh", false, 0},
        {"over", false, 0}, {"forged", false, 0},       {"none", false, 0},
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct bench b = {.mode = cases[i].mode};

        bench_open(&b, serve_idle);
        for (int k = 0; k < 20; k++) {
            struct waiter w = WAITER;

            w.op.aside = cases[i].aside;
            check(read_file(&b, &w), CODE_OK, 0);
        }
        if (cases[i].refreshes > 0)
            wait_until(&b.n[REFRESHES], cases[i].refreshes);
        assert_int_equal(atomic_load(&b.n[READS]), 20);
        assert_int_equal(atomic_load(&b.n[REFRESHES]), cases[i].refreshes);
        if (strcmp(b.mode, "used") == 0)
            assert_string_equal(b.seen, "{\"duration\":100}");
        else if (cases[i].refreshes > 0) /* 90 s after a start a minute ago */
            assert_true(strcmp(b.seen, "{\"duration\":30}") <= 0);
        bench_close(&b);
    }
}

static void serve_made(struct fake_call *c, void *arg)
{
    struct bench *b = arg;

    if (strcmp(c->method, "POST") == 0 && strcmp(c->path, "/sandboxes") == 0) {
        const char *body = (const char *)c->body;
        bool ok = strstr(body, "\"timeout\":100,") != NULL &&
                  strstr(body, "\"sandboxd.idle_timeout\":\"100\"") != NULL &&
                  strstr(body, "\"sandboxd.lifetime\":\"1000\"") != NULL &&
                  strstr(body, "\"autoResume\":{\"enabled\":true}") != NULL;

        fake_reply(
            c, ok ? 201 : 400, "",
            ok ? "{\"sandboxID\":\"iabc\",\"templateID\":\"base\",\"envdAccessToken\":\"t0\"}"
               : "{\"code\":400,\"message\":\"not as it should be\"}");
    } else {
        serve_idle(c, b);
    }
}

static void test_it_begins_with_its_idle_time(void **state)
{
    struct bench b = {.mode = "used"};
    struct waiter w = WAITER, again = WAITER;
    struct e2b_sandbox s = {0};
    bool reused;

    bench_open(&b, serve_made);
    e2b_create(b.e2b, &w.op,
               &(struct e2b_create_args){.timeout_s = 1000, .idle_s = 100, .auto_resume = true}, &s,
               &reused);
    check(wait_for(&w), CODE_OK, 0);
    assert_int_equal(s.idle_s, 100);
    assert_int_equal(s.lifetime_s, 1000);
    e2b_sandbox_deinit(&s);
    check(read_file(&b, &again), CODE_OK, 0); /* without another look */
    wait_until(&b.n[REFRESHES], 1);
    bench_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_use_wakes_where_it_was_asked_for),
        cmocka_unit_test(test_what_lets_it_sleep_looks_first),
        cmocka_unit_test(test_use_prolongs_once_in_a_while),
        cmocka_unit_test(test_it_begins_with_its_idle_time),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
