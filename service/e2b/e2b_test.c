/*
 * The adapter against an E2B that behaves, and misbehaves, in each documented way. Every test
 * writes its own server; the adapter is the real one, threads and all.
 */
#include "service/e2b/e2b.h"

#include "common/base/buf.h"
#include "common/base/cleanup.h"
#include "common/base/clock.h"
#include "common/base/list.h"
#include "common/base/mem.h"
#include "envd/process/process.pb-c.h"
#include "sandbox/v1/errors.pb-c.h"
#include "service/e2b/bench.h"

#include <json-c/json.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

/* --- the control plane --- */

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

/* --- creating --- */

/* A control plane with a memory, for one label. */
enum { POSTS, GETS, LISTS, DELETES };

static const char *label(struct json_object *body, const char *key)
{
    struct json_object *metadata, *value;

    if (!json_object_object_get_ex(body, "metadata", &metadata) ||
        !json_object_object_get_ex(metadata, key, &value))
        return "";
    return json_object_get_string(value);
}

static bool is_true(struct json_object *body, const char *key)
{
    struct json_object *value;

    return json_object_object_get_ex(body, key, &value) && json_object_get_boolean(value);
}

static void serve_create(struct fake_call *c, void *arg)
{
    struct bench *b = arg;

    if (fake_is(c, "POST", "/sandboxes")) {
        struct json_object *o = json_tokener_parse((char *)c->body);
        bool ok = is_true(o, "secure") && is_true(o, "autoPause") &&
                  strlen(label(o, "sandboxd.attempt")) == 32 &&
                  strcmp(label(o, "mine"), "yes") == 0 &&
                  strstr((char *)c->body, "\"allow_internet_access\":false") != NULL &&
                  strstr((char *)c->body, "\"envVars\":{\"A\":\"1\"}") != NULL;

        json_object_put(o);
        atomic_fetch_add(&b->n[POSTS], 1);
        fake_reply(c, ok ? 201 : 400, "",
                   ok ? "{\"sandboxID\":\"iabc\",\"templateID\":\"base\",\"clientID\":\"x\","
                        "\"envdVersion\":\"0.6.13\",\"envdAccessToken\":\"t0\","
                        "\"trafficAccessToken\":\"traffic\"}"
                      : "{\"code\":400,\"message\":\"not as it should be\"}");
        return;
    }
    atomic_fetch_add(&b->n[GETS], 1);
    if (strcmp(b->mode, "no detail") == 0)
        fake_reply(c, 404, "", NOT_FOUND_BODY);
    else
        fake_reply(c, 200, "", DETAIL("running", ""));
}

static void test_create(void **state)
{
    static const char *const modes[] = {"", "no detail"};
    struct e2b_pair mine = {(char *)"mine", (char *)"yes"}, env = {(char *)"A", (char *)"1"};
    struct e2b_network network = {.deny_internet = true};
    struct e2b_create_args args = {.timeout_s = 600,
                                   .metadata = &mine,
                                   .n_metadata = 1,
                                   .envs = &env,
                                   .n_envs = 1,
                                   .pause_on_timeout = true,
                                   .network = &network};

    for (int i = 0; i < 2; i++) {
        struct bench b = {.mode = modes[i]};
        struct waiter w = WAITER;
        struct e2b_sandbox s;
        bool reused = true;

        bench_open(&b, serve_create);
        e2b_create(b.e2b, &w.op, &args, &s, &reused);
        check(wait_for(&w), CODE_OK, 0);
        assert_false(reused);
        assert_string_equal(s.id, "iabc");
        assert_string_equal(s.traffic_token, "traffic");
        if (i == 0)
            assert_int_equal(s.memory_mib, 512);
        else
            assert_int_equal(s.end_ns - s.start_ns, 600 * NS_PER_S);
        assert_int_equal(atomic_load(&b.n[POSTS]), 1);
        e2b_sandbox_deinit(&s);
        bench_close(&b);
    }
}

static void serve_create_failure(struct fake_call *c, void *arg)
{
    struct bench *b = arg;

    atomic_fetch_add(&b->n[POSTS], 1);
    if (strcmp(b->mode, "404") == 0)
        fake_reply(c, 404, "", "{\"code\":404,\"message\":\"template 'x' not found\"}");
    else if (strcmp(b->mode, "400") == 0)
        fake_reply(c, 400, "", "{\"code\":400,\"message\":\"Timeout cannot be greater\"}");
    else
        fake_reply(c, 503, "",
                   "{\"code\":503,\"message\":\"full\","
                   "\"error_code\":\"sandbox_capacity_unavailable\"}");
}

static void test_create_failures(void **state)
{
    static const struct {
        const char *mode;
        enum code code;
        int reason;
        int attempts;
    } cases[] = {
        {"404", CODE_NOT_FOUND, REASON(TEMPLATE_NOT_FOUND), 1},
        {"400", CODE_INVALID_ARGUMENT, REASON(E2B_REJECTED), 1},
        {"503", CODE_UNAVAILABLE, REASON(E2B_UNAVAILABLE), 3}, /* nothing was made: safe */
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct bench b = {.mode = cases[i].mode};
        struct waiter w = WAITER;
        struct e2b_sandbox s = {0};
        bool reused;

        bench_open(&b, serve_create_failure);
        e2b_create(b.e2b, &w.op, &(struct e2b_create_args){.timeout_s = 1}, &s, &reused);
        check(wait_for(&w), cases[i].code, cases[i].reason);
        assert_int_equal(atomic_load(&b.n[POSTS]), cases[i].attempts);
        bench_close(&b);
    }
}

/* The first request keeps the connection; the POST on it is read and then the line goes dead. curl
 * would send it again by itself, and a second sandbox would be made. */
static void serve_lost_create(struct fake_call *c, void *arg)
{
    struct bench *b = arg;

    if (fake_is(c, "POST", "/sandboxes")) {
        assert_true(c->nth > 0 || strcmp(b->mode, "fresh") == 0);
        atomic_fetch_add(&b->n[POSTS], 1);
        c->close = true;
    } else if (fake_is(c, "DELETE", "/sandboxes/iabc")) {
        fake_reply(c, 204, "", "");
        atomic_fetch_add(&b->n[DELETES], 1);
    } else if (fake_is(c, "GET", "/v2/sandboxes")) {
        fake_reply(c, 200, "",
                   strstr(c->path, "sandboxd.attempt") ? "[" DETAIL("running", "") "]" : "[]");
        atomic_fetch_add(&b->n[LISTS], 1);
    } else {
        fake_reply(c, 200, "",
                   fake_is(c, "GET", "/sandboxes/iabd") ? DETAIL_OF("iabd", "running", "")
                                                        : DETAIL("running", ""));
    }
}

static void test_lost_create_is_not_repeated_but_hunted(void **state)
{
    static const char *const modes[] = {"fresh", "reused connection"};

    for (int i = 0; i < 2; i++) {
        struct bench b = {.mode = modes[i]};
        struct e2b_sandbox s = {0};
        struct waiter w = WAITER;
        bool reused;

        bench_open(&b, serve_lost_create);
        for (int k = 0; k < 2 * i; k++) { /* one kept connection per loop */
            struct waiter w2 = WAITER;

            e2b_port_url(b.e2b, &w2.op, k ? "iabc" : "iabd", 1, &s.id, &s.domain, &s.traffic_token);
            wait_for(&w2);
            e2b_sandbox_deinit(&s);
        }
        e2b_create(b.e2b, &w.op, &(struct e2b_create_args){.timeout_s = 1}, &s, &reused);
        check(wait_for(&w), CODE_UNAVAILABLE, REASON(E2B_UNAVAILABLE));
        assert_int_equal(atomic_load(&b.n[POSTS]), 1);
        wait_until(&b.n[DELETES], 1);
        assert_int_equal(atomic_load(&b.n[POSTS]), 1);
        bench_close(&b);
    }
}

#define LISTED(id, time)                                                                           \
    "{\"sandboxID\":\"" id "\",\"templateID\":\"base\",\"startedAt\":\"2026-01-02T03:04:" time     \
    "Z\",\"endAt\":\"2026-01-02T04:04:05Z\",\"state\":\"running\"}"

/* Two sandboxes that just started, the older one second; or only the first of them. */
static void reply_young(struct fake_call *c, bool both)
{
    char now[32], before[32], list[512];
    time_t t = time(NULL);
    struct tm tm;

    strftime(now, sizeof now, "%FT%TZ", gmtime_r(&t, &tm));
    t--;
    strftime(before, sizeof before, "%FT%TZ", gmtime_r(&t, &tm));
    snprintf(list, sizeof list,
             "[{\"sandboxID\":\"inew\",\"templateID\":\"base\",\"startedAt\":\"%s\",\"endAt\":"
             "\"%s\",\"state\":\"running\"}",
             now, now);
    if (both)
        snprintf(list + strlen(list), sizeof list - strlen(list),
                 ",{\"sandboxID\":\"iold\",\"templateID\":\"base\",\"startedAt\":\"%s\",\"endAt\":"
                 "\"%s\",\"state\":\"running\"}",
                 before, now);
    strcat(list, "]");
    fake_reply(c, 200, "", list);
}

static void serve_keyed(struct fake_call *c, void *arg)
{
    struct bench *b = arg;

    if (fake_is(c, "POST", "/sandboxes")) {
        int nth = atomic_fetch_add(&b->n[POSTS], 1);

        if (strcmp(b->mode, "lost") == 0 && nth == 0)
            c->close = true;
        else
            fake_reply(c, 201, "", "{\"sandboxID\":\"imine\",\"templateID\":\"base\"}");
    } else if (fake_is(c, "DELETE", "/sandboxes/imine")) {
        if (atomic_fetch_add(&b->n[DELETES], 1) < 3 && strcmp(b->mode, "raced, refused") == 0)
            fake_reply(c, 500, "", "{\"code\":500,\"message\":\"oops\"}");
        else
            fake_reply(c, 204, "", "");
    } else if (fake_is(c, "GET", "/v2/sandboxes")) {
        int nth = atomic_fetch_add(&b->n[LISTS], 1);

        if (strcmp(b->mode, "there") == 0)
            fake_reply(c, 200, "", "[" LISTED("inew", "09") "," LISTED("iold", "01") "]");
        else if (strcmp(b->mode, "there, young") == 0)
            reply_young(c, nth > 0);
        else if (strncmp(b->mode, "raced", 5) == 0 && nth >= 2)
            fake_reply(c, 200, "", "[" LISTED("iother", "04") "," LISTED("imine", "05") "]");
        else if (strcmp(b->mode, "lost") == 0 && nth >= 1)
            fake_reply(c, 200, "", "[" LISTED("ilost", "05") "]");
        else if (nth == 0)
            fake_reply(c, 200, "", "[]");
        else
            fake_reply(c, 200, "", "[" LISTED("imine", "05") "," LISTED("iyounger", "06") "]");
    } else {
        fake_reply(c, 200, "", LISTED("imine", "05"));
    }
}

static void test_create_once(void **state)
{
    static const struct {
        const char *mode, *id;
        bool reused;
        int posts, deletes;
    } cases[] = {
        {"there", "iold", true, 0, 0},        /* found: nothing is made */
        {"alone", "imine", false, 1, 0},      /* made; a younger one gives way by itself */
        {"raced", "iother", true, 1, 1},      /* made, but an older one showed up */
        {"lost", "ilost", true, 1, 0},        /* the answer was lost: the second look finds it */
        {"there, young", "iold", true, 0, 0}, /* found, and an older one is listed a moment later */
        {"raced, refused", "iother", true, 1, 4}, /* it is deleted although E2B does not want to */
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct bench b = {.mode = cases[i].mode};
        struct waiter w = WAITER;
        struct e2b_create_args args = {.timeout_s = 1};
        struct e2b_sandbox s = {0};
        bool reused;

        if (i % 2 == 0)
            args.request_id = "r1";
        else
            args.reuse_key = "k1";
        bench_open(&b, serve_keyed);
        e2b_create(b.e2b, &w.op, &args, &s, &reused);
        check(wait_for(&w), CODE_OK, 0);
        assert_string_equal(s.id, cases[i].id);
        assert_int_equal(reused, cases[i].reused);
        assert_int_equal(atomic_load(&b.n[POSTS]), cases[i].posts);
        wait_until(&b.n[DELETES], cases[i].deletes);
        e2b_sandbox_deinit(&s);
        bench_close(&b);
    }
}

/* Once it is made, lists fail for a long time; then there is an older one, or there is none. */
static void serve_unsettled(struct fake_call *c, void *arg)
{
    struct bench *b = arg;

    if (fake_is(c, "POST", "/sandboxes")) {
        atomic_fetch_add(&b->n[POSTS], 1);
        fake_reply(c, 201, "", "{\"sandboxID\":\"imine\",\"templateID\":\"base\"}");
    } else if (fake_is(c, "DELETE", "/sandboxes/imine")) {
        atomic_fetch_add(&b->n[DELETES], 1);
        fake_reply(c, 204, "", "");
    } else if (!fake_is(c, "GET", "/v2/sandboxes")) {
        fake_reply(c, 200, "", LISTED("imine", "05"));
    } else if (strstr(c->path, "sandboxd.attempt") != NULL) {
        fake_reply(c, 200, "", "[" LISTED("imine", "05") "]");
    } else if (atomic_load(&b->n[POSTS]) == 0) {
        fake_reply(c, 200, "", "[]");
    } else if (atomic_load(&b->n[GETS]) == 0) {
        fake_reply(c, 503, "", "{\"code\":503,\"message\":\"busy\"}");
    } else {
        atomic_fetch_add(&b->n[LISTS], 1);
        fake_reply(c, 200, "",
                   strcmp(b->mode, "alone") == 0
                       ? "[" LISTED("imine", "05") "]"
                       : "[" LISTED("iother", "04") "," LISTED("imine", "05") "]");
    }
}

/* Nobody is told of a sandbox that may have to give way; it is hunted like one that was lost. */
static void test_what_cannot_be_settled_is_not_given(void **state)
{
    static const char *const modes[] = {"alone", "raced"};

    for (int i = 0; i < 2; i++) {
        struct bench b = {.mode = modes[i]};
        struct waiter w = WAITER;
        struct e2b_create_args args = {.timeout_s = 1, .request_id = "r1"};
        struct e2b_sandbox s = {0};
        bool reused;

        bench_open(&b, serve_unsettled);
        e2b_create(b.e2b, &w.op, &args, &s, &reused);
        check(wait_for(&w), CODE_UNAVAILABLE, REASON(E2B_UNAVAILABLE));
        atomic_store(&b.n[GETS], 1);
        if (i == 0)
            wait_until(&b.n[LISTS], 2);
        else
            wait_until(&b.n[DELETES], 1);
        assert_int_equal(atomic_load(&b.n[DELETES]), i);
        assert_int_equal(atomic_load(&b.n[POSTS]), 1);
        bench_close(&b);
    }
}

/* --- processes in the sandbox --- */

/* What a Start asks for, put into one line: "root|/|/path/to/recorder-x|follow|--id=a". */
static void describe_start(const struct fake_call *c, char *to, size_t size)
{
    Process__StartRequest *m = process__start_request__unpack(NULL, c->body_len - 5, c->body + 5);
    bool root = fake_has(c, "Authorization: Basic cm9vdDo=");

    snprintf(to, size, "%s|%s|%s", root ? "root" : "", m->process->cwd, m->process->cmd);
    for (size_t i = 0; i < m->process->n_args; i++) {
        size_t len = strlen(to);

        snprintf(to + len, size - len, "|%s", m->process->args[i]);
    }
    process__start_request__free_unpacked(m, NULL);
}

/* Output, exit code, and a proper end. */
static void answer_start(struct fake_call *c, const char *out, const char *err, int code)
{
    struct buf b = BUF_INIT(1 << 20);

    fake_add_start(&b, 4711);
    fake_add_data(&b, false, out, strlen(out));
    fake_add_data(&b, true, err, strlen(err));
    fake_add_exit(&b, code, true);
    buf_append(&b, "\2\0\0\0\2{}", 7);
    fake_stream(c, "application/connect+proto");
    fake_chunk(c, buf_data(&b), buf_len(&b));
    fake_end(c);
    buf_deinit(&b);
}

/* The connection ends between the two lines. */
static void start_half_an_answer(struct fake_call *c)
{
    struct buf b = BUF_INIT(1 << 20);

    fake_add_start(&b, 4711);
    fake_add_data(&b, false, "user\n", 5);
    fake_stream(c, "application/connect+proto");
    fake_chunk(c, buf_data(&b), buf_len(&b));
    c->close = true;
    buf_deinit(&b);
}

static void answer_stream_error(struct fake_call *c, const char *json)
{
    struct buf b = BUF_INIT(1000);
    uint8_t head[] = {2, 0, 0, 0, (uint8_t)strlen(json)};

    buf_append(&b, head, sizeof head);
    buf_append_str(&b, json);
    fake_stream(c, "application/connect+proto");
    fake_chunk(c, buf_data(&b), buf_len(&b));
    fake_end(c);
    buf_deinit(&b);
}

enum { STARTS, UPLOADS, SPECS, LOOKS, KILLS, SETUPS, VERBS, ASKED };

static bool serve_common(struct fake_call *c, struct bench *b)
{
    if (fake_is(c, "GET", "/sandboxes/")) {
        atomic_fetch_add(&b->n[LOOKS], 1);
        fake_reply(c, 200, "", DETAIL("running", ""));
        return true;
    }
    if (!fake_has(c, "E2b-Sandbox-Id: iabc") || !fake_has(c, "E2b-Sandbox-Port: 49983") ||
        !fake_has(c, "X-Access-Token: t0")) {
        fake_reply(c, 400, "", "not as it should be");
        return true;
    }
    if (fake_is(c, "POST", "/process.Process/SendSignal")) {
        Process__SendSignalRequest *m =
            process__send_signal_request__unpack(NULL, c->body_len, c->body);
        bool ok = m != NULL && m->process->pid == 4711 &&
                  m->signal == PROCESS__SIGNAL__SIGNAL_SIGKILL &&
                  fake_has(c, "Content-Type: application/proto");

        if (m != NULL)
            process__send_signal_request__free_unpacked(m, NULL);
        if (ok)
            atomic_fetch_add(&b->n[KILLS], 1);
        fake_reply(c, 200, "", "");
        return true;
    }
    if (fake_is(c, "POST", "/process.Process/Start"))
        atomic_fetch_add(&b->n[STARTS], 1);
    return false;
}

#define ROOT_RECORDER "/var/lib/sandboxd/bin/recorder-"
#define HOME_RECORDER ".sandboxd/bin/recorder-"

/* A sandbox where the recorder has to be installed first. */
static void serve_install(struct fake_call *c, void *arg)
{
    struct bench *b = arg;
    bool home = strcmp(b->mode, "no root") == 0;
    char what[2048];

    if (serve_common(c, b))
        return;
    if (fake_is(c, "POST", "/files")) {
        bool as_root = strstr(c->path, "&username=root") != NULL;

        if (home && as_root) {
            fake_reply(c, 401, "", "{\"code\":401,\"message\":\"error looking up user\"}");
            return;
        }
        if (strstr(c->path, home ? "path=.sandboxd%2Fbin%2F.upload-"
                                 : "path=%2Fvar%2Flib%2Fsandboxd%2Fbin%2F.upload-") &&
            c->body_len == sizeof bench_recorder) {
            snprintf(b->seen, sizeof b->seen, "%.40s", strstr(c->path, ".upload-"));
            atomic_fetch_add(&b->n[UPLOADS], 1);
        } else if (strstr(c->path, home ? "path=.sandboxd%2Fspec%2F"
                                        : "path=%2Fvar%2Flib%2Fsandboxd%2Fspec%2F") &&
                   c->body_len == 4)
            atomic_fetch_add(&b->n[SPECS], 1);
        fake_reply(c, 200, "", "[{\"path\":\"/x\",\"name\":\"x\",\"type\":\"file\"}]");
        return;
    }
    describe_start(c, what, sizeof what);
    if (home && strncmp(what, "root", 4) == 0) {
        answer_stream_error(c,
                            "{\"error\":{\"code\":\"unauthenticated\",\"message\":\"no root\"}}");
        return;
    }
    if (!home && strcmp(what, "||/bin/sh|-c|id -un && pwd") == 0) {
        if (strcmp(b->mode, "cut") == 0 && atomic_fetch_add(&b->n[ASKED], 1) == 0) {
            start_half_an_answer(c);
            return;
        }
        answer_start(c, "user\n/home/user\n", "", 0);
        return;
    }
    if (strncmp(what, home ? "|~|/bin/sh|-c|f=" : "root|/|/bin/sh|-c|f=", home ? 16 : 20) == 0) {
        bool uploaded = atomic_load(&b->n[UPLOADS]) > 0 && strstr(what, b->seen) != NULL;
        bool told = strstr(what, "|--default-user=user|--default-cwd=/home/user") != NULL;

        if (told == home) {
            fake_reply(c, 400, "", "not as it should be");
            return;
        }
        atomic_fetch_add(&b->n[SETUPS], 1);
        answer_start(c, "", "", uploaded ? 0 : 1);
        return;
    }
    if (strstr(what, home ? "|~|" HOME_RECORDER : "root|/|" ROOT_RECORDER) == NULL) {
        fake_reply(c, 400, "", "not as it should be");
        return;
    }
    if (atomic_load(&b->n[SETUPS]) == 0) {
        answer_start(c, "", "sh: 1: exec: not found\n", 127);
        return;
    }
    if (strstr(what, "--spec=") != NULL)
        wait_until(&b->n[SPECS], atomic_load(&b->n[VERBS]) + 1); /* as the recorder does */
    atomic_fetch_add(&b->n[VERBS], 1);
    answer_start(c, what, "a word\n", 3);
}

static void run_verb(struct bench *b, const uint8_t *spec, struct e2b_output *out)
{
    static const char *const args[] = {"show", "--id=a", NULL};
    struct waiter w = WAITER;

    e2b_verb(b->e2b, &w.op, "iabc", args, spec, spec ? 4 : 0, true, out);
    check(wait_for(&w), CODE_OK, 0);
}

static void test_verb_installs_once(void **state)
{
    static const char *const modes[] = {"root", "no root"};

    for (int i = 0; i < 4; i++) {
        struct bench b = {.mode = modes[i % 2]};
        const uint8_t *spec = i < 2 ? NULL : (const uint8_t *)"spec";
        struct e2b_output out;
        int starts;

        bench_open(&b, serve_install);
        run_verb(&b, spec, &out);
        assert_int_equal(out.exit_code, 3);
        assert_string_equal(out.err, "a word");
        assert_non_null(strstr((char *)out.out, i % 2 ? "|~|" HOME_RECORDER : "root|/|"));
        assert_non_null(strstr((char *)out.out, "|show|--id=a"));
        assert_int_equal(strstr((char *)out.out, "|--spec=") != NULL, spec != NULL);
        free(out.out);
        assert_int_equal(atomic_load(&b.n[UPLOADS]), 1);
        assert_int_equal(atomic_load(&b.n[SETUPS]), 1);
        assert_int_equal(atomic_load(&b.n[VERBS]), 1);
        assert_int_equal(atomic_load(&b.n[LOOKS]), 1);

        starts = atomic_load(&b.n[STARTS]);
        run_verb(&b, spec, &out);
        free(out.out);
        assert_int_equal(atomic_load(&b.n[STARTS]), starts + 1);
        assert_int_equal(atomic_load(&b.n[UPLOADS]), 1);
        assert_int_equal(atomic_load(&b.n[LOOKS]), 1);
        assert_int_equal(atomic_load(&b.n[SPECS]), spec ? 2 : 0);
        bench_close(&b);
    }
}

/* What the first answer held must not stand in front of the second one's. */
static void test_an_answer_cut_in_two_is_asked_for_again(void **state)
{
    struct bench b = {.mode = "cut"};
    struct e2b_output out;

    bench_open(&b, serve_install);
    run_verb(&b, NULL, &out);
    assert_int_equal(out.exit_code, 3);
    assert_int_equal(atomic_load(&b.n[ASKED]), 2);
    assert_int_equal(atomic_load(&b.n[SETUPS]), 1);
    free(out.out);
    bench_close(&b);
}

static void serve_broken_install(struct fake_call *c, void *arg)
{
    char what[2048];

    if (serve_common(c, arg))
        return;
    if (fake_is(c, "POST", "/files")) {
        fake_reply(c, 507, "", "{\"code\":507,\"message\":\"not enough disk space\"}");
        return;
    }
    describe_start(c, what, sizeof what);
    if (strstr(what, "id -un") != NULL)
        answer_start(c, "user\n/home/user\n", "", 0);
    else
        answer_start(c, "", "not found", 127);
}

static void test_verb_where_the_disk_is_full(void **state)
{
    static const char *const args[] = {"show", NULL};
    struct bench b = {0};
    struct waiter w = WAITER;
    struct e2b_output out;

    bench_open(&b, serve_broken_install);
    e2b_verb(b.e2b, &w.op, "iabc", args, NULL, 0, true, &out);
    check(wait_for(&w), CODE_RESOURCE_EXHAUSTED, REASON(DISK_FULL));
    bench_close(&b);
}

/* The edge and envd at their worst; n[LOOKS] counts looks at the control plane. */
static void serve_edge(struct fake_call *c, void *arg)
{
    struct bench *b = arg;
    int nth;

    if (fake_is(c, "GET", "/sandboxes/")) {
        nth = atomic_fetch_add(&b->n[LOOKS], 1);
        if (nth > 0 && strcmp(b->mode, "gone") == 0)
            fake_reply(c, 404, "", NOT_FOUND_BODY);
        else if (nth > 0 && strcmp(b->mode, "paused") == 0)
            fake_reply(c, 200, "", DETAIL("paused", ""));
        else if (nth > 0 && strcmp(b->mode, "new token") == 0)
            fake_reply(c, 200, "",
                       "{\"sandboxID\":\"iabc\",\"templateID\":\"base\",\"state\":\"running\","
                       "\"startedAt\":\"2026-01-02T03:04:05Z\",\"endAt\":\"2026-01-02T04:04:05Z\","
                       "\"envdAccessToken\":\"t1\"}");
        else
            fake_reply(c, 200, "", DETAIL("running", ""));
        return;
    }
    nth = atomic_fetch_add(&b->n[STARTS], 1);
    if (strcmp(b->mode, "new token") == 0 && !fake_has(c, "X-Access-Token: t1"))
        fake_reply(c, 401, "", "{\"code\":401,\"message\":\"unauthorized access\"}");
    else if (strcmp(b->mode, "gone") == 0 || strcmp(b->mode, "paused") == 0 ||
             strcmp(b->mode, "closed") == 0 || (strcmp(b->mode, "closed once") == 0 && nth == 0))
        fake_reply(
            c, 502, "",
            "{\"sandboxId\":\"iabc\",\"message\":\"The sandbox was not found\",\"code\":502}");
    else if (strcmp(b->mode, "connections") == 0)
        fake_reply(c, 429, "", "{\"code\":429,\"message\":\"x\",\"connectionLimit\":1}");
    else if (strcmp(b->mode, "html") == 0)
        fake_reply(c, 200, "Content-Type: text/html\r\n", "<html>hello</html>");
    else if (strcmp(b->mode, "early end") == 0) {
        fake_stream(c, "application/connect+proto");
        fake_end(c);
    } else if (strcmp(b->mode, "cut") == 0 || (strcmp(b->mode, "cut once") == 0 && nth == 0)) {
        fake_stream(c, "application/connect+proto");
        fake_chunk(c, "\0\0\0\0\x07\x0a\x05\x0a\x03\x08\xe7\x24", 12); /* start, pid 4711 */
        fake_chunk(c, "\0\0\0\0\x09\x0a\x07\x12\x05\x0a\x03xyz", 14);
        c->close = true;
    } else if (strcmp(b->mode, "killed") == 0) {
        answer_stream_error(c, "{\"error\":{\"code\":\"deadline_exceeded\",\"message\":\"over\"}}");
    } else {
        answer_start(c, "fine", "", 0);
    }
}

static void test_verb_failures(void **state)
{
    static const struct {
        const char *mode;
        bool idempotent;
        enum code code;
        int reason;
        int starts;
    } cases[] = {
        {"gone", false, CODE_NOT_FOUND, REASON(SANDBOX_NOT_FOUND), 1},
        {"paused", false, CODE_FAILED_PRECONDITION, REASON(SANDBOX_PAUSED), 1},
        {"closed", false, CODE_UNAVAILABLE, REASON(E2B_UNAVAILABLE), 3},
        {"closed once", false, CODE_OK, 0, 2},
        {"new token", false, CODE_OK, 0, 2},
        {"connections", true, CODE_RESOURCE_EXHAUSTED, REASON(E2B_QUOTA), 1},
        {"html", true, CODE_UNAVAILABLE, REASON(E2B_UNAVAILABLE), 3},
        {"early end", true, CODE_UNAVAILABLE, REASON(E2B_UNAVAILABLE), 3},
        {"early end", false, CODE_UNAVAILABLE, REASON(E2B_UNAVAILABLE), 1},
        {"cut", false, CODE_UNAVAILABLE, REASON(E2B_UNAVAILABLE), 1},
        {"cut once", true, CODE_OK, 0, 2},
        {"killed", false, CODE_UNAVAILABLE, REASON(E2B_UNAVAILABLE), 1},
    };
    static const char *const args[] = {"show", NULL};

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct bench b = {.mode = cases[i].mode};
        struct waiter w = WAITER;
        struct e2b_output out;

        bench_open(&b, serve_edge);
        e2b_verb(b.e2b, &w.op, "iabc", args, NULL, 0, cases[i].idempotent, &out);
        check(wait_for(&w), cases[i].code, cases[i].reason);
        if (cases[i].code == CODE_OK) /* nothing of an attempt before */
            assert_string_equal((char *)out.out, "fine");
        free(out.out);
        /* Kills of lost followers come to the same server: at least these were Starts. */
        assert_true(atomic_load(&b.n[STARTS]) >= cases[i].starts);
        if (strncmp(cases[i].mode, "cut", 3) != 0)
            assert_int_equal(atomic_load(&b.n[STARTS]), cases[i].starts);
        bench_close(&b);
    }
}

/* Neither the control plane nor the sandbox says a word: each attempt has its time, and the caller
 * hears of it. */
static void serve_silence(struct fake_call *c, void *arg)
{
    struct bench *b = arg;

    if (strcmp(b->mode, "sandbox") == 0 && fake_is(c, "GET", "/sandboxes/")) {
        fake_reply(c, 200, "", DETAIL("running", ""));
        return;
    }
    atomic_fetch_add(&b->n[STARTS], 1);
    fake_wait_gone(c);
}

static void test_silence_ends_an_attempt(void **state)
{
    static const char *const args[] = {"show", NULL};
    static const struct {
        const char *mode;
        bool idempotent;
        int attempts;
    } cases[] = {{"sandbox", false, 1}, {"sandbox", true, 3}, {"control plane", false, 3}};

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct bench b = {.mode = cases[i].mode, .request_timeout_ms = 150};
        struct waiter w = WAITER;
        struct e2b_output out;

        bench_open(&b, serve_silence);
        e2b_verb(b.e2b, &w.op, "iabc", args, NULL, 0, cases[i].idempotent, &out);
        check(wait_for(&w), CODE_UNAVAILABLE, REASON(E2B_UNAVAILABLE));
        assert_int_equal(atomic_load(&b.n[STARTS]), cases[i].attempts);
        bench_close(&b);
    }
}

/* A process that starts when n[VERBS] says so, and then stays. */
static void serve_endless(struct fake_call *c, void *arg)
{
    struct bench *b = arg;
    struct buf data = BUF_INIT(1000);

    if (serve_common(c, b))
        return;
    wait_until(&b->n[VERBS], 1);
    fake_add_start(&data, 4711);
    fake_add_data(&data, false, "first", 5);
    fake_stream(c, "application/connect+proto");
    fake_chunk(c, buf_data(&data), buf_len(&data));
    buf_deinit(&data);
    atomic_fetch_add(&b->n[SETUPS], 1);
    fake_wait_gone(c);
}

static void test_cancelled_verb_is_killed(void **state)
{
    static const char *const args[] = {"follow", NULL};

    for (int before_start = 0; before_start < 2; before_start++) {
        struct bench b = {0};
        struct waiter w = WAITER;
        struct e2b_output out;

        bench_open(&b, serve_endless);
        atomic_store(&b.n[VERBS], !before_start);
        e2b_verb(b.e2b, &w.op, "iabc", args, NULL, 0, true, &out);
        if (before_start)
            wait_until(&b.n[STARTS], 1);
        else
            wait_until(&b.n[SETUPS], 1);
        e2b_cancel(&w.op);
        check(wait_for(&w), CODE_CANCELLED, 0);
        atomic_store(&b.n[VERBS], 1); /* only now does it start, and nobody is there */
        wait_until(&b.n[KILLS], 1);
        bench_close(&b);
    }
}

/* --- streams --- */

struct reader {
    struct waiter w;
    struct e2b_stream *stream;
    struct e2b_output out;
    struct buf got;
    size_t headroom;
    bool hold; /* does not take */
};

static void take_all(struct reader *r)
{
    uint8_t *base;
    size_t len;

    while (e2b_stream_take(r->stream, r->headroom, &base, &len)) {
        memset(base, 0xee, r->headroom);
        assert_true(len > 0 && len <= 65536);
        assert_true(buf_append(&r->got, base + r->headroom, len));
        free(base);
        r->headroom = (r->headroom + 7) % 50;
    }
}

static void on_readable(struct e2b_op *op)
{
    struct reader *r = container_of(op, struct reader, w.op);

    assert_false(r->w.done);
    if (!r->hold)
        take_all(r);
}

static void reader_open(struct reader *r, struct bench *b)
{
    static const char *const args[] = {"follow", "--id=a", NULL};

    *r = (struct reader){.w = WAITER};
    buf_init(&r->got, 64 << 20);
    r->stream = e2b_stream_start(b->e2b, &r->w.op, "iabc", args, NULL, 0, on_readable, &r->out);
}

static void reader_close(struct reader *r)
{
    e2b_stream_free(r->stream);
    buf_deinit(&r->got);
}

enum { BIG = 12 << 20, CHUNK = 32768 };

static uint8_t pattern(size_t i)
{
    return (uint8_t)(i * 31 + (i >> 12));
}

/* BIG bytes in events of CHUNK, then exit code 5. n[VERBS]: bytes written so far. */
static void serve_big(struct fake_call *c, void *arg)
{
    struct bench *b = arg;
    struct buf data = BUF_INIT(1 << 20);
    uint8_t chunk[CHUNK];

    if (serve_common(c, b))
        return;
    fake_stream(c, "application/connect+proto");
    fake_add_start(&data, 4711);
    for (size_t at = 0; at < BIG; at += CHUNK) {
        for (size_t i = 0; i < CHUNK; i++)
            chunk[i] = pattern(at + i);
        fake_add_data(&data, false, chunk, CHUNK);
        if (at % (5 * CHUNK) == 0)
            fake_add_keepalive(&data);
        fake_chunk(c, buf_data(&data), buf_len(&data));
        buf_clear(&data);
        atomic_fetch_add(&b->n[VERBS], CHUNK);
    }
    fake_add_exit(&data, 5, true);
    buf_append(&data, "\2\0\0\0\2{}", 7);
    fake_chunk(c, buf_data(&data), buf_len(&data));
    fake_end(c);
    buf_deinit(&data);
}

static void check_big(const struct reader *r)
{
    const uint8_t *data = buf_data(&r->got);

    assert_int_equal(buf_len(&r->got), BIG);
    for (size_t i = 0; i < BIG; i++) {
        if (data[i] != pattern(i))
            fail_msg("byte %zu is wrong", i);
    }
}

static void test_stream(void **state)
{
    struct bench b = {0};
    struct reader r;

    bench_open(&b, serve_big);
    reader_open(&r, &b);
    check(wait_for(&r.w), CODE_OK, 0);
    take_all(&r);
    check_big(&r);
    assert_int_equal(r.out.exit_code, 5);
    assert_null(r.out.out);
    reader_close(&r);
    bench_close(&b);
}

/* Nobody takes: the sandbox comes to a stand long before the end. Then all of it arrives. */
static void test_stream_backpressure(void **state)
{
    struct bench b = {0};
    struct reader r;
    int before = -1, now;

    bench_open(&b, serve_big);
    reader_open(&r, &b);
    r.hold = true;
    wait_until(&b.n[VERBS], 1);
    while ((now = atomic_load(&b.n[VERBS])) != before) { /* until it stands still */
        before = now;
        usleep(200000);
    }
    assert_true(now < BIG / 2); /* the rest is in the kernel's socket buffers */
    r.hold = false;
    take_all(&r);
    check(wait_for(&r.w), CODE_OK, 0);
    take_all(&r);
    check_big(&r);
    reader_close(&r);
    bench_close(&b);
}

static void test_stream_cut_keeps_what_came(void **state)
{
    struct bench b = {.mode = "cut"};
    struct reader r;

    bench_open(&b, serve_edge);
    reader_open(&r, &b);
    r.hold = true;
    check(wait_for(&r.w), CODE_UNAVAILABLE, REASON(E2B_UNAVAILABLE));
    take_all(&r);
    assert_string_equal(buf_str(&r.got), "xyz");
    reader_close(&r);
    bench_close(&b);
}

static void test_stream_cancel(void **state)
{
    for (int before_start = 0; before_start < 2; before_start++) {
        struct bench b = {0};
        struct reader r;

        bench_open(&b, serve_endless);
        atomic_store(&b.n[VERBS], !before_start);
        reader_open(&r, &b);
        if (before_start) {
            wait_until(&b.n[STARTS], 1);
        } else {
            while (buf_len(&r.got) < 5)
                pump_once();
        }
        e2b_cancel(&r.w.op);
        check(wait_for(&r.w), CODE_CANCELLED, 0);
        reader_close(&r);
        atomic_store(&b.n[VERBS], 1);
        wait_until(&b.n[KILLS], 1);
        bench_close(&b);
    }
}

/* --- files --- */

static void serve_read(struct fake_call *c, void *arg)
{
    struct bench *b = arg;
    char block[1000] = {'x'};

    if (serve_common(c, b))
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

    if (serve_common(c, b))
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
        cmocka_unit_test(test_logs),
        cmocka_unit_test(test_nobody_there),
        cmocka_unit_test(test_deadline_and_cancel),
        cmocka_unit_test(test_many_at_once),
        cmocka_unit_test(test_list),
        cmocka_unit_test(test_delete),
        cmocka_unit_test(test_set_timeout),
        cmocka_unit_test(test_port_url),
        cmocka_unit_test(test_create),
        cmocka_unit_test(test_create_failures),
        cmocka_unit_test(test_lost_create_is_not_repeated_but_hunted),
        cmocka_unit_test(test_create_once),
        cmocka_unit_test(test_what_cannot_be_settled_is_not_given),
        cmocka_unit_test(test_verb_installs_once),
        cmocka_unit_test(test_an_answer_cut_in_two_is_asked_for_again),
        cmocka_unit_test(test_verb_where_the_disk_is_full),
        cmocka_unit_test(test_verb_failures),
        cmocka_unit_test(test_silence_ends_an_attempt),
        cmocka_unit_test(test_cancelled_verb_is_killed),
        cmocka_unit_test(test_stream),
        cmocka_unit_test(test_stream_backpressure),
        cmocka_unit_test(test_stream_cut_keeps_what_came),
        cmocka_unit_test(test_stream_cancel),
        cmocka_unit_test(test_read_file),
        cmocka_unit_test(test_write_files),
        cmocka_unit_test(test_write_failures),
        cmocka_unit_test(test_config_is_checked),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
