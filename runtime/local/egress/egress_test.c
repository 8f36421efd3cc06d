/* The pure parts of the way out: policies, names in first bytes, DNS messages, requests. */
#include "common/base/cleanup.h"
#include "common/base/mem.h"
#include "runtime/local/egress/dns.h"
#include "runtime/local/egress/http.h"
#include "runtime/local/egress/names.h"
#include "runtime/local/egress/network.h"

#include <json-c/json_tokener.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define IP(a, b, c, d)                                                                             \
    ((uint32_t)(a) << 24 | (uint32_t)(b) << 16 | (uint32_t)(c) << 8 | (uint32_t)(d))
#define ALL "\"denyOut\":[\"0.0.0.0/0\"]"

static bool parse(struct network *n, const char *text, bool internet, struct status *st)
{
    struct json_object *object = json_tokener_parse(text);
    bool parsed;

    assert_non_null(object);
    parsed = network_parse(n, object, internet, st);
    json_object_put(object);
    return parsed;
}

static void test_what_is_refused_is_refused_in_e2bs_words(void **state)
{
    static const struct {
        const char *text;
        const char *message;
    } cases[] = {
        {"{\"denyOut\":[\"example.com\"]}", "invalid denied CIDR example.com"},
        {"{\"denyOut\":[\"0.0.0.0\"]}", "invalid denied CIDR 0.0.0.0"},
        {"{\"denyOut\":[\"0.0.0.0/8\"]}", "invalid denied CIDR 0.0.0.0/8"},
        {"{\"denyOut\":[\"::/0\"]}", "invalid denied CIDR ::/0"},
        {"{\"denyOut\":[\"1.2.3.4/33\"]}", "invalid denied CIDR 1.2.3.4/33"},
        {"{\"denyOut\":[\"1.2.3.4:80\"]}", "invalid denied CIDR 1.2.3.4:80"},
        {"{\"allowOut\":[\"0.0.0.0\"]}", "invalid allowed address 0.0.0.0"},
        {"{\"allowOut\":[\"example.com\"]}",
         "When specifying allowed domains in allow out, you must include 'ALL_TRAFFIC' in deny "
         "out to block all other traffic."},
        {"{\"allowOut\":[\"*\"],\"denyOut\":[\"1.0.0.0/8\"]}",
         "When specifying allowed domains in allow out, you must include 'ALL_TRAFFIC' in deny "
         "out to block all other traffic."},
        {"{\"allowOut\":\"1.2.3.4\"}", "validation error: allowOut must be an array of strings"},
        {"{\"denyOut\":[1]}", "validation error: denyOut must be an array of strings"},
        {"{\"rules\":{\"\":[]}}", "Rule domain must not be empty."},
        {"{\"rules\":{\"*.a.b\":[]}}", "Rule domain \"*.a.b\" is not a valid domain name."},
        {"{\"rules\":{\"1.2.3.4\":[]}}", "Rule domain \"1.2.3.4\" is not a valid domain name."},
        {"{\"rules\":{\"a.b\":[{},{}]}}", "Domain \"a.b\" can have at most 1 transform rule."},
        {"{\"rules\":{\"a.b\":[{\"transform\":{\"headers\":{\"\":\"x\"}}}]}}",
         "Header name in rule for domain \"a.b\" must not be empty."},
        {"{\"rules\":{\"a.b\":[{\"transform\":{\"headers\":{\"a b\":\"x\"}}}]}}",
         "Header name \"a b\" in rule for domain \"a.b\" must contain only valid HTTP token "
         "characters."},
        {"{\"rules\":{\"a.b\":[{\"transform\":{\"headers\":{\"a\":\"x\\ny\"}}}]}}",
         "Value for header \"a\" in rule for domain \"a.b\" contains invalid characters."},
        {"{\"rules\":{\"a.b\":[{\"transform\":{\"headers\":{\"a\":\"${e2b.secrets.x}\"}}}]}}",
         "The local runtime has no secrets and identities to put into headers"},
        {"{\"rules\":{\"1\":[],\"2\":[],\"3\":[],\"4\":[],\"5\":[],\"6\":[],\"7\":[],\"8\":[],"
         "\"9\":[],\"a\":[],\"b\":[]}}",
         "Network rules can have at most 10 domains."},
        {"{\"maskRequestHost\":\"a b\"}", "mask request host is not valid: a b"},
        {"{\"maskRequestHost\":\"a:b\"}", "mask request host is not valid: a:b"},
        {"{\"maskRequestHost\":\"\\u00fc.de\"}",
         "mask request host '\xc3\xbc.de' is not ASCII. Please use ASCII characters only."},
        {"{\"allowPublicTraffic\":1}",
         "validation error: allowPublicTraffic must be true or false"},
        {"[]", "validation error: network must be an object"},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct status st = STATUS_INIT;
        struct network n;

        assert_false(parse(&n, cases[i].text, true, &st));
        assert_int_equal(st.code, CODE_INVALID_ARGUMENT);
        assert_string_equal(st.message, cases[i].message);
        network_deinit(&n);
    }
}

static void test_a_proxy_has_to_be_asked_for(void **state)
{
    struct status st = STATUS_INIT;
    struct network n;

    assert_false(parse(&n, "{\"egressProxy\":{\"address\":\"a:1\"}}", true, &st));
    assert_int_equal(st.code, CODE_PERMISSION_DENIED);
    network_deinit(&n);
}

static void test_policies_judge_addresses(void **state)
{
    static const struct {
        const char *network;
        bool internet;
        uint32_t address;
        enum egress_verdict verdict;
    } cases[] = {
        {"{}", true, IP(1, 2, 3, 4), EGRESS_NO_RULE},
        {"{}", false, IP(1, 2, 3, 4), EGRESS_DENIED},
        {"{\"allowOut\":[\"1.2.3.4\"]}", false, IP(1, 2, 3, 4), EGRESS_ALLOWED},
        {"{\"allowOut\":[\"1.2.3.4\"]}", false, IP(1, 2, 3, 5), EGRESS_DENIED},
        {"{\"allowOut\":[\"1.2.3.77/24\"]," ALL "}", true, IP(1, 2, 3, 5), EGRESS_ALLOWED},
        {"{\"allowOut\":[\"1.2.3.0/24\"]," ALL "}", true, IP(1, 2, 4, 5), EGRESS_DENIED},
        {"{\"denyOut\":[\"1.2.3.4\"]}", true, IP(1, 2, 3, 4), EGRESS_DENIED},
        {"{\"denyOut\":[\"1.2.3.4\"]}", true, IP(1, 2, 3, 5), EGRESS_NO_RULE},
        {"{\"denyOut\":[\"::ffff:1.2.3.4\"]}", true, IP(1, 2, 3, 4), EGRESS_DENIED},
        {"{\"denyOut\":[\"::ffff:1.2.0.0/112\"]}", true, IP(1, 2, 9, 9), EGRESS_DENIED},
        {"{\"denyOut\":[\"2001:db8::/32\"]}", true, IP(1, 2, 3, 4), EGRESS_NO_RULE},
        {"{\"denyOut\":[\"1.2.3.4\"],\"allowOut\":[\"1.0.0.0/8\"]}", true, IP(1, 2, 3, 4),
         EGRESS_ALLOWED},
        {"{\"allowOut\":[\"0.0.0.0/0\"]," ALL "}", true, IP(9, 9, 9, 9), EGRESS_ALLOWED},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct network n;

        assert_true(parse(&n, cases[i].network, cases[i].internet, NULL));
        assert_int_equal(egress_policy_address(&n.policy, cases[i].address), cases[i].verdict);
        network_deinit(&n);
    }
}

static void test_private_addresses(void **state)
{
    static const uint32_t private[] = {
        IP(0, 0, 0, 0),      IP(0, 1, 2, 3),         IP(10, 0, 0, 1),        IP(10, 255, 255, 255),
        IP(100, 64, 0, 0),   IP(100, 127, 255, 1),   IP(127, 0, 0, 1),       IP(127, 255, 255, 255),
        IP(169, 254, 0, 22), IP(172, 16, 0, 0),      IP(169, 254, 169, 254), IP(172, 31, 255, 255),
        IP(192, 0, 0, 170),  IP(192, 88, 99, 1),     IP(192, 168, 0, 0),     IP(192, 168, 255, 255),
        IP(198, 18, 0, 1),   IP(198, 19, 255, 1),    IP(224, 0, 0, 1),       IP(239, 255, 255, 255),
        IP(240, 0, 0, 1),    IP(255, 255, 255, 255),
    };
    static const uint32_t public[] = {
        IP(1, 0, 0, 0),     IP(9, 255, 255, 255),   IP(11, 0, 0, 0),        IP(100, 63, 255, 255),
        IP(100, 128, 0, 0), IP(126, 255, 255, 255), IP(128, 0, 0, 1),       IP(169, 253, 255, 255),
        IP(172, 15, 0, 1),  IP(172, 32, 0, 0),      IP(192, 0, 1, 0),       IP(192, 167, 255, 255),
        IP(192, 169, 0, 0), IP(198, 20, 0, 0),      IP(223, 255, 255, 255),
    };

    for (size_t i = 0; i < sizeof(private) / sizeof(private[0]); i++)
        assert_true(egress_is_private(private[i]));
    for (size_t i = 0; i < sizeof(public) / sizeof(public[0]); i++)
        assert_false(egress_is_private(public[i]));
}

static void test_domains_fit(void **state)
{
    static const struct {
        const char *pattern, *name;
        bool fits;
    } cases[] = {
        {"a.b", "a.b", true},      {"A.B", "a.b", true},       {"a.b", "x.a.b", false},
        {"*.a.b", "x.a.b", true},  {"*.a.b", "y.x.a.b", true}, {"*.a.b", "a.b", false},
        {"*.a.b", "xa.b", false},  {"*.A.b", "x.a.B", true},   {"*", "anything", true},
        {"*", "", false},          {"", "a", false},           {"*.", "a.", false},
        {"a.*.b", "a.x.b", false}, {"*a.b", "xa.b", false},    {"a.b", "a.b.c", false},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_int_equal(egress_domain_fits(cases[i].pattern, cases[i].name), cases[i].fits);
}

static void test_which_names_are_looked_up(void **state)
{
    static const struct {
        const char *network;
        bool internet;
        const char *name;
        bool resolves;
    } cases[] = {
        {"{}", true, "x.y", true},
        {"{}", false, "x.y", false},
        {"{" ALL "}", true, "x.y", false},
        {"{\"denyOut\":[\"1.0.0.0/8\"]}", true, "x.y", true},
        {"{\"allowOut\":[\"x.y\"]," ALL "}", true, "x.y", true},
        {"{\"allowOut\":[\"x.y\"]," ALL "}", true, "secret.x.y", false},
        {"{\"allowOut\":[\"8.8.8.8\"]," ALL "}", true, "x.y", true},
        {"{\"allowOut\":[\"1.1.1.1\"]," ALL "}", true, "x.y", false},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct network n;

        assert_true(parse(&n, cases[i].network, cases[i].internet, NULL));
        assert_int_equal(egress_policy_resolves(&n.policy, cases[i].name), cases[i].resolves);
        network_deinit(&n);
    }
}

static void test_an_update_replaces_the_way_out_alone(void **state)
{
    struct json_object *update = json_tokener_parse("{\"allowOut\":[\"1.2.3.4\"]," ALL
                                                    ",\"allowPublicTraffic\":true,\"x\":1}");
    struct network n, updated;

    assert_true(parse(&n,
                      "{\"allowPublicTraffic\":false,\"maskRequestHost\":\"h:${PORT}\",\"y\":2,"
                      "\"denyOut\":[\"9.9.9.9\"]}",
                      true, NULL));
    assert_false(n.public_traffic);
    assert_string_equal(n.mask_host, "h:${PORT}");
    assert_true(network_update(&updated, n.text, update, true, NULL));
    assert_false(updated.public_traffic);
    assert_string_equal(updated.mask_host, "h:${PORT}");
    assert_string_equal(updated.text, "{\"allowPublicTraffic\":false,\"maskRequestHost\":"
                                      "\"h:${PORT}\",\"allowOut\":[\"1.2.3.4\"]," ALL "}");
    network_deinit(&n);
    assert_true(network_parse_text(&n, updated.text, true, NULL));
    assert_string_equal(n.text, updated.text);
    network_deinit(&n);
    network_deinit(&updated);
    json_object_put(update);
}

static void test_ranges_with_ports(void **state)
{
    static const struct {
        const char *text;
        bool fine;
        uint32_t base;
        uint32_t mask;
        uint16_t port;
    } cases[] = {
        {"1.2.3.4", true, IP(1, 2, 3, 4), UINT32_MAX, 0},
        {"1.2.3.4:80", true, IP(1, 2, 3, 4), UINT32_MAX, 80},
        {"1.2.3.4/8:80", true, IP(1, 0, 0, 0), 0xff000000, 80},
        {"0.0.0.0/0", true, 0, 0, 0},
        {"1.2.3.4:0", false},
        {"1.2.3.4:65536", false},
        {"1.2.3.4:", false},
        {"1.2.3.4/", false},
        {"1.2.3.4/-1", false},
        {"1.2.3.4/33", false},
        {"01.2.3.4", false},
        {"1.2.3", false},
        {"x", false},
        {"", false},
        {"::1", false},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct egress_range range;

        assert_int_equal(egress_range_parse(cases[i].text, true, &range), cases[i].fine);
        if (!cases[i].fine)
            continue;
        assert_int_equal(range.base, cases[i].base);
        assert_int_equal(range.mask, cases[i].mask);
        assert_int_equal(range.port, cases[i].port);
    }
}

static void test_names_are_remembered_for_a_while(void **state)
{
    struct egress_names names = {.at = NULL};
    struct network n;

    assert_true(parse(&n, "{\"allowOut\":[\"a.b\"]," ALL "}", true, NULL));
    assert_null(egress_names_find(&names, 1, &n.policy, 0));
    egress_names_add(&names, "x.y", 1, 100);
    assert_null(egress_names_find(&names, 1, &n.policy, 50));
    egress_names_add(&names, "a.b", 1, 100);
    egress_names_add(&names, "a.b", 1, 200);
    assert_string_equal(egress_names_find(&names, 1, &n.policy, 150), "a.b");
    assert_null(egress_names_find(&names, 1, &n.policy, 200));
    assert_null(egress_names_find(&names, 2, &n.policy, 50));
    for (uint32_t i = 0; i < EGRESS_NAMES_MAX; i++)
        egress_names_add(&names, "x.y", 10 + i, 1000);
    assert_null(egress_names_find(&names, 1, &n.policy, 150));
    egress_names_deinit(&names);
    network_deinit(&n);
}

/* A ClientHello with that server name, in records of at most step bytes. */
static void make_hello(struct buf *out, const char *name, size_t step)
{
    AUTO(buf_deinit) struct buf hello = BUF_INIT(65536);
    size_t len = strlen(name), server_name = len > 0 ? 9 + len : 0;
    size_t extensions = 4 + 3 + server_name,
           body = 2 + 32 + 1 + 32 + 2 + 4 + 1 + 1 + 2 + extensions;
    uint8_t filler[64] = {0};

#define PUT(...) buf_append(&hello, (uint8_t[]){__VA_ARGS__}, sizeof((uint8_t[]){__VA_ARGS__}))
    PUT(1, 0, (uint8_t)(body >> 8), (uint8_t)body, 3, 3);
    buf_append(&hello, filler, 32);
    PUT(32);
    buf_append(&hello, filler, 32);
    PUT(0, 4, 0x13, 1, 0x13, 2, 1, 0, (uint8_t)(extensions >> 8), (uint8_t)extensions);
    PUT(0, 43, 0, 3, 2, 3, 4);
    if (len > 0) {
        PUT(0, 0, 0, (uint8_t)(len + 5), 0, (uint8_t)(len + 3), 0, 0, (uint8_t)len);
        buf_append(&hello, name, len);
    }
#undef PUT
    while (buf_len(&hello) > 0) {
        size_t n = buf_len(&hello) < step ? buf_len(&hello) : step;

        buf_append(out, (uint8_t[]){22, 3, 1, (uint8_t)(n >> 8), (uint8_t)n}, 5);
        buf_append(out, buf_data(&hello), n);
        buf_consume(&hello, n);
    }
}

static void test_server_names_are_found(void **state)
{
    static const struct {
        const char *name;
        const char *found; /* NULL: none */
    } cases[] = {
        {"example.com", "example.com"},
        {"EXAMPLE.com.", "example.com"},
        {"x-1_2.y", "x-1_2.y"},
        {"", NULL},
        {"1.2.3.4", NULL},
        {"a b", NULL},
        {".a", NULL},
        {"a/b", NULL},
        {"::1", NULL},
    };
    static const size_t steps[] = {16384, 50, 7, 1};

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        for (size_t j = 0; j < sizeof(steps) / sizeof(steps[0]); j++) {
            AUTO(buf_deinit) struct buf hello = BUF_INIT(65536);
            char name[EGRESS_NAME_MAX + 1];

            make_hello(&hello, cases[i].name, steps[j]);
            for (size_t len = 0; len < buf_len(&hello); len++)
                assert_int_equal(egress_sniff_tls(buf_data(&hello), len, name), EGRESS_SNIFF_MORE);
            assert_int_equal(egress_sniff_tls(buf_data(&hello), buf_len(&hello), name),
                             cases[i].found != NULL ? EGRESS_SNIFF_NAME : EGRESS_SNIFF_NONE);
            if (cases[i].found != NULL)
                assert_string_equal(name, cases[i].found);
        }
    }
}

static void test_what_is_no_hello_names_nobody(void **state)
{
    static const struct {
        const char *data;
        size_t len;
    } cases[] = {
        {"\x17\x03\x01", 3},                     /* another record */
        {"\x16\x02\x01\x00\x05", 5},             /* another version */
        {"\x16\x03\x01\x00\x00", 5},             /* nothing in it */
        {"\x16\x03\x01\xff\xff", 5},             /* too long */
        {"\x16\x03\x01\x00\x04\x02\0\0\x10", 9}, /* a ServerHello */
        {"\x16\x03\x01\x00\x04\x01\x01\0\0", 9}, /* of 64 KiB */
        {"\x16\x03\x01\x00\x04\x01\0\0\0", 9},   /* empty */
    };
    char name[EGRESS_NAME_MAX + 1];

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_int_equal(egress_sniff_tls((const uint8_t *)cases[i].data, cases[i].len, name),
                         EGRESS_SNIFF_NONE);
}

static void test_hosts_are_found(void **state)
{
    static const struct {
        const char *request;
        const char *found; /* NULL: none; "": more is needed */
    } cases[] = {
        {"GET / HTTP/1.1\r\nHost: Example.com\r\n\r\n", "example.com"},
        {"GET / HTTP/1.1\r\nA: b\r\nhost:example.com:80\r\n\r\nbody", "example.com"},
        {"GET http://example.com/ HTTP/1.1\r\nHost: example.com\r\n\r\n", "example.com"},
        {"GET http://other.com/ HTTP/1.1\r\nHost: example.com\r\n\r\n", NULL},
        {"GET http://example.com.evil/ HTTP/1.1\r\nHost: example.com\r\n\r\n", NULL},
        {"GET / HTTP/1.1\r\nHost: a.com\r\nHost: b.com\r\n\r\n", NULL},
        {"GET / HTTP/1.1\r\n\r\n", NULL},
        {"GET / HTTP/1.0\r\n\r\n", NULL},
        {"GET / HTTP/1.1\r\nHost: 1.2.3.4\r\n\r\n", NULL},
        {"GET / HTTP/1.1\r\nHost: [::1]\r\n\r\n", NULL},
        {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", NULL},
        {"SSH-2.0-x\r\n\r\n", NULL},
        {"GET / HTTP/1.1\r\nHost: example.com\r\n", ""},
        {"", ""},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const char *want = cases[i].found;
        char name[EGRESS_NAME_MAX + 1];
        enum egress_sniff found =
            egress_sniff_http((const uint8_t *)cases[i].request, strlen(cases[i].request), name);

        assert_int_equal(found, want == NULL    ? EGRESS_SNIFF_NONE
                                : *want == '\0' ? EGRESS_SNIFF_MORE
                                                : EGRESS_SNIFF_NAME);
        if (want != NULL && *want != '\0')
            assert_string_equal(name, want);
    }
}

#define QUESTION "\x12\x34\x01\x00\0\1\0\0\0\0\0\0"

static void test_questions_are_read_and_answered(void **state)
{
    static const char text[] = QUESTION "\7Example\3com\0\0\1\0\1";
    static const char want[] = "\x12\x34\x81\x80\0\1\0\1\0\0\0\0"
                               "\7Example\3com\0\0\1\0\1"
                               "\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4\1\2\3\4";
    AUTO(buf_deinit) struct buf out = BUF_INIT(EGRESS_DNS_MAX);
    struct egress_dns_address address = {IP(1, 2, 3, 4), 60};
    struct egress_dns_question q;

    assert_int_equal(egress_dns_read((const uint8_t *)text, sizeof(text) - 1, &q),
                     EGRESS_DNS_QUESTION);
    assert_string_equal(q.name, "example.com");
    assert_int_equal(q.type, EGRESS_DNS_A);
    assert_true(q.internet);
    assert_int_equal(q.max_size, 512);
    egress_dns_answer(&q, EGRESS_DNS_OK, &address, 1, &out);
    assert_int_equal(buf_len(&out), sizeof(want) - 1);
    assert_memory_equal(buf_data(&out), want, sizeof(want) - 1);
}

static void test_sizes_over_udp(void **state)
{
    static const struct {
        uint8_t high, low;
        size_t size;
    } cases[] = {{0, 0, 512}, {2, 1, 513}, {0x10, 0, 1232}, {0xff, 0xff, 1232}};

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint8_t text[] = "\x12\x34\x01\x00\0\1\0\0\0\0\0\1\1x\0\0\1\0\1"
                         "\0\0\x29??\0\0\0\0\0\0";
        struct egress_dns_question q;

        text[22] = cases[i].high;
        text[23] = cases[i].low;
        assert_int_equal(egress_dns_read(text, sizeof(text) - 1, &q), EGRESS_DNS_QUESTION);
        assert_int_equal(q.max_size, cases[i].size);
    }
}

static void test_bad_questions(void **state)
{
    static const struct {
        const char *data;
        size_t len;
        enum egress_dns_read read;
    } cases[] = {
        {"", 0, EGRESS_DNS_NOISE},
        {QUESTION, 11, EGRESS_DNS_NOISE},
        {"\x12\x34\x81\x00\0\1\0\0\0\0\0\0\1x\0\0\1\0\1", 19, EGRESS_DNS_NOISE}, /* an answer */
        {QUESTION, 12, EGRESS_DNS_BAD},
        {QUESTION "\1x\0\0\1\0", 18, EGRESS_DNS_BAD},
        {QUESTION "\1x", 14, EGRESS_DNS_BAD},
        {QUESTION "\x09x\0\0\1\0\1", 19, EGRESS_DNS_BAD},
        {QUESTION "\xc0\x0c\0\1\0\1", 18, EGRESS_DNS_BAD}, /* a name that is itself */
        {"\x12\x34\x01\x00\0\2\0\0\0\0\0\0\1x\0\0\1\0\1", 19, EGRESS_DNS_BAD},
        {"\x12\x34\x29\x00\0\1\0\0\0\0\0\0\1x\0\0\1\0\1", 19, EGRESS_DNS_BAD}, /* an update */
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        AUTO(buf_deinit) struct buf out = BUF_INIT(EGRESS_DNS_MAX);
        struct egress_dns_question q;

        assert_int_equal(egress_dns_read((const uint8_t *)cases[i].data, cases[i].len, &q),
                         cases[i].read);
        if (cases[i].read != EGRESS_DNS_BAD)
            continue;
        egress_dns_answer(&q, EGRESS_DNS_FORMAT_ERROR, NULL, 0, &out);
        assert_int_equal(buf_len(&out), 12);
        assert_int_equal(buf_data(&out)[3], 0x81);
        assert_int_equal(buf_data(&out)[5], 0);
    }
}

static void test_names_that_are_no_host_names(void **state)
{
    static const struct {
        const char *data;
        size_t len;
    } cases[] = {
        {QUESTION "\0\0\1\0\1", 17},         /* the root */
        {QUESTION "\3a.b\0\0\1\0\1", 21},    /* a dot in a label */
        {QUESTION "\3a b\0\0\1\0\1", 21},    /* a blank */
        {QUESTION "\3\0\0\0\0\0\1\0\1", 21}, /* zeros */
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct egress_dns_question q;

        assert_int_equal(egress_dns_read((const uint8_t *)cases[i].data, cases[i].len, &q),
                         EGRESS_DNS_QUESTION);
        assert_string_equal(q.name, "");
    }
}

static void test_the_longest_name(void **state)
{
    uint8_t text[12 + 4 * 64 + 5] = QUESTION;
    struct egress_dns_question q;

    /* 63 + 63 + 63 + 61 and the dots between them. */
    memset(text + 12, 'a', sizeof(text) - 12);
    text[12] = text[76] = text[140] = 63;
    text[204] = 61;
    text[266] = 0;
    assert_int_equal(egress_dns_read(text, 271, &q), EGRESS_DNS_QUESTION);
    assert_int_equal(strlen(q.name), EGRESS_NAME_MAX);
    text[204] = 62;
    text[266] = 'a';
    text[267] = 0;
    assert_int_equal(egress_dns_read(text, 272, &q), EGRESS_DNS_BAD);
}

static void test_requests_are_written_anew(void **state)
{
    static const struct {
        bool proxied;
        bool headers;
        const char *in;
        const char *out; /* NULL: the connection is cut */
    } cases[] = {
        {false, true, "GET /p?q HTTP/1.1\r\nHost: a.b\r\nX-KEY: mine\r\n\r\n",
         "GET /p?q HTTP/1.1\r\nHost: a.b\r\nX-Key: v\r\n\r\n"},
        {false, true, "GET / HTTP/1.1\r\nHost: c.d\r\nX-Key: mine\r\n\r\n",
         "GET / HTTP/1.1\r\nHost: c.d\r\nX-Key: mine\r\n\r\n"},
        {false, true,
         "POST / HTTP/1.1\r\nHost: a.b:80\r\nContent-Length: 2\r\n\r\nxyGET / HTTP/1.1\r\n"
         "Host: a.b\r\n\r\n",
         "POST / HTTP/1.1\r\nHost: a.b:80\r\nContent-Length: 2\r\nX-Key: v\r\n\r\nxy"
         "GET / HTTP/1.1\r\nHost: a.b\r\nX-Key: v\r\n\r\n"},
        {false, true,
         "POST / HTTP/1.1\r\nHost: a.b\r\nTransfer-Encoding: chunked\r\n\r\n"
         "2;x=y\r\nab\r\n0\r\nT: x\r\n\r\n",
         "POST / HTTP/1.1\r\nHost: a.b\r\nTransfer-Encoding: chunked\r\nX-Key: v\r\n\r\n"
         "2\r\nab\r\n0\r\n\r\n"},
        {false, true,
         "GET / HTTP/1.1\r\nHost: a.b\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n\1\2 bytes",
         "GET / HTTP/1.1\r\nHost: a.b\r\nConnection: Upgrade\r\nUpgrade: x\r\nX-Key: v\r\n\r\n"
         "\1\2 bytes"},
        {false, true, "what is this?\r\n\r\n", NULL},
        {true, false,
         "GET http://a.b:81/p HTTP/1.1\r\nHost: other\r\nProxy-Connection: keep-alive\r\n"
         "Proxy-Authorization: x\r\nA: b\r\n\r\n",
         "GET /p HTTP/1.1\r\nHost: a.b:81\r\nConnection: close\r\nA: b\r\n\r\n"},
        {true, true, "GET http://a.b HTTP/1.1\r\nHost: a.b\r\n\r\n",
         "GET / HTTP/1.1\r\nHost: a.b\r\nConnection: close\r\nX-Key: v\r\n\r\n"},
        {true, true, "GET http://a.b?q HTTP/1.1\r\nHost: a.b\r\n\r\n",
         "GET /?q HTTP/1.1\r\nHost: a.b\r\nConnection: close\r\nX-Key: v\r\n\r\n"},
        {true, true,
         "GET http://a.b/ HTTP/1.1\r\nHost: a.b\r\n\r\nGET http://c.d/ HTTP/1.1\r\n"
         "Host: c.d\r\n\r\n",
         NULL},
    };
    struct pairs headers = {NULL, 0};

    pairs_add(&headers, "X-Key", "v");
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        for (size_t step = 1; step < 64; step += 62) {
            AUTO(buf_deinit) struct buf out = BUF_INIT(EGRESS_HTTP_OUT_MAX);
            AUTO(egress_http_deinit) struct egress_http http;
            const char *in = cases[i].in;
            size_t len = strlen(in);
            bool fine = true;

            egress_http_init(&http, "a.b", cases[i].proxied);
            for (size_t at = 0; fine && at < len; at += step)
                fine = egress_http_pass(&http, cases[i].headers ? &headers : NULL,
                                        (const uint8_t *)in + at, step < len - at ? step : len - at,
                                        &out);
            assert_int_equal(fine, cases[i].out != NULL);
            /* Bytes of a chunk that come one by one go on as chunks of one. */
            if (fine && !(step == 1 && strstr(in, "chunked")))
                assert_string_equal(buf_str(&out), cases[i].out);
        }
    }
    pairs_deinit(&headers);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_refused_is_refused_in_e2bs_words),
        cmocka_unit_test(test_a_proxy_has_to_be_asked_for),
        cmocka_unit_test(test_policies_judge_addresses),
        cmocka_unit_test(test_private_addresses),
        cmocka_unit_test(test_domains_fit),
        cmocka_unit_test(test_which_names_are_looked_up),
        cmocka_unit_test(test_an_update_replaces_the_way_out_alone),
        cmocka_unit_test(test_ranges_with_ports),
        cmocka_unit_test(test_names_are_remembered_for_a_while),
        cmocka_unit_test(test_server_names_are_found),
        cmocka_unit_test(test_what_is_no_hello_names_nobody),
        cmocka_unit_test(test_hosts_are_found),
        cmocka_unit_test(test_questions_are_read_and_answered),
        cmocka_unit_test(test_sizes_over_udp),
        cmocka_unit_test(test_bad_questions),
        cmocka_unit_test(test_names_that_are_no_host_names),
        cmocka_unit_test(test_the_longest_name),
        cmocka_unit_test(test_requests_are_written_anew),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
