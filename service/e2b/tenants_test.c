/*
 * Tenants and keys passed through: whatever names a sandbox of somebody else ends as if it had
 * never been, before anything is done to it.
 */
#include "service/e2b/bench.h"

#include <json-c/json.h>
#include <stdio.h>
#include <string.h>

static const struct e2b_caller acme = {.tenant = "acme"};

/* iabc is acme's, iother somebody's, ibare nobody's; anything else does not exist. */
static void serve_tenants(struct fake_call *c, void *arg)
{
    struct bench *b = arg;

    if (fake_is(c, "GET", "/sandboxes/iabc")) {
        fake_reply(c, 200, "", DETAIL("running", ",\"metadata\":{\"sandboxd.tenant\":\"acme\"}"));
    } else if (fake_is(c, "GET", "/sandboxes/iother")) {
        fake_reply(c, 200, "",
                   DETAIL_OF("iother", "running", ",\"metadata\":{\"sandboxd.tenant\":\"acmes\"}"));
    } else if (fake_is(c, "GET", "/sandboxes/ibare")) {
        fake_reply(c, 200, "", DETAIL_OF("ibare", "running", ""));
    } else if (fake_is(c, "GET", "/v2/sandboxes?")) {
        /* Whatever it is asked, it tells all. */
        snprintf(b->seen, sizeof b->seen, "%s", strstr(c->path, "metadata="));
        fake_reply(
            c, 200, "",
            "[" DETAIL("running", ",\"metadata\":{\"sandboxd.tenant\":\"acme\"}") "," DETAIL_OF(
                "iother", "running",
                ",\"metadata\":{\"sandboxd.tenant\":\"b\"}") "," DETAIL_OF("ibare", "running",
                                                                           "") "]");
    } else if (fake_is(c, "DELETE", "/sandboxes/iabc")) {
        fake_reply(c, 204, "", "");
    } else if (fake_is(c, "GET", "/sandboxes/")) {
        fake_reply(c, 404, "", NOT_FOUND_BODY);
    } else {
        atomic_fetch_add(&b->n[0], 1); /* more than looking */
        fake_reply(c, 200, "", "{}");
    }
}

enum { BY_ID_OPERATIONS = 17 };

/* Every operation that names a sandbox. */
static void start_by_id(struct bench *b, int which, struct waiter *w, const char *id)
{
    static const char *const args[] = {"list", NULL};
    static struct e2b_sandbox sandbox;
    static struct e2b_output output;
    static struct e2b_logs logs;
    static struct e2b_network network;
    static struct e2b_snapshot snapshot;
    static struct e2b_snapshots snapshots;
    static struct e2b_metrics metrics;
    static bool resumed;
    static char *url, *host, *token, *paths[1];
    static uint8_t *data;
    static size_t len;
    static const struct e2b_file file = {.path = "/f", .data = (const uint8_t *)"x", .len = 1};
    static const struct e2b_logs_args page = {.limit = 1};

    switch (which) {
    case 0:
        e2b_get(b->e2b, &w->op, id, &sandbox);
        break;
    case 1:
        e2b_delete(b->e2b, &w->op, id);
        break;
    case 2:
        e2b_set_timeout(b->e2b, &w->op, id, 60, &sandbox);
        break;
    case 3:
        e2b_port_url(b->e2b, &w->op, id, 80, &url, &host, &token);
        break;
    case 4:
        e2b_logs(b->e2b, &w->op, id, &page, &logs);
        break;
    case 5:
        e2b_write_files(b->e2b, &w->op, id, NULL, &file, 1, paths);
        break;
    case 6:
        e2b_read_file(b->e2b, &w->op, id, NULL, "/f", &data, &len);
        break;
    case 7:
        e2b_verb(b->e2b, &w->op, id, args, NULL, 0, true, &output);
        break;
    case 8:
        e2b_stream_free(e2b_stream_start(b->e2b, &w->op, id, args, NULL, 0, NULL, &output));
        break;
    case 9:
        e2b_keep_alive(b->e2b, &w->op, id, 60, &sandbox);
        break;
    case 10:
        e2b_pause(b->e2b, &w->op, id, false, &sandbox);
        break;
    case 11:
        e2b_pause(b->e2b, &w->op, id, true, &sandbox);
        break;
    case 12:
        e2b_resume(b->e2b, &w->op, id, 60, &sandbox, &resumed);
        break;
    case 13:
        e2b_set_network(b->e2b, &w->op, id, &network, &sandbox);
        break;
    case 14:
        e2b_metrics(b->e2b, &w->op, id, 0, 0, &metrics);
        break;
    case 15:
        e2b_snapshot_create(b->e2b, &w->op, id, "s", &snapshot);
        break;
    case 16:
        e2b_snapshot_list(b->e2b, &w->op, id, 10, NULL, &snapshots);
        break;
    }
}

static void test_what_is_anothers_does_not_exist(void **state)
{
    static const char *const ids[] = {"inone", "iother", "ibare"};

    for (int which = 0; which < BY_ID_OPERATIONS; which++) {
        struct bench b = {0};
        struct status unknown = STATUS_INIT;

        bench_open(&b, serve_tenants);
        for (int i = 0; i < 3; i++) {
            struct waiter w = WAITER_OF(&acme);

            start_by_id(&b, which, &w, ids[i]);
            check(wait_for(&w), CODE_NOT_FOUND, REASON(SANDBOX_NOT_FOUND));
            if (i == 0)
                unknown = w.op.st;
            assert_memory_equal(&w.op.st, &unknown, sizeof unknown); /* to the letter */
        }
        assert_int_equal(atomic_load(&b.n[0]), 0); /* nothing was even tried */
        bench_close(&b);
    }
}

/* What one caller made this pod remember opens nothing for another. */
static void test_what_is_remembered_is_not_shared(void **state)
{
    static const struct e2b_caller key = {.api_key = "e2b_other"};
    static const struct e2b_caller acmes = {.tenant = "acmes"};
    struct bench b = {0};
    struct waiter w = WAITER_OF(&acme);
    struct e2b_sandbox s;

    bench_open(&b, serve_tenants);
    e2b_get(b.e2b, &w.op, "iabc", &s);
    check(wait_for(&w), CODE_OK, 0);
    e2b_sandbox_deinit(&s);
    for (int which = 1; which < BY_ID_OPERATIONS; which++) {
        struct waiter other = WAITER_OF(&acmes);

        start_by_id(&b, which, &other, "iabc");
        check(wait_for(&other), CODE_NOT_FOUND, REASON(SANDBOX_NOT_FOUND));
    }
    w = (struct waiter)WAITER_OF(&key);
    start_by_id(&b, 6, &w, "inone"); /* no tenant, but a key of its own: looked up with it */
    check(wait_for(&w), CODE_NOT_FOUND, REASON(SANDBOX_NOT_FOUND));
    assert_int_equal(atomic_load(&b.n[0]), 0);
    w = (struct waiter)WAITER_OF(&acme);
    e2b_delete(b.e2b, &w.op, "iabc");
    check(wait_for(&w), CODE_OK, 0);
    bench_close(&b);
}

static void test_a_list_has_ones_own(void **state)
{
    struct bench b = {0};
    struct waiter w = WAITER_OF(&acme);
    struct waiter w2 = WAITER;
    struct e2b_pair pair = {(char *)"a", (char *)"b"};
    struct e2b_list_args args = {.metadata = &pair, .n_metadata = 1, .limit = 3};
    struct e2b_list list;

    bench_open(&b, serve_tenants);
    e2b_list(b.e2b, &w.op, &args, &list);
    check(wait_for(&w), CODE_OK, 0);
    assert_string_equal(b.seen, "metadata=a%3Db%26sandboxd.tenant%3Dacme");
    assert_int_equal(list.n_items, 1);
    assert_string_equal(list.items[0].id, "iabc");
    e2b_list_deinit(&list);
    e2b_list(b.e2b, &w2.op, &args, &list);
    check(wait_for(&w2), CODE_OK, 0);
    assert_int_equal(list.n_items, 3);
    e2b_list_deinit(&list);
    bench_close(&b);
}

static const char *label(struct json_object *body, const char *key)
{
    struct json_object *metadata, *value;

    if (!json_object_object_get_ex(body, "metadata", &metadata) ||
        !json_object_object_get_ex(metadata, key, &value))
        return "";
    return json_object_get_string(value);
}

enum { POSTS = 1 };

static void serve_stamped_create(struct fake_call *c, void *arg)
{
    struct bench *b = arg;

    if (fake_is(c, "POST", "/sandboxes")) {
        struct json_object *o = json_tokener_parse((char *)c->body);

        atomic_fetch_add(&b->n[POSTS], 1);
        snprintf(b->seen, sizeof b->seen, "%s", label(o, "sandboxd.tenant"));
        json_object_put(o);
        fake_reply(c, 201, "",
                   "{\"sandboxID\":\"iabc\",\"templateID\":\"base\",\"clientID\":\"x\","
                   "\"envdVersion\":\"0.6.13\",\"envdAccessToken\":\"t0\"}");
    } else if (fake_is(c, "GET", "/v2/sandboxes?")) {
        /* The same request_id, but of somebody else. */
        fake_reply(c, 200, "",
                   "[" DETAIL_OF("iother", "running",
                                 ",\"metadata\":{\"sandboxd.tenant\":\"b\","
                                 "\"sandboxd.request_id\":\"r\"}") "]");
    } else {
        fake_reply(c, 200, "", DETAIL("running", ",\"metadata\":{\"sandboxd.tenant\":\"acme\"}"));
    }
}

static void test_create_stamps_and_shares_no_request_id(void **state)
{
    struct bench b = {0};
    struct waiter w = WAITER_OF(&acme);
    struct e2b_sandbox s;
    bool reused = true;

    bench_open(&b, serve_stamped_create);
    e2b_create(b.e2b, &w.op, &(struct e2b_create_args){.timeout_s = 60, .request_id = "r"}, &s,
               &reused);
    check(wait_for(&w), CODE_OK, 0);
    assert_false(reused);
    assert_string_equal(s.id, "iabc");
    assert_string_equal(b.seen, "acme");
    e2b_sandbox_deinit(&s);
    bench_close(&b);
}

static void test_templates_of_a_tenant(void **state)
{
    static const char *const allowed[] = {"python", "node"};
    static const struct e2b_caller few = {.tenant = "acme", .templates = allowed, .n_templates = 2};
    static const struct {
        const char *template;
        enum code code;
    } cases[] = {{NULL, CODE_NOT_FOUND},
                 {"base", CODE_NOT_FOUND},
                 {"pytho", CODE_NOT_FOUND},
                 {"node", CODE_OK}};
    struct bench b = {0};

    bench_open(&b, serve_stamped_create);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct e2b_create_args args = {.timeout_s = 60, .template = cases[i].template};
        struct waiter w = WAITER_OF(&few);
        struct e2b_sandbox s = {0};
        bool reused;

        e2b_create(b.e2b, &w.op, &args, &s, &reused);
        check(wait_for(&w), cases[i].code,
              cases[i].code == CODE_OK ? 0 : REASON(TEMPLATE_NOT_FOUND));
        e2b_sandbox_deinit(&s);
    }
    assert_int_equal(atomic_load(&b.n[POSTS]), 1);
    bench_close(&b);
}

static void serve_passed_key(struct fake_call *c, void *arg)
{
    if (fake_has(c, "X-API-KEY: e2b_theirs"))
        fake_reply(c, 200, "", DETAIL("running", ""));
    else
        fake_reply(c, 401, "", "{\"code\":401,\"message\":\"bad key\"}");
}

static void test_a_key_of_the_callers_own(void **state)
{
    static const struct e2b_caller theirs = {.api_key = "e2b_theirs"};
    static const struct e2b_caller wrong = {.api_key = "e2b_wrong"};
    struct bench b = {0};
    struct waiter w = WAITER_OF(&theirs), w2 = WAITER_OF(&wrong), w3 = WAITER;
    struct e2b_sandbox s = {0};

    bench_open(&b, serve_passed_key);
    e2b_get(b.e2b, &w.op, "iabc", &s);
    check(wait_for(&w), CODE_OK, 0);
    e2b_sandbox_deinit(&s);
    e2b_get(b.e2b, &w2.op, "iabc", &s);
    check(wait_for(&w2), CODE_UNAUTHENTICATED, REASON(UNAUTHENTICATED));
    e2b_get(b.e2b, &w3.op, "iabc", &s); /* the operator's own: nothing the caller can mend */
    check(wait_for(&w3), CODE_FAILED_PRECONDITION, REASON(E2B_UNAUTHENTICATED));
    bench_close(&b);
}

static void test_for_nobody_nothing_is_done(void **state)
{
    for (int which = 0; which < BY_ID_OPERATIONS; which++) {
        struct bench b = {0};
        struct waiter w = WAITER_OF(NULL);

        bench_open(&b, serve_tenants);
        start_by_id(&b, which, &w, "iabc");
        check(wait_for(&w), CODE_INTERNAL, REASON(INTERNAL));
        assert_int_equal(fake_connections(b.fake), 0);
        bench_close(&b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_anothers_does_not_exist),
        cmocka_unit_test(test_what_is_remembered_is_not_shared),
        cmocka_unit_test(test_a_list_has_ones_own),
        cmocka_unit_test(test_create_stamps_and_shares_no_request_id),
        cmocka_unit_test(test_templates_of_a_tenant),
        cmocka_unit_test(test_a_key_of_the_callers_own),
        cmocka_unit_test(test_for_nobody_nothing_is_done),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
