/* The adapter against a control plane that behaves, and misbehaves, in each documented way. */
#include "service/e2b/bench.h"

#include "common/base/clock.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

static void serve_get(struct fake_call *c, void *arg)
{
    struct bench *b = arg;
    int nth = atomic_fetch_add(&b->n[0], 1);

    if (!fake_is(c, "GET", "/sandboxes/iabc") || !fake_has(c, "X-API-KEY: e2b_0123") ||
        !fake_has(c, "User-Agent: sandboxd/0.1.0")) {
        fake_reply(c, 400, "", "{\"code\":400,\"message\":\"not as it should be\"}");
    } else if (strcmp(b->mode, "ok") == 0) {
        fake_reply(c, 200, "", DETAIL("running", ",\"metadata\":{\"a\":\"b\"}"));
    } else if (strcmp(b->mode, "401") == 0) {
        fake_reply(c, 401, "", "{\"code\":401,\"message\":\"bad key\"}");
    } else if (strcmp(b->mode, "404") == 0) {
        fake_reply(c, 404, "", NOT_FOUND_BODY);
    } else if (strcmp(b->mode, "bare 404") == 0) {
        fake_reply(c, 404, "", "<html>nothing here</html>");
    } else if (strcmp(b->mode, "html") == 0) {
        fake_reply(c, 200, "", "<html>welcome</html>");
    } else if (strcmp(b->mode, "another") == 0) {
        fake_reply(c, 200, "",
                   "{\"sandboxID\":\"iabcd\",\"templateID\":\"base\",\"state\":\"running\","
                   "\"startedAt\":\"2026-01-02T03:04:05Z\",\"endAt\":\"2026-01-02T04:04:05Z\"}");
    } else if (strcmp(b->mode, "redirect") == 0) {
        fake_reply(c, 302, "Location: http://127.0.0.1:1/\r\n", "");
    } else if (strcmp(b->mode, "429") == 0) {
        fake_reply(c, 429, "", "{\"code\":429,\"message\":\"too many sandboxes\"}");
    } else if (strcmp(b->mode, "429 later") == 0) {
        fake_reply(c, 429, "Retry-After: 1000\r\n", "{\"code\":429,\"message\":\"limit\"}");
    } else if (strcmp(b->mode, "429 once") == 0 && nth == 0) {
        fake_reply(c, 429, "Retry-After: 0\r\n", "{\"code\":429,\"message\":\"limit\"}");
    } else if (strcmp(b->mode, "500 twice") == 0 && nth < 2) {
        fake_reply(c, 500, "", "{\"code\":500,\"message\":\"oops\"}");
    } else if (strcmp(b->mode, "500") == 0) {
        fake_reply(c, 500, "", "{\"code\":500,\"message\":\"oops\"}");
    } else if (strcmp(b->mode, "cut once") == 0 && nth == 0) {
        fake_raw(c, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{\"sandb", 47);
        c->close = true;
    } else if (strcmp(b->mode, "hang up") == 0) {
        c->close = true;
    } else if (strcmp(b->mode, "no http") == 0) {
        fake_raw(c, "220 smtp ready\r\n", 16);
        c->close = true;
    } else if (strcmp(b->mode, "silence") == 0) {
        fake_wait_gone(c);
    } else if (strcmp(b->mode, "flood") == 0) {
        fake_stream(c, "application/json");
        for (char block[65536] = {' '}; fake_chunk(c, block, sizeof block);)
            ;
        c->close = true;
    } else {
        fake_reply(c, 200, "", DETAIL("running", ""));
    }
}

static void test_get(void **state)
{
    struct bench b = {.mode = "ok"};
    struct waiter w = WAITER;
    struct e2b_sandbox s;

    bench_open(&b, serve_get);
    e2b_get(b.e2b, &w.op, "iabc", &s);
    check(wait_for(&w), CODE_OK, 0);
    assert_string_equal(s.id, "iabc");
    assert_string_equal(s.template_id, "base");
    assert_int_equal(s.state, E2B_RUNNING);
    assert_int_equal(s.end_ns - s.start_ns, 3600 * NS_PER_S);
    assert_int_equal(s.memory_mib, 512);
    assert_int_equal(s.n_metadata, 1);
    e2b_sandbox_deinit(&s);
    bench_close(&b);
}

static void test_get_failures(void **state)
{
    static const struct {
        const char *mode;
        enum code code;
        int reason;
        int attempts;
        int64_t retry_ms;
    } cases[] = {
        {"401", CODE_FAILED_PRECONDITION, REASON(E2B_UNAUTHENTICATED), 1, 0},
        {"404", CODE_NOT_FOUND, REASON(SANDBOX_NOT_FOUND), 1, 0},
        {"bare 404", CODE_UNAVAILABLE, REASON(E2B_UNAVAILABLE), 3, 0},
        {"html", CODE_UNAVAILABLE, REASON(E2B_UNAVAILABLE), 3, 0},
        {"another", CODE_UNAVAILABLE, REASON(E2B_UNAVAILABLE), 3, 0},
        {"redirect", CODE_UNAVAILABLE, REASON(E2B_UNAVAILABLE), 1, 0},
        {"429", CODE_RESOURCE_EXHAUSTED, REASON(E2B_QUOTA), 1, 0},
        {"429 later", CODE_RESOURCE_EXHAUSTED, REASON(E2B_QUOTA), 1, 1000000},
        {"429 once", CODE_OK, 0, 2, 0},
        {"500 twice", CODE_OK, 0, 3, 0},
        {"500", CODE_UNAVAILABLE, REASON(E2B_UNAVAILABLE), 3, 0},
        {"cut once", CODE_OK, 0, 2, 0},
        {"hang up", CODE_UNAVAILABLE, REASON(E2B_UNAVAILABLE), 3, 0},
        {"no http", CODE_UNAVAILABLE, REASON(E2B_UNAVAILABLE), 3, 0},
        {"flood", CODE_UNAVAILABLE, REASON(E2B_UNAVAILABLE), 1, 0},
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct bench b = {.mode = cases[i].mode};
        struct waiter w = WAITER;
        struct e2b_sandbox s = {0};

        bench_open(&b, serve_get);
        e2b_get(b.e2b, &w.op, "iabc", &s);
        check(wait_for(&w), cases[i].code, cases[i].reason);
        assert_int_equal(w.op.st.retry_ms, cases[i].retry_ms);
        assert_int_equal(atomic_load(&b.n[0]), cases[i].attempts);
        e2b_sandbox_deinit(&s);
        bench_close(&b);
    }
}

static void test_nobody_there(void **state)
{
    struct fake *gone = fake_new(serve_get, NULL);
    struct e2b_config config = config_for(fake_url(gone));
    struct waiter w = WAITER;
    struct e2b_sandbox s = {0};
    struct e2b *e;
    struct status st;

    assert_true(e2b_new(&config, &e, &st));
    fake_free(gone);
    e2b_get(e, &w.op, "iabc", &s);
    check(wait_for(&w), CODE_UNAVAILABLE, REASON(E2B_UNAVAILABLE));
    e2b_free(e);
}

static void test_deadline_and_cancel(void **state)
{
    struct bench b = {.mode = "silence"};
    struct waiter w = WAITER;
    struct waiter w2 = WAITER;
    struct waiter w3 = WAITER;
    struct e2b_sandbox s = {0};

    bench_open(&b, serve_get);
    w.op.deadline_ns = clock_monotonic_ns() + 50 * NS_PER_MS;
    e2b_get(b.e2b, &w.op, "iabc", &s);
    check(wait_for(&w), CODE_DEADLINE_EXCEEDED, REASON(DEADLINE));
    assert_true(clock_monotonic_ns() >= w.op.deadline_ns);

    e2b_get(b.e2b, &w2.op, "iabc", &s);
    wait_until(&b.n[0], 2);
    e2b_cancel(&w2.op);
    e2b_cancel(&w2.op);
    check(wait_for(&w2), CODE_CANCELLED, 0);
    e2b_cancel(&w2.op); /* too late is fine */

    w3.op.deadline_ns = clock_monotonic_ns() - 1;
    e2b_get(b.e2b, &w3.op, "iabc", &s);
    check(wait_for(&w3), CODE_DEADLINE_EXCEEDED, REASON(DEADLINE));
    assert_int_equal(atomic_load(&b.n[0]), 2);
    bench_close(&b);
}

/* Many at once, cancelled and not: each ends exactly once. */
static void test_many_at_once(void **state)
{
    enum { N = 60 };
    struct bench b = {.mode = "ok"};
    struct waiter w[N];
    struct e2b_sandbox s[N];
    int ok = 0;

    bench_open(&b, serve_get);
    for (int i = 0; i < N; i++) {
        w[i] = (struct waiter)WAITER;
        s[i] = (struct e2b_sandbox){0};
        e2b_get(b.e2b, &w[i].op, "iabc", &s[i]);
        if (i % 3 == 0)
            e2b_cancel(&w[i].op);
    }
    for (int i = 0; i < N; i++) {
        wait_for(&w[i]);
        ok += w[i].op.st.code == CODE_OK;
        assert_true(w[i].op.st.code == CODE_OK ||
                    (i % 3 == 0 && w[i].op.st.code == CODE_CANCELLED));
        e2b_sandbox_deinit(&s[i]);
    }
    assert_true(ok >= N / 3 * 2);
    bench_close(&b);
}

static void serve_list(struct fake_call *c, void *arg)
{
    if (fake_is(c, "GET", "/v2/sandboxes?limit=2&state=running&metadata=a%3Db&nextToken=tok%3D"))
        fake_reply(c, 200, "X-Next-Token: more\r\n",
                   "[" DETAIL("running", "") "," DETAIL("running", "") "]");
    else if (fake_is(c, "GET", "/v2/sandboxes?limit=100"))
        fake_reply(c, 200, "", "[]");
    else
        fake_reply(c, 200, "", "[{\"sandboxID\":7}]");
}

static void test_list(void **state)
{
    struct bench b = {0};
    struct waiter w = WAITER;
    struct waiter w2 = WAITER;
    struct waiter w3 = WAITER;
    struct e2b_pair pair = {(char *)"a", (char *)"b"};
    struct e2b_list_args args = {
        .metadata = &pair, .n_metadata = 1, .running = true, .limit = 2, .page_token = "tok="};
    struct e2b_list list;

    bench_open(&b, serve_list);
    e2b_list(b.e2b, &w.op, &args, &list);
    check(wait_for(&w), CODE_OK, 0);
    assert_int_equal(list.n_items, 2);
    assert_string_equal(list.next_page_token, "more");
    e2b_list_deinit(&list);
    e2b_list(b.e2b, &w2.op, &(struct e2b_list_args){.limit = 100}, &list);
    check(wait_for(&w2), CODE_OK, 0);
    assert_int_equal(list.n_items, 0);
    assert_null(list.next_page_token);
    e2b_list_deinit(&list);
    e2b_list(b.e2b, &w3.op, &(struct e2b_list_args){.limit = 3}, &list);
    check(wait_for(&w3), CODE_UNAVAILABLE, REASON(E2B_UNAVAILABLE));
    bench_close(&b);
}

static void serve_logs(struct fake_call *c, void *arg)
{
    if (fake_is(c, "GET", "/v2/sandboxes/iabc/logs?direction=forward&limit=1000&cursor=1500"))
        fake_reply(c, 200, "",
                   "{\"logs\":[{\"timestamp\":\"2026-01-01T00:00:00.5Z\",\"level\":\"info\","
                   "\"message\":\"made\",\"fields\":{\"message\":\"made\",\"cpu\":\"2\"}},"
                   "{\"timestamp\":\"2026-01-01T00:00:01Z\",\"message\":7,\"fields\":[]}]}");
    else if (fake_is(c, "GET", "/v2/sandboxes/iabc/logs?direction=backward&limit=1"))
        fake_reply(c, 200, "", "{\"logs\":[]}");
    else
        fake_reply(c, 200, "", "{\"logs\":[{\"timestamp\":\"soon\"}]}");
}

static void test_logs(void **state)
{
    struct bench b = {0};
    struct waiter w = WAITER;
    struct waiter w2 = WAITER;
    struct waiter w3 = WAITER;
    struct e2b_logs logs;

    bench_open(&b, serve_logs);
    e2b_logs(b.e2b, &w.op, "iabc", &(struct e2b_logs_args){.from_ms = 1500, .limit = 1000}, &logs);
    check(wait_for(&w), CODE_OK, 0);
    assert_int_equal(logs.n_entries, 2);
    assert_string_equal(logs.entries[0].text, "info made cpu=2");
    assert_int_equal(logs.entries[0].time_ns, INT64_C(1767225600500000000));
    assert_string_equal(logs.entries[1].text, "");
    e2b_logs_deinit(&logs);
    e2b_logs(b.e2b, &w2.op, "iabc", &(struct e2b_logs_args){.backward = true, .limit = 1}, &logs);
    check(wait_for(&w2), CODE_OK, 0);
    assert_int_equal(logs.n_entries, 0);
    e2b_logs_deinit(&logs);
    e2b_logs(b.e2b, &w3.op, "iother", &(struct e2b_logs_args){.limit = 1}, &logs);
    check(wait_for(&w3), CODE_UNAVAILABLE, REASON(E2B_UNAVAILABLE));
    assert_int_equal(logs.n_entries, 0);
    bench_close(&b);
}

static void serve_changes(struct fake_call *c, void *arg)
{
    struct bench *b = arg;

    if (fake_is(c, "DELETE", "/sandboxes/igone"))
        fake_reply(c, 404, "", NOT_FOUND_BODY);
    else if (fake_is(c, "DELETE", "/sandboxes/iabc"))
        fake_reply(c, 204, "", "");
    else if (fake_is(c, "POST", "/sandboxes/iabc/timeout"))
        fake_reply(c, c->body_len == 14 && memcmp(c->body, "{\"timeout\":90}", 14) == 0 ? 204 : 400,
                   "", "{\"code\":400,\"message\":\"x\"}");
    else if (fake_is(c, "POST", "/sandboxes/ipaused/timeout"))
        fake_reply(c, 409, "", "{\"code\":409,\"message\":\"not running\"}");
    else if (fake_is(c, "GET", "/sandboxes/ipaused"))
        fake_reply(c, 200, "",
                   DETAIL_OF("ipaused", "paused", ",\"network\":{\"allowPublicTraffic\":false}"));
    else if (fake_is(c, "GET", "/sandboxes/iprivate"))
        fake_reply(c, 200, "",
                   DETAIL_OF("iprivate", "running", ",\"network\":{\"allowPublicTraffic\":false}"));
    else if (fake_is(c, "POST", "/sandboxes/iprivate/connect"))
        fake_reply(c, 200, "", DETAIL("running", ",\"trafficAccessToken\":\"traffic\""));
    else
        fake_reply(c, 200, "", DETAIL("running", ""));
    atomic_fetch_add(&b->n[0], 1);
}

static void test_delete(void **state)
{
    struct bench b = {0};
    struct waiter w = WAITER;
    struct waiter w2 = WAITER;

    bench_open(&b, serve_changes);
    e2b_delete(b.e2b, &w.op, "iabc");
    check(wait_for(&w), CODE_OK, 0);
    e2b_delete(b.e2b, &w2.op, "igone");
    check(wait_for(&w2), CODE_NOT_FOUND, REASON(SANDBOX_NOT_FOUND));
    bench_close(&b);
}

/* The sandbox is deleted, but the line goes dead before the answer. On a kept connection curl asks
 * again by itself, on a new one we do. */
static void serve_lost_delete(struct fake_call *c, void *arg)
{
    struct bench *b = arg;

    atomic_store(&b->n[1], c->connection);
    if (!fake_is(c, "DELETE", "/sandboxes/iabc"))
        fake_reply(c, 200, "", DETAIL("running", ""));
    else if (atomic_fetch_add(&b->n[0], 1) > 0)
        fake_reply(c, 404, "", NOT_FOUND_BODY);
    else
        c->close = true;
}

static void test_a_repeated_delete_finds_nothing_and_is_well(void **state)
{
    for (int kept = 0; kept < 2; kept++) {
        struct bench b = {0};
        struct waiter w = WAITER;
        struct waiter w2 = WAITER;
        struct e2b_sandbox s;

        bench_open(&b, serve_lost_delete);
        if (kept) {
            e2b_get(b.e2b, &w2.op, "iabc", &s);
            check(wait_for(&w2), CODE_OK, 0);
            e2b_sandbox_deinit(&s);
        }
        e2b_delete(b.e2b, &w.op, "iabc");
        check(wait_for(&w), CODE_OK, 0);
        assert_int_equal(atomic_load(&b.n[0]), 2);
        assert_int_equal(atomic_load(&b.n[1]), 1); /* no third connection */
        bench_close(&b);
    }
}

static void test_set_timeout(void **state)
{
    struct bench b = {0};
    struct waiter w = WAITER;
    struct waiter w2 = WAITER;
    struct e2b_sandbox s;

    bench_open(&b, serve_changes);
    e2b_set_timeout(b.e2b, &w.op, "iabc", 90, &s);
    check(wait_for(&w), CODE_OK, 0);
    assert_int_equal(s.end_ns, INT64_C(1767326645) * NS_PER_S);
    e2b_sandbox_deinit(&s);
    e2b_set_timeout(b.e2b, &w2.op, "ipaused", 90, &s);
    check(wait_for(&w2), CODE_FAILED_PRECONDITION, REASON(SANDBOX_PAUSED));
    bench_close(&b);
}

static void test_port_url(void **state)
{
    struct bench b = {0};
    struct waiter w = WAITER;
    struct waiter w2 = WAITER;
    struct waiter w3 = WAITER;
    char *url, *host, *token;

    bench_open(&b, serve_changes);
    e2b_port_url(b.e2b, &w.op, "iabc", 3000, &url, &host, &token);
    check(wait_for(&w), CODE_OK, 0);
    assert_int_equal(strncmp(host, "3000-iabc.e2b.app:", 18), 0);
    assert_string_equal(url + 7, host);
    assert_null(token);
    free(url);
    free(host);
    e2b_port_url(b.e2b, &w2.op, "iprivate", 3000, &url, &host, &token);
    check(wait_for(&w2), CODE_OK, 0);
    assert_string_equal(token, "traffic");
    free(url);
    free(host);
    free(token);
    e2b_port_url(b.e2b, &w3.op, "ipaused", 3000, &url, &host, &token);
    check(wait_for(&w3), CODE_FAILED_PRECONDITION, REASON(SANDBOX_PAUSED));
    bench_close(&b);
}

static void test_config_is_checked(void **state)
{
    struct e2b_config config = config_for("http://127.0.0.1:1");
    struct status st;
    struct e2b *e;

    config.api_key = "";
    assert_false(e2b_new(&config, &e, &st));
    config.api_key = "a\r\nX: y";
    assert_false(e2b_new(&config, &e, &st));
    config = config_for("ftp://x");
    assert_false(e2b_new(&config, &e, &st));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_get),
        cmocka_unit_test(test_get_failures),
        cmocka_unit_test(test_nobody_there),
        cmocka_unit_test(test_deadline_and_cancel),
        cmocka_unit_test(test_many_at_once),
        cmocka_unit_test(test_list),
        cmocka_unit_test(test_logs),
        cmocka_unit_test(test_delete),
        cmocka_unit_test(test_a_repeated_delete_finds_nothing_and_is_well),
        cmocka_unit_test(test_set_timeout),
        cmocka_unit_test(test_port_url),
        cmocka_unit_test(test_config_is_checked),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
