/* Changing a sandbox, what it used, and snapshots: against an E2B that misbehaves as it may. */
#include "service/e2b/bench.h"

#include <stdio.h>
#include <string.h>

#define ERROR(code, text) "{\"code\":" #code ",\"message\":\"" text "\"}"

/* --- changes --- */

/* What the change is answered with, and the look at the sandbox after it. */
struct answers {
    int status;
    const char *body;
    const char *detail;   /* NULL: it is gone */
    const char *expected; /* request line and body, as "POST /sandboxes/iabc/pause {}" */
};

static const struct answers *answers;

static void serve_change(struct fake_call *c, void *arg)
{
    struct bench *b = arg;
    char line[512];

    if (fake_is(c, "GET", "/sandboxes/iabc")) {
        if (answers->detail != NULL)
            fake_reply(c, 200, "", answers->detail);
        else
            fake_reply(c, 404, "", NOT_FOUND_BODY);
        return;
    }
    snprintf(line, sizeof line, "%s %s %.*s", c->method, c->path, (int)c->body_len,
             (const char *)c->body);
    if (strcmp(line, answers->expected) != 0) {
        print_error("asked: %s\n", line);
        fake_reply(c, 400, "", ERROR(400, "not as it should be"));
        return;
    }
    if (strcmp(b->mode, "cut once") == 0 && atomic_fetch_add(&b->n[0], 1) == 0) {
        c->close = true; /* it may have been done */
        return;
    }
    fake_reply(c, answers->status, "", answers->body);
}

static char rule_a[] = "1.2.3.0/24", rule_b[] = "example.com", rule_c[] = "0.0.0.0/0";
static char *allowed[] = {rule_a, rule_b}, *denied[] = {rule_c};
static const struct e2b_network network = {
    .allow_out = allowed, .n_allow_out = 2, .deny_out = denied, .n_deny_out = 1};
static const struct e2b_network nothing = {.deny_internet = true};

enum change { TIMEOUT, KEEP_ALIVE, PAUSE, PAUSE_FILES, RESUME, NETWORK, CUT_OFF };

static const char *const expected[] = {
    [TIMEOUT] = "POST /sandboxes/iabc/timeout {\"timeout\":90}",
    [KEEP_ALIVE] = "POST /sandboxes/iabc/refreshes {\"duration\":90}",
    [PAUSE] = "POST /sandboxes/iabc/pause {\"memory\":true}",
    [PAUSE_FILES] = "POST /sandboxes/iabc/pause {\"memory\":false}",
    [RESUME] = "POST /sandboxes/iabc/connect {\"timeout\":90}",
    [NETWORK] = "PUT /sandboxes/iabc/network "
                "{\"allowOut\":[\"1.2.3.0\\/24\",\"example.com\"],\"denyOut\":[\"0.0.0.0\\/0\"]}",
    [CUT_OFF] = "PUT /sandboxes/iabc/network {\"allow_internet_access\":false}",
};

static void start_change(struct bench *b, struct waiter *w, enum change change,
                         struct e2b_sandbox *s, bool *resumed)
{
    switch (change) {
    case TIMEOUT:
        e2b_set_timeout(b->e2b, &w->op, "iabc", 90, s);
        break;
    case KEEP_ALIVE:
        e2b_keep_alive(b->e2b, &w->op, "iabc", 90, s);
        break;
    case PAUSE:
    case PAUSE_FILES:
        e2b_pause(b->e2b, &w->op, "iabc", change == PAUSE_FILES, s);
        break;
    case RESUME:
        e2b_resume(b->e2b, &w->op, "iabc", 90, s, resumed);
        break;
    case NETWORK:
    case CUT_OFF:
        e2b_set_network(b->e2b, &w->op, "iabc", change == NETWORK ? &network : &nothing, s);
        break;
    }
}

static void test_changes(void **state)
{
    static const char running[] = DETAIL("running", ""), paused[] = DETAIL("paused", "");
    static const char odd[] = "{\"sandboxID\":\"iabc\"}";
    static const char busy[] = ERROR(409, "not now"), gone[] = ERROR(404, "no such sandbox");
    static const struct {
        enum change change;
        int status;
        const char *body, *detail;
        enum code code;
        int reason;
        enum e2b_state after;
        bool resumed;
    } cases[] = {
        {TIMEOUT, 204, "", running, CODE_OK, 0, E2B_RUNNING, false},
        {TIMEOUT, 409, busy, paused, CODE_FAILED_PRECONDITION, REASON(SANDBOX_PAUSED), 0, false},
        {TIMEOUT, 409, busy, running, CODE_UNAVAILABLE, REASON(SANDBOX_BUSY), 0, false},
        {KEEP_ALIVE, 204, "", running, CODE_OK, 0, E2B_RUNNING, false},
        {KEEP_ALIVE, 404, gone, NULL, CODE_NOT_FOUND, REASON(SANDBOX_NOT_FOUND), 0, false},
        {PAUSE, 204, "", paused, CODE_OK, 0, E2B_PAUSED, false},
        {PAUSE_FILES, 204, "", paused, CODE_OK, 0, E2B_PAUSED, false},
        {PAUSE, 409, busy, paused, CODE_OK, 0, E2B_PAUSED, false},
        {PAUSE, 409, busy, running, CODE_UNAVAILABLE, REASON(SANDBOX_BUSY), 0, false},
        {PAUSE, 409, busy, NULL, CODE_NOT_FOUND, REASON(SANDBOX_NOT_FOUND), 0, false},
        {PAUSE, 204, "", odd, CODE_UNAVAILABLE, REASON(E2B_UNAVAILABLE), 0, false},
        {RESUME, 201, "{}", running, CODE_OK, 0, E2B_RUNNING, true},
        {RESUME, 200, "{}", running, CODE_OK, 0, E2B_RUNNING, false},
        {RESUME, 400, ERROR(400, "too long"), running, CODE_INVALID_ARGUMENT, REASON(E2B_REJECTED),
         0, false},
        {RESUME, 409, busy, running, CODE_UNAVAILABLE, REASON(SANDBOX_BUSY), 0, false},
        {NETWORK, 204, "", running, CODE_OK, 0, E2B_RUNNING, false},
        {CUT_OFF, 204, "", running, CODE_OK, 0, E2B_RUNNING, false},
        {CUT_OFF, 409, busy, paused, CODE_FAILED_PRECONDITION, REASON(SANDBOX_PAUSED), 0, false},
    };

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct answers now = {cases[i].status, cases[i].body, cases[i].detail,
                              expected[cases[i].change]};
        struct bench b = {.mode = ""};
        struct waiter w = WAITER;
        struct e2b_sandbox s = {0};
        bool resumed = false;

        answers = &now;
        w.op.deadline_ns = clock_monotonic_ns() + 3 * NS_PER_S; /* "busy" is tried again */
        bench_open(&b, serve_change);
        start_change(&b, &w, cases[i].change, &s, &resumed);
        check(wait_for(&w), cases[i].code, cases[i].reason);
        if (cases[i].code == CODE_OK) {
            assert_int_equal(s.state, cases[i].after);
            assert_int_equal(resumed, cases[i].resumed);
            e2b_sandbox_deinit(&s);
        }
        bench_close(&b);
    }
}

/* The answer is lost, and so is whether it was done: all of them may be asked for twice. */
static void test_a_lost_change_is_repeated(void **state)
{
    static const struct answers paused = {409, ERROR(409, "paused already"), DETAIL("paused", ""),
                                          "POST /sandboxes/iabc/pause {\"memory\":true}"};
    struct bench b = {.mode = "cut once"};
    struct waiter w = WAITER;
    struct e2b_sandbox s;

    answers = &paused;
    bench_open(&b, serve_change);
    e2b_pause(b.e2b, &w.op, "iabc", false, &s);
    check(wait_for(&w), CODE_OK, 0);
    assert_int_equal(s.state, E2B_PAUSED);
    assert_true(atomic_load(&b.n[0]) >= 2);
    e2b_sandbox_deinit(&s);
    bench_close(&b);
}

static void test_the_network_is_told(void **state)
{
    static const struct answers set = {204, "",
                                       DETAIL("running",
                                              ",\"allowInternetAccess\":false,\"network\":{"
                                              "\"allowOut\":[\"a.example\"],\"denyOut\":null}"),
                                       "POST /sandboxes/iabc/timeout {\"timeout\":90}"};
    static const struct answers odd = {204, "",
                                       DETAIL("running", ",\"network\":{\"allowOut\":[1]}"),
                                       "POST /sandboxes/iabc/timeout {\"timeout\":90}"};
    struct waiter w = WAITER, w2 = WAITER;
    struct bench b = {.mode = ""};
    struct e2b_sandbox s;

    bench_open(&b, serve_change);
    answers = &set;
    e2b_set_timeout(b.e2b, &w.op, "iabc", 90, &s);
    check(wait_for(&w), CODE_OK, 0);
    assert_true(s.network.deny_internet);
    assert_int_equal(s.network.n_allow_out, 1);
    assert_string_equal(s.network.allow_out[0], "a.example");
    assert_int_equal(s.network.n_deny_out, 0);
    e2b_sandbox_deinit(&s);
    answers = &odd;
    w2.op.deadline_ns = clock_monotonic_ns() + 3 * NS_PER_S;
    e2b_set_timeout(b.e2b, &w2.op, "iabc", 90, &s);
    check(wait_for(&w2), CODE_UNAVAILABLE, REASON(E2B_UNAVAILABLE));
    bench_close(&b);
}

/* --- metrics --- */

#define SAMPLE(pct)                                                                                \
    "{\"timestamp\":\"2026-01-02T03:04:05Z\",\"timestampUnix\":1767323045,\"cpuCount\":2,"         \
    "\"cpuUsedPct\":" pct ",\"memUsed\":1,\"memTotal\":2,\"memCache\":3,\"diskUsed\":4,"           \
    "\"diskTotal\":5}"

static void serve_metrics(struct fake_call *c, void *arg)
{
    const struct bench *b = arg;

    if (fake_is(c, "GET", "/sandboxes/iabc/metrics?start=10&end=20"))
        fake_reply(c, 200, "", b->mode);
    else if (fake_is(c, "GET", "/sandboxes/iabc"))
        fake_reply(c, 200, "", DETAIL("running", ""));
    else if (fake_is(c, "GET", "/sandboxes/igone/metrics"))
        fake_reply(c, 200, "", "[]");
    else
        fake_reply(c, 404, "", NOT_FOUND_BODY);
}

static void test_metrics(void **state)
{
    static const struct {
        const char *body;
        size_t n; /* 0: not taken */
    } cases[] = {
        {"[" SAMPLE("12.5") "," SAMPLE("12") "]", 2},
        {"[" SAMPLE("\"12\"") "]", 0},
        {"[{\"timestampUnix\":1}]", 0},
        {"{}", 0},
        {"<html>", 0},
    };

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct bench b = {.mode = cases[i].body};
        struct waiter w = WAITER;
        struct e2b_metrics m;

        w.op.deadline_ns = clock_monotonic_ns() + 3 * NS_PER_S;
        bench_open(&b, serve_metrics);
        e2b_metrics(b.e2b, &w.op, "iabc", 10, 20, &m);
        if (cases[i].n == 0) {
            check(wait_for(&w), CODE_UNAVAILABLE, REASON(E2B_UNAVAILABLE));
        } else {
            check(wait_for(&w), CODE_OK, 0);
            assert_int_equal(m.n_samples, cases[i].n);
            assert_true(m.samples[0].cpu_used_percent == 12.5);
            assert_int_equal(m.samples[0].disk_total, 5);
            assert_int_equal(m.samples[1].time_ns, INT64_C(1767323045) * NS_PER_S);
        }
        e2b_metrics_deinit(&m);
        bench_close(&b);
    }
}

/* E2B has an empty list for an id it never saw. */
static void test_metrics_of_nobody(void **state)
{
    struct bench b = {.mode = ""};
    struct waiter w = WAITER;
    struct e2b_metrics m;

    bench_open(&b, serve_metrics);
    e2b_metrics(b.e2b, &w.op, "igone", 0, 0, &m);
    check(wait_for(&w), CODE_NOT_FOUND, REASON(SANDBOX_NOT_FOUND));
    bench_close(&b);
}

/* --- snapshots --- */

static void serve_snapshots(struct fake_call *c, void *arg)
{
    struct bench *b = arg;

    if (fake_is(c, "POST", "/sandboxes/iabc/snapshots")) {
        atomic_fetch_add(&b->n[0], 1);
        if (strcmp(b->mode, "cut") == 0)
            c->close = true;
        else
            fake_reply(c, 201, "", "{\"snapshotID\":\"t1:default\",\"names\":[\"me/n:default\"]}");
    } else if (fake_is(c, "POST", "/sandboxes/ipaused/snapshots")) {
        fake_reply(c, 409, "", ERROR(409, "sandbox is paused"));
    } else if (fake_is(c, "GET", "/sandboxes/ipaused")) {
        fake_reply(c, 200, "", DETAIL_OF("ipaused", "paused", ""));
    } else if (fake_is(c, "GET", "/snapshots?limit=2&sandboxID=iabc&nextToken=a%2Fb")) {
        fake_reply(c, 200, "X-Next-Token: more\r\n", "[{\"snapshotID\":\"t1:default\"}]");
    } else if (fake_is(c, "GET", "/snapshots?limit=100&nextToken=second")) {
        fake_reply(c, 200, "",
                   "[{\"snapshotID\":\"t2:default\",\"names\":[\"me/two:default\"]},"
                   "{\"snapshotID\":\"tused:default\",\"names\":[]}]");
    } else if (fake_is(c, "GET", "/snapshots?limit=100")) {
        if (strcmp(b->mode, "odd") == 0)
            fake_reply(c, 200, "", "[{\"names\":[]}]");
        else
            fake_reply(c, 200, "X-Next-Token: second\r\n", "[{\"snapshotID\":\"t1:default\"}]");
    } else if (fake_is(c, "DELETE", "/templates/tused%3Adefault")) {
        fake_reply(c, 400, "", ERROR(400, "there are paused sandboxes using it"));
    } else if (fake_is(c, "DELETE", "/templates/t2%3Adefault") ||
               fake_is(c, "DELETE", "/templates/me%2Ftwo%3Adefault")) {
        if (strcmp(b->mode, "cut") == 0 && atomic_fetch_add(&b->n[1], 1) == 0)
            c->close = true;
        else
            fake_reply(c, strcmp(b->mode, "cut") == 0 ? 404 : 204, "",
                       strcmp(b->mode, "cut") == 0 ? ERROR(404, "template not found") : "");
    } else {
        fake_reply(c, 500, "", ERROR(500, "not foreseen"));
    }
}

static void test_snapshot_create(void **state)
{
    struct waiter w = WAITER, w2 = WAITER;
    struct bench b = {.mode = ""};
    struct e2b_snapshot s;

    bench_open(&b, serve_snapshots);
    e2b_snapshot_create(b.e2b, &w.op, "iabc", "n", &s);
    check(wait_for(&w), CODE_OK, 0);
    assert_string_equal(s.id, "t1:default");
    assert_int_equal(s.n_names, 1);
    assert_string_equal(s.names[0], "me/n:default");
    e2b_snapshot_deinit(&s);
    e2b_snapshot_create(b.e2b, &w2.op, "ipaused", NULL, &s);
    check(wait_for(&w2), CODE_FAILED_PRECONDITION, REASON(SANDBOX_PAUSED));
    bench_close(&b);
}

/* It may have been made: a second one would be another. */
static void test_a_lost_snapshot_is_not_repeated(void **state)
{
    struct bench b = {.mode = "cut"};
    struct waiter w = WAITER;
    struct e2b_snapshot s;

    bench_open(&b, serve_snapshots);
    e2b_snapshot_create(b.e2b, &w.op, "iabc", NULL, &s);
    check(wait_for(&w), CODE_UNAVAILABLE, REASON(E2B_UNAVAILABLE));
    assert_int_equal(atomic_load(&b.n[0]), 1);
    bench_close(&b);
}

static void test_snapshot_list(void **state)
{
    struct bench b = {.mode = ""};
    struct waiter w = WAITER;
    struct e2b_snapshots l;

    bench_open(&b, serve_snapshots);
    e2b_snapshot_list(b.e2b, &w.op, "iabc", 2, "a/b", &l);
    check(wait_for(&w), CODE_OK, 0);
    assert_int_equal(l.n_items, 1);
    assert_string_equal(l.next_page_token, "more");
    e2b_snapshots_deinit(&l);
    bench_close(&b);
}

static void test_snapshot_delete(void **state)
{
    static const struct {
        const char *mode, *id;
        enum code code;
        int reason;
    } cases[] = {
        {"", "t2:default", CODE_OK, 0},
        {"", "me/two:default", CODE_OK, 0},
        {"cut", "t2:default", CODE_OK, 0},
        {"", "base", CODE_NOT_FOUND, REASON(SNAPSHOT_NOT_FOUND)}, /* a template, not a snapshot */
        {"", "tused:default", CODE_FAILED_PRECONDITION, REASON(SNAPSHOT_IN_USE)},
        {"odd", "t2:default", CODE_UNAVAILABLE, REASON(E2B_UNAVAILABLE)},
    };

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct bench b = {.mode = cases[i].mode};
        struct waiter w = WAITER;

        bench_open(&b, serve_snapshots);
        e2b_snapshot_delete(b.e2b, &w.op, cases[i].id);
        check(wait_for(&w), cases[i].code, cases[i].reason);
        bench_close(&b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_changes),
        cmocka_unit_test(test_a_lost_change_is_repeated),
        cmocka_unit_test(test_the_network_is_told),
        cmocka_unit_test(test_metrics),
        cmocka_unit_test(test_metrics_of_nobody),
        cmocka_unit_test(test_snapshot_create),
        cmocka_unit_test(test_a_lost_snapshot_is_not_repeated),
        cmocka_unit_test(test_snapshot_list),
        cmocka_unit_test(test_snapshot_delete),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
