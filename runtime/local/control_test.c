/* Tables for everything in the control plane that only looks at memory. */
#include "common/base/cleanup.h"
#include "common/base/clock.h"
#include "common/base/mem.h"
#include "runtime/local/api/listing.h"
#include "runtime/local/api/rate.h"
#include "runtime/local/daemon/signature.h"
#include "runtime/local/daemon/token.h"
#include "runtime/local/edge/route.h"
#include "runtime/local/timestamp.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define N(array) (sizeof(array) / sizeof((array)[0]))
#define ID "iabcdefghij0123456789"

static const struct templates no_templates;

static void test_timestamps(void **state)
{
    static const struct {
        const char *text;
        int64_t ns; /* -1: refused */
    } cases[] = {
        {"1970-01-01T00:00:00Z", 0},
        {"2026-11-21T05:20:54.406050Z", 1795238454406050000},
        {"2026-11-21T06:20:54.40605+01:00", 1795238454406050000},
        {"2026-11-21T05:20:54.123456789Z", 1795238454123456789},
        {"2026-11-21t05:20:54Z", -1},
        {"2026-11-21", -1},
        {"2026-13-21T05:20:54Z", -1},
        {"2026-11-21T05:20:54.Z", -1},
        {"2026-11-21T05:20:54", -1},
        {"2026-11-21T05:20:54Zx", -1},
        {"", -1},
    };
    char text[TIMESTAMP_SIZE];

    for (size_t i = 0; i < N(cases); i++) {
        int64_t ns = -1;
        bool ok = timestamp_parse(cases[i].text, &ns);

        assert_int_equal(ok, cases[i].ns >= 0);
        if (ok)
            assert_int_equal(ns, cases[i].ns);
    }
    timestamp_format(1795238454406050000, text);
    assert_string_equal(text, "2026-11-21T05:20:54.406050Z");
}

static void test_routes(void **state)
{
    static const struct {
        const char *host, *id, *port; /* NULL: no such header */
        enum route_result result;
        uint16_t to;
    } cases[] = {
        {"localhost:3000", NULL, NULL, ROUTE_API, 0},
        {"127.0.0.1:3000", NULL, NULL, ROUTE_API, 0},
        {"[::1]:3000", NULL, NULL, ROUTE_API, 0},
        {"e2b-local:3000", NULL, NULL, ROUTE_API, 0},
        {"api.example.com", NULL, NULL, ROUTE_API, 0},
        {"my-box.elsewhere.org", NULL, NULL, ROUTE_API, 0},
        {"127.0.0.1:3000", ID, "49983", ROUTE_SANDBOX, 49983},
        {"e2b-local:3000", ID, "49983", ROUTE_SANDBOX, 49983},
        {"sandbox.example.com", ID, "80", ROUTE_SANDBOX, 80},
        {"localhost", ID "-6532622b", "80", ROUTE_SANDBOX, 80},
        {"8000-" ID ".localhost:3000", NULL, NULL, ROUTE_SANDBOX, 8000},
        {"8000-" ID ".example.com", NULL, NULL, ROUTE_SANDBOX, 8000},
        {"8000-" ID "-6532622b.example.com", NULL, NULL, ROUTE_SANDBOX, 8000},
        {"8000-" ID ".anything.org", NULL, NULL, ROUTE_SANDBOX, 8000},
        {"8000-" ID ".LOCALHOST", NULL, NULL, ROUTE_SANDBOX, 8000},
        /* The host wins over headers that a page in the sandbox could have sent along. */
        {"8000-" ID ".localhost", "iother", "1", ROUTE_SANDBOX, 8000},
        {"localhost", ID, NULL, ROUTE_BAD, 0},
        {"localhost", NULL, "80", ROUTE_BAD, 0},
        {"localhost", ID, "0", ROUTE_BAD, 0},
        {"localhost", ID, "65536", ROUTE_BAD, 0},
        {"localhost", ID, "8x", ROUTE_BAD, 0},
        {"localhost", ID, "", ROUTE_BAD, 0},
        {"localhost", "", "80", ROUTE_BAD, 0},
        {"localhost", "../etc", "80", ROUTE_BAD, 0},
        {"localhost", "UPPER", "80", ROUTE_BAD, 0},
        {"0-" ID ".localhost", NULL, NULL, ROUTE_BAD, 0},
        {"99999-" ID ".localhost", NULL, NULL, ROUTE_BAD, 0},
        {"8000-.localhost", NULL, NULL, ROUTE_BAD, 0},
        {"8000-a_b.localhost", NULL, NULL, ROUTE_BAD, 0},
        {"web-" ID ".localhost", NULL, NULL, ROUTE_BAD, 0},
        {"web-" ID ".example.com", NULL, NULL, ROUTE_BAD, 0},
    };

    for (size_t i = 0; i < N(cases); i++) {
        struct http_header headers[3];
        struct http_head h = {.headers = headers};
        struct route route;

        headers[h.n_headers++] = (struct http_header){"Host", cases[i].host};
        if (cases[i].id != NULL)
            headers[h.n_headers++] = (struct http_header){"E2b-Sandbox-Id", cases[i].id};
        if (cases[i].port != NULL)
            headers[h.n_headers++] = (struct http_header){"e2b-sandbox-port", cases[i].port};
        if (route_find(&h, "example.com:8443", &route) != cases[i].result)
            fail_msg("%s, %s, %s", cases[i].host, cases[i].id, cases[i].port);
        if (cases[i].result == ROUTE_SANDBOX) {
            assert_string_equal(route.sandbox_id, ID);
            assert_int_equal(route.port, cases[i].to);
        } else if (cases[i].result == ROUTE_BAD) {
            assert_non_null(route.why);
        }
    }
}

static void test_local_hosts(void **state)
{
    static const struct {
        const char *host;
        bool local;
    } cases[] = {
        {"localhost:3000", true},   {"127.0.0.1", true},           {"[::1]:3000", true},
        {"e2b-local:3000", true},   {"api.localhost:3000", true},  {"api.example.com", true},
        {"example.com:8443", true}, {"evil.org:3000", false},      {"localhost.evil.org", false},
        {"evilexample.com", false}, {"127.0.0.1.evil.org", false},
    };

    for (size_t i = 0; i < N(cases); i++) {
        struct http_header host = {"Host", cases[i].host};
        struct http_head h = {.headers = &host, .n_headers = 1};

        if (route_host_is_local(&h, "example.com:8443") != cases[i].local)
            fail_msg("%s", cases[i].host);
    }
}

static void test_metadata_filter(void **state)
{
    static const struct {
        const char *encoded; /* after the query's own decoding */
        const char *pairs;   /* NULL: refused */
    } cases[] = {
        {"k%25201=v%25262", "k 1=v&2;"},
        {"a=1&b=2", "a=1;b=2;"},
        {"a=", "a=;"},
        {"a%253D=%252526", "a==%26;"},
        {"a=%25252B", "a=%2B;"},
        {"a", NULL},
        {"a=b=c", NULL},
        {"a=1&&b=2", NULL},
        {"a=%zz", NULL},
        {"a=%2500", NULL},
    };

    for (size_t i = 0; i < N(cases); i++) {
        struct pairs p = {NULL, 0};
        struct status st = STATUS_INIT;
        AUTO(buf_deinit) struct buf text = BUF_INIT(1024);
        bool ok = listing_parse_metadata(&p, cases[i].encoded, &st);

        if (ok != (cases[i].pairs != NULL))
            fail_msg("%s", cases[i].encoded);
        assert_true(ok || st.code == CODE_INVALID_ARGUMENT);
        for (size_t k = 0; k < p.n; k++)
            buf_printf(&text, "%s=%s;", p.items[k].name, p.items[k].value);
        if (ok)
            assert_string_equal(buf_str(&text), cases[i].pairs);
        pairs_deinit(&p);
    }
}

static void test_bad_lists_are_refused(void **state)
{
    static const char *const queries[] = {
        "limit=0",
        "limit=101",
        "limit=x",
        "order=up",
        "state=sleeping",
        "state=running,gone",
        "nextToken=%21",
        "nextToken=aGVsbG8=",
        "metadata=a",
        "metadata=%zz",
        "template=a%20b",
        "startedAfter=yesterday",
        /* ascending, asked for in the other order */
        "order=desc&nextToken=MjAyNi0xMS0yMVQwNToyMDo1NC40MDYwNTBaX19pYV9fYXNj",
    };

    for (size_t i = 0; i < N(queries); i++) {
        AUTO(listing_deinit) struct listing l = {.limit = 0};
        struct status st = STATUS_INIT;

        if (listing_parse(&l, queries[i], &no_templates, &st))
            fail_msg("%s", queries[i]);
        assert_int_equal(st.code, CODE_INVALID_ARGUMENT);
        assert_true(strlen(st.message) > 0);
    }
}

enum { SANDBOXES = 25 };

static void make_registry(struct registry *r)
{
    char id[SANDBOX_ID_LEN + 1];

    registry_init(r);
    for (int i = 0; i < SANDBOXES; i++) {
        snprintf(id, sizeof(id), "i%020d", i);
        /* Three at a time within one microsecond, as the clock has it. */
        struct sandbox *s = registry_make(id);

        registry_add(r, s, 1000000000 + i / 3, i, NS_PER_S);
        if (i % 2 == 0)
            pairs_add(&s->metadata, "even", "yes");
        if (i % 5 == 0)
            pairs_add(&s->metadata, "five", "yes");
        s->template_id = xstrdup(i < 20 ? "base" : i < 23 ? "local/named" : "x1y2z3");
    }
}

/* All pages of a list, as the numbers of the sandboxes. The one at remove_at goes in between. */
static void walk(struct registry *r, const char *query, int remove_at, const char *want)
{
    AUTO(buf_deinit) struct buf got = BUF_INIT(4096);
    AUTO(buf_deinit) struct buf next = BUF_INIT(1024);
    AUTO(buf_deinit) struct buf token = BUF_INIT(512);
    bool more = true;

    buf_append_str(&next, query);
    while (more) {
        AUTO(listing_deinit) struct listing l = {.limit = 0};
        const struct sandbox *page[LISTING_MAX];
        struct status st = STATUS_INIT;
        size_t n;

        if (!listing_parse(&l, buf_str(&next), &no_templates, &st))
            fail_msg("%s: %s", buf_str(&next), st.message);
        n = listing_page(&l, r, page, &more);
        assert_true(n <= l.limit);
        for (size_t i = 0; i < n; i++)
            buf_printf(&got, "%ld ", strtol(page[i]->id + 1, NULL, 10));
        if (more) {
            buf_clear(&token);
            assert_true(listing_token(&l, page[n - 1], &token));
            buf_clear(&next);
            buf_printf(&next, "%s&nextToken=%s", query, buf_str(&token));
        }
        if (remove_at >= 0 && n > 0) {
            /* The very one the page ended with. */
            registry_remove(r, registry_find(r, page[n - 1]->id));
            remove_at = -1;
        }
    }
    assert_string_equal(buf_str(&got), want);
}

static void test_pages(void **state)
{
    static const char all[] = "24 23 22 21 20 19 18 17 16 15 14 13 12 11 10 9 8 7 6 5 4 3 2 1 0 ";
    struct registry r;

    make_registry(&r);
    walk(&r, "", -1, all);
    walk(&r, "limit=1", -1, all);
    walk(&r, "limit=7", -1, all);
    walk(&r, "limit=25", -1, all);
    walk(&r, "limit=7&order=asc", -1,
         "0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 ");
    walk(&r, "limit=2&metadata=five%3Dyes%26even%3Dyes", -1, "20 10 0 ");
    walk(&r, "metadata=five%3Dno", -1, "");
    walk(&r, "state=paused", -1, "");
    walk(&r, "state=running,paused&limit=20", -1, all);
    walk(&r, "template=base", -1, "19 18 17 16 15 14 13 12 11 10 9 8 7 6 5 4 3 2 1 0 ");
    walk(&r, "template=local%2Fnamed", -1, "22 21 20 ");
    walk(&r, "template=Named%3Adefault", -1, "22 21 20 ");
    walk(&r, "template=x1y2z3", -1, "24 23 ");
    walk(&r, "template=other", -1, "");
    walk(&r, "startedAfter=1970-01-01T00:00:01.000020Z", -1, "24 23 22 21 20 ");
    walk(&r, "limit=7", 0, all);
    assert_int_equal(r.n_sandboxes, SANDBOXES - 1);
    registry_deinit(&r);
}

static void test_registry_finds_what_is_there(void **state)
{
    struct registry r;
    struct sandbox *s;

    make_registry(&r);
    for (struct list *node = r.by_start.next; node != &r.by_start; node = node->next) {
        s = container_of(node, struct sandbox, by_start);
        assert_ptr_equal(registry_find(&r, s->id), s);
    }
    s = registry_find(&r, "i00000000000000000007");
    assert_non_null(s);
    assert_int_equal(s->end_ns - s->start_ns, NS_PER_S - (s->start_ns - 1000000002));
    registry_remove(&r, s);
    assert_null(registry_find(&r, "i00000000000000000007"));
    assert_null(registry_find(&r, ""));
    registry_deinit(&r);
}

static void test_ids(void **state)
{
    uint8_t random[20];
    char id[SANDBOX_ID_LEN + 1];

    for (size_t i = 0; i < sizeof(random); i++)
        random[i] = (uint8_t)(i * 13);
    sandbox_id_make(random, id);
    assert_int_equal(strlen(id), SANDBOX_ID_LEN);
    assert_int_equal(id[0], 'i');
    assert_true(sandbox_id_is_valid(id, strlen(id)));
    assert_false(sandbox_id_is_valid("", 0));
    assert_false(sandbox_id_is_valid("i-a", 3));
    assert_false(sandbox_id_is_valid("iA", 2));
}

static void test_tokens(void **state)
{
    /* RFC 4231, test case 2. */
    char token[SANDBOX_TOKEN_LEN + 1];

    token_make((const uint8_t *)"Jefe", 4, "what do ya want for nothing?", token);
    assert_string_equal(token, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
}

static void test_signatures(void **state)
{
    static const char token[] = "0tQG31xiMp0IOQfaz9dcwi72L1CPo8e0";
    static const struct {
        const char *method, *query;
        bool fits;
    } cases[] = {
#define SIGNATURE "signature=v1_gUtH%2Fs9YCJWgCizjfUxuWfhFE4QSydOWEIIvfLwDr6E"
        {"GET", "path=hello.txt&username=user&" SIGNATURE, true},
        {"HEAD", SIGNATURE "&username=user&path=hello%2etxt", true},
        {"POST", "path=hello.txt&username=user&" SIGNATURE, false},
        {"GET", "path=hello.tx&username=user&" SIGNATURE, false},
        {"GET", "path=hello.txt&username=root&" SIGNATURE, false},
        {"GET", "path=hello.txt&username=user&signature_expiration=9&" SIGNATURE, false},
        {"GET", "path=hello.txt&username=user&signature=v1_", false},
        {"GET", "path=hello.txt&username=user", false},
    };

    for (size_t i = 0; i < N(cases); i++) {
        struct http_head h = {
            .method = cases[i].method, .path = "/files", .path_len = 6, .query = cases[i].query};

        if (signature_fits(&h, token) != cases[i].fits)
            fail_msg("%s %s", cases[i].method, cases[i].query);
        assert_false(signature_fits(&h, "another"));
    }
}

static void test_rates(void **state)
{
    const int64_t start = 1000 * NS_PER_S;
    struct rate r = {0};
    struct rate_answer a;

    for (int64_t left = 3; left >= 0; left--) {
        a = rate_take(&r, 4, NS_PER_S, start);
        assert_true(a.allowed);
        assert_int_equal(a.remaining, left);
        assert_int_equal(a.reset_s, 1);
    }
    a = rate_take(&r, 4, NS_PER_S, start);
    assert_false(a.allowed);
    assert_int_equal(a.remaining, 0);
    assert_int_equal(a.retry_s, 1);
    /* One comes back every quarter of a second. */
    assert_false(rate_take(&r, 4, NS_PER_S, start + NS_PER_S / 4 - 1).allowed);
    assert_true(rate_take(&r, 4, NS_PER_S, start + NS_PER_S / 4).allowed);
    assert_false(rate_take(&r, 4, NS_PER_S, start + NS_PER_S / 4).allowed);
    a = rate_take(&r, 4, NS_PER_S, start + 10 * NS_PER_S);
    assert_true(a.allowed);
    assert_int_equal(a.remaining, 3);
}

static void test_origins(void **state)
{
    static const struct {
        const char *origin;
        bool local;
    } cases[] = {
        {"http://localhost", true},
        {"http://localhost:5173", true},
        {"https://127.0.0.1:8443", true},
        {"http://[::1]:3000", true},
        {"http://3000-iabc.localhost", true},
        {"https://app.example.com", true},
        {"https://example.org", false},
        {"https://localhost.example.org", false},
        {"null", false},
        {"", false},
        {"http://", false},
    };

    for (size_t i = 0; i < N(cases); i++)
        assert_int_equal(route_origin_is_local(cases[i].origin, "example.com"), cases[i].local);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rates),
        cmocka_unit_test(test_origins),
        cmocka_unit_test(test_timestamps),
        cmocka_unit_test(test_routes),
        cmocka_unit_test(test_local_hosts),
        cmocka_unit_test(test_metadata_filter),
        cmocka_unit_test(test_bad_lists_are_refused),
        cmocka_unit_test(test_pages),
        cmocka_unit_test(test_registry_finds_what_is_there),
        cmocka_unit_test(test_ids),
        cmocka_unit_test(test_tokens),
        cmocka_unit_test(test_signatures),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
