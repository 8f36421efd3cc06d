/*
 * Conversations with the parser: bytes in, events out, written as text. Every one is run whole and
 * then split in two at every byte, and byte by byte: the events must be the same.
 */
#include "common/http/parser.h"

#include "common/base/cleanup.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

struct conversation {
    const char *name;
    const char *in;
    const char *out; /* request or status line, headers, "[body]", "END", or "ERROR n" */
};

static const struct conversation requests[] = {
    {"plain get", "GET /a?b=c HTTP/1.1\r\nHost: x\r\n\r\n", "GET /a ?b=c none keep\nHost=x\nEND\n"},
    {"empty line first", "\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n",
     "GET / ? none keep\nHost=x\nEND\n"},
    {"length", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello",
     "POST / ? length keep\nHost=x\nContent-Length=5\n[hello]END\n"},
    {"length zero", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
     "POST / ? none keep\nHost=x\nContent-Length=0\nEND\n"},
    {"pipelined",
     "GET /1 HTTP/1.1\r\nHost: x\r\n\r\nPOST /2 HTTP/1.1\r\nHost: x\r\nContent-Length: "
     "2\r\n\r\nhiGET /3 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
     "GET /1 ? none keep\nHost=x\nEND\nPOST /2 ? length keep\nHost=x\nContent-Length=2\n[hi]END\n"
     "GET /3 ? none close\nHost=x\nConnection=close\nEND\n"},
    {"chunked",
     "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: Chunked\r\n\r\n"
     "5\r\nhello\r\nA;ext=\"1\"\r\n world, hi\r\n0\r\n\r\n",
     "POST / ? chunked keep\nHost=x\nTransfer-Encoding=Chunked\n[hello world, hi]END\n"},
    {"trailers",
     "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
     "1\r\na\r\n000\r\nX-Sum: 1\r\nX-Other:\r\n\r\n",
     "POST / ? chunked keep\nHost=x\nTransfer-Encoding=chunked\n[a]END\n"},
    {"spaces around a value", "GET / HTTP/1.1\r\nHost: \t x y \t\r\nA:\r\n\r\n",
     "GET / ? none keep\nHost=x y\nA=\nEND\n"},
    {"one point zero", "GET / HTTP/1.0\r\n\r\n", "GET / ? none close\nEND\n"},
    {"one point zero, kept", "GET / HTTP/1.0\r\nConnection: foo, Keep-Alive\r\n\r\n",
     "GET / ? none keep\nConnection=foo, Keep-Alive\nEND\n"},
    {"absolute form", "GET http://h:1/p/q?r HTTP/1.1\r\nHost: h\r\n\r\n",
     "GET /p/q ?r none keep\nHost=h\nEND\n"},
    {"asterisk", "OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", "OPTIONS * ? none keep\nHost=h\nEND\n"},
    {"upgrade",
     "GET / HTTP/1.1\r\nHost: h\r\nConnection: keep-alive, Upgrade\r\nUpgrade: w\r\n\r\n",
     "GET / ? none keep upgrade\nHost=h\nConnection=keep-alive, Upgrade\nUpgrade=w\nEND\n"},
    {"continue", "PUT / HTTP/1.1\r\nHost: h\r\nExpect: 100-Continue\r\nContent-Length: 1\r\n\r\nx",
     "PUT / ? length keep continue\nHost=h\nExpect=100-Continue\nContent-Length=1\n[x]END\n"},
    {"connect has no body", "CONNECT h:1 HTTP/1.1\r\nHost: h:1\r\n\r\n",
     "CONNECT h:1 ? none keep\nHost=h:1\nEND\n"},
    {"two lengths", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n",
     "ERROR 400\n"},
    {"length list", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5, 5\r\n\r\n", "ERROR 400\n"},
    {"length signed", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +5\r\n\r\n", "ERROR 400\n"},
    {"length negative", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n", "ERROR 400\n"},
    {"length hex", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0x5\r\n\r\n", "ERROR 400\n"},
    {"length empty", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length:\r\n\r\n", "ERROR 400\n"},
    {"length huge", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999999999999999\r\n\r\n",
     "ERROR 400\n"},
    {"length and coding",
     "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
     "ERROR 400\n"},
    {"coding and length",
     "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\ncontent-length: 5\r\n\r\n",
     "ERROR 400\n"},
    {"two codings",
     "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: "
     "identity\r\n\r\n",
     "ERROR 400\n"},
    {"unknown coding", "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
     "ERROR 501\n"},
    {"hidden coding", "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n",
     "ERROR 501\n"},
    {"coding in 1.0", "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", "ERROR 400\n"},
    {"folded", "GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n", "ERROR 400\n"},
    {"folded first", "GET / HTTP/1.1\r\n Host: x\r\n\r\n", "ERROR 400\n"},
    {"space before colon", "GET / HTTP/1.1\r\nHost : x\r\n\r\n", "ERROR 400\n"},
    {"no colon", "GET / HTTP/1.1\r\nHost\r\n\r\n", "ERROR 400\n"},
    {"no name", "GET / HTTP/1.1\r\n: x\r\n\r\n", "ERROR 400\n"},
    {"no host", "GET / HTTP/1.1\r\n\r\n", "ERROR 400\n"},
    {"two hosts", "GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", "ERROR 400\n"},
    {"bare newline", "GET / HTTP/1.1\nHost: x\n\n", "ERROR 400\n"},
    {"bare return in a value", "GET / HTTP/1.1\r\nHost: x\ry\r\n\r\n", "ERROR 400\n"},
    {"control character", "GET / HTTP/1.1\r\nHost: x\x01\r\n\r\n", "ERROR 400\n"},
    {"two spaces", "GET  / HTTP/1.1\r\nHost: x\r\n\r\n", "ERROR 400\n"},
    {"space behind", "GET / HTTP/1.1 \r\nHost: x\r\n\r\n", "ERROR 400\n"},
    {"no target", "GET HTTP/1.1\r\nHost: x\r\n\r\n", "ERROR 400\n"},
    {"odd method", "G(T / HTTP/1.1\r\nHost: x\r\n\r\n", "ERROR 400\n"},
    {"no version", "GET /\r\nHost: x\r\n\r\n", "ERROR 400\n"},
    {"version two", "PRI * HTTP/2.0\r\n\r\n", "ERROR 505\n"},
    {"nothing but empty lines", "\r\n\r\n\r\n\r\n", "ERROR 400\n"},
    {"chunk size missing", "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n\r\n",
     "POST / ? chunked keep\nHost=x\nTransfer-Encoding=chunked\nERROR 400\n"},
    {"chunk size signed", "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n",
     "POST / ? chunked keep\nHost=x\nTransfer-Encoding=chunked\nERROR 400\n"},
    {"chunk size with 0x",
     "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0x5\r\n",
     "POST / ? chunked keep\nHost=x\nTransfer-Encoding=chunked\nERROR 400\n"},
    {"chunk size huge",
     "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000000\r\n",
     "POST / ? chunked keep\nHost=x\nTransfer-Encoding=chunked\nERROR 400\n"},
    {"chunk size and bare newline",
     "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\na\r\n0\r\n\r\n",
     "POST / ? chunked keep\nHost=x\nTransfer-Encoding=chunked\nERROR 400\n"},
    {"chunk longer than its size",
     "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n",
     "POST / ? chunked keep\nHost=x\nTransfer-Encoding=chunked\n[a]ERROR 400\n"},
    {"bad trailer",
     "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nno colon\r\n\r\n",
     "POST / ? chunked keep\nHost=x\nTransfer-Encoding=chunked\nERROR 400\n"},
};

static const struct conversation responses[] = {
    {"length", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
     "200 OK length keep\nContent-Length=2\n[hi]END\n"},
    {"no reason", "HTTP/1.1 404\r\nContent-Length: 0\r\n\r\n",
     "404  none keep\nContent-Length=0\nEND\n"},
    {"until close", "HTTP/1.0 200 Fine thanks\r\n\r\nall of it",
     "200 Fine thanks close close\n[all of it]END\n"},
    {"bare newlines", "HTTP/1.1 200 OK\nContent-Length: 1\n\nx",
     "200 OK length keep\nContent-Length=1\n[x]END\n"},
    {"no content", "HTTP/1.1 204 No Content\r\n\r\n", "204 No Content none keep\nEND\n"},
    {"continue, then the response",
     "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na",
     "100 Continue none keep\nEND\n200 OK length keep\nContent-Length=1\n[a]END\n"},
    {"not modified with a length", "HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n",
     "304 Not Modified none keep\nContent-Length=7\nEND\n"},
    {"chunked", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
     "200 OK chunked keep\nTransfer-Encoding=chunked\n[abc]END\n"},
    {"two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
     "ERROR 502\n"},
    {"no number", "HTTP/1.1 OK\r\n\r\n", "ERROR 502\n"},
    {"truncated", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab",
     "200 OK length keep\nContent-Length=3\n[ab]ERROR 502\n"},
    {"another protocol", "SSH-2.0-OpenSSH\r\n\r\n", "ERROR 502\n"},
};

struct trace {
    struct buf text;
    bool in_body;
};

static void trace_text(struct trace *t, const char *text)
{
    if (t->in_body)
        assert_true(buf_append_byte(&t->text, ']'));
    t->in_body = false;
    assert_true(buf_append_str(&t->text, text));
}

static void trace_head(struct trace *t, const struct http_parser *p)
{
    static const char *const framings[] = {"none", "length", "chunked", "close"};
    const struct http_head *h = &p->head;
    char line[256];

    if (p->is_response)
        snprintf(line, sizeof(line), "%d %s", h->status, h->reason);
    else
        snprintf(line, sizeof(line), "%s %.*s ?%s", h->method, (int)h->path_len, h->path, h->query);
    trace_text(t, line);
    buf_printf(&t->text, " %s %s%s%s\n", framings[h->framing], h->keep_alive ? "keep" : "close",
               h->upgrade ? " upgrade" : "", h->expect_continue ? " continue" : "");
    for (size_t i = 0; i < h->n_headers; i++)
        buf_printf(&t->text, "%s=%s\n", h->headers[i].name, h->headers[i].value);
}

static void trace_error(struct trace *t, const struct http_parser *p)
{
    char line[32];

    assert_non_null(p->error);
    snprintf(line, sizeof(line), "ERROR %d\n", p->error_status);
    trace_text(t, line);
}

/* False: the parser has failed. */
static bool feed(struct trace *t, struct http_parser *p, const char *in, size_t len)
{
    size_t used = 0, n;
    struct http_slice body;

    for (;;) {
        enum http_event event =
            http_parser_next(p, (const uint8_t *)in + used, len - used, &n, &body);

        used += n;
        switch (event) {
        case HTTP_NEED_MORE:
            assert_int_equal(used, len);
            return true;
        case HTTP_HEAD:
            trace_head(t, p);
            break;
        case HTTP_BODY:
            if (!t->in_body)
                trace_text(t, "[");
            t->in_body = true;
            buf_append(&t->text, body.data, body.len);
            break;
        case HTTP_END:
            trace_text(t, "END\n");
            http_parser_reset(p);
            if (used == len)
                return true;
            break;
        case HTTP_ERROR:
            trace_error(t, p);
            return false;
        }
    }
}

static void check(const struct conversation *c, bool is_response, size_t split, size_t step)
{
    AUTO(buf_deinit) struct buf unused = BUF_INIT(1);
    struct trace t = {.text = BUF_INIT(1 << 16)};
    AUTO(http_parser_deinit) struct http_parser p;
    size_t len = strlen(c->in);
    bool ok = true;

    http_parser_init(&p, is_response);
    if (split > 0)
        ok = feed(&t, &p, c->in, split);
    for (size_t at = split; ok && at < len; at += step)
        ok = feed(&t, &p, c->in + at, step < len - at ? step : len - at);
    if (ok && !http_parser_is_idle(&p)) {
        if (http_parser_eof(&p) == HTTP_END)
            trace_text(&t, "END\n");
        else
            trace_error(&t, &p);
    }
    if (strcmp(buf_str(&t.text), c->out) != 0)
        fail_msg("%s, split at %zu:\n%s\nis not\n%s", c->name, split, buf_str(&t.text), c->out);
    buf_deinit(&t.text);
}

static void check_all(const struct conversation *c, size_t n, bool is_response)
{
    for (size_t i = 0; i < n; i++) {
        size_t len = strlen(c[i].in);

        for (size_t split = 0; split < len; split++)
            check(&c[i], is_response, split, len);
        check(&c[i], is_response, 0, 1);
    }
}

static void test_requests(void **state)
{
    check_all(requests, sizeof(requests) / sizeof(requests[0]), false);
}

static void test_responses(void **state)
{
    check_all(responses, sizeof(responses) / sizeof(responses[0]), true);
}

/* Feeds "HEAD" times a piece until the parser refuses; it must, with this status. */
static void check_limit(const char *head, const char *piece, int status)
{
    AUTO(http_parser_deinit) struct http_parser p;
    struct http_slice body;
    enum http_event event;
    size_t n, fed = 0;

    http_parser_init(&p, false);
    event = http_parser_next(&p, (const uint8_t *)head, strlen(head), &n, &body);
    while (event != HTTP_ERROR) {
        event = http_parser_next(&p, (const uint8_t *)piece, strlen(piece), &n, &body);
        fed += strlen(piece);
        assert_true(fed < 4 * HTTP_HEAD_MAX);
    }
    assert_int_equal(p.error_status, status);
}

static void test_limits(void **state)
{
    static const char chunked[] =
        "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    char line[64];

    check_limit("GET /", "aaaaaaaa", 431);
    check_limit("GET / HTTP/1.1\r\n", "name: value\r\n", 431);
    snprintf(line, sizeof(line), "%s1", chunked + sizeof(chunked) - 5);
    check_limit(chunked, "0", 400);
    check_limit("GET / HTTP/1.1\r\nHost: x\r\n", "a: b\r\n", 431);
}

static void test_too_many_headers(void **state)
{
    AUTO(buf_deinit) struct buf in = BUF_INIT(1 << 16);
    AUTO(http_parser_deinit) struct http_parser p;
    struct http_slice body;
    size_t n;

    http_parser_init(&p, false);
    buf_append_str(&in, "GET / HTTP/1.1\r\nHost: x\r\n");
    for (int i = 1; i < HTTP_HEADERS_MAX; i++)
        buf_append_str(&in, "a: b\r\n");
    buf_append_str(&in, "\r\n");
    assert_int_equal(http_parser_next(&p, buf_data(&in), buf_len(&in), &n, &body), HTTP_HEAD);
    assert_int_equal(p.head.n_headers, HTTP_HEADERS_MAX);

    http_parser_reset(&p);
    buf_clear(&in);
    buf_append_str(&in, "GET / HTTP/1.1\r\nHost: x\r\n");
    for (int i = 0; i < HTTP_HEADERS_MAX; i++)
        buf_append_str(&in, "a: b\r\n");
    buf_append_str(&in, "\r\n");
    assert_int_equal(http_parser_next(&p, buf_data(&in), buf_len(&in), &n, &body), HTTP_ERROR);
    assert_int_equal(p.error_status, 431);
}

static void test_nul_in_the_head_is_refused(void **state)
{
    static const char in[] = "GET / HTTP/1.1\r\nHost: x\0y\r\n\r\n";
    AUTO(http_parser_deinit) struct http_parser p;
    struct http_slice body;
    size_t n;

    http_parser_init(&p, false);
    assert_int_equal(http_parser_next(&p, (const uint8_t *)in, sizeof(in) - 1, &n, &body),
                     HTTP_ERROR);
    assert_int_equal(p.error_status, 400);
}

static void test_answer_to_head_has_no_body(void **state)
{
    static const char in[] = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n";
    AUTO(http_parser_deinit) struct http_parser p;
    struct http_slice body;
    size_t n;

    http_parser_init(&p, true);
    p.bodyless = true;
    assert_int_equal(http_parser_next(&p, (const uint8_t *)in, sizeof(in) - 1, &n, &body),
                     HTTP_HEAD);
    assert_int_equal(http_parser_next(&p, NULL, 0, &n, &body), HTTP_END);
}

static void test_tokens_are_found_in_lists(void **state)
{
    struct http_header headers[] = {{"A", "x, Foo ,bar"}, {"a", "baz"}};
    struct http_head h = {.headers = headers, .n_headers = 2};

    assert_true(http_header_has(&h, "a", "foo"));
    assert_true(http_header_has(&h, "A", "bar"));
    assert_true(http_header_has(&h, "a", "baz"));
    assert_false(http_header_has(&h, "a", "fo"));
    assert_false(http_header_has(&h, "b", "foo"));
    assert_string_equal(http_header(&h, "a"), "x, Foo ,bar");
    assert_null(http_header(&h, "c"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_requests),
        cmocka_unit_test(test_responses),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_too_many_headers),
        cmocka_unit_test(test_nul_in_the_head_is_refused),
        cmocka_unit_test(test_answer_to_head_has_no_body),
        cmocka_unit_test(test_tokens_are_found_in_lists),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
