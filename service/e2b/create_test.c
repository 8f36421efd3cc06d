/* Sandboxes are made once: against a control plane with a memory, which answers or does not. */
#include "service/e2b/bench.h"

#include "common/base/clock.h"

#include <json-c/json.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_create),
        cmocka_unit_test(test_create_failures),
        cmocka_unit_test(test_lost_create_is_not_repeated_but_hunted),
        cmocka_unit_test(test_create_once),
        cmocka_unit_test(test_what_cannot_be_settled_is_not_given),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
