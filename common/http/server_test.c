/*
 * The server over socket pairs: what is sent in, in one piece or byte by byte, and what comes out.
 * The test itself turns the loop, so nothing here depends on time.
 */
#include "common/http/server.h"

#include "common/base/cleanup.h"
#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/http/bench.h"
#include "common/http/body.h"
#include "common/http/net.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

enum { STREAM_BYTES = 64 << 20 };

struct fixture {
    struct loop loop;
    struct http_server *server;
    struct http_exchange *held; /* by "/hold", "/stream" and "/late" */
    int gone;
    size_t seen;     /* bytes of request bodies */
    size_t streamed; /* bytes of "/stream" taken by the server */
    struct buf body;
    int hijacked;
    struct buf hijacked_in;
};

static struct fixture f;

static void on_collected(struct http_exchange *x, void *ctx, const uint8_t *data, size_t len)
{
    http_reply(x, 200, "text/plain", data, len);
}

static void on_gone(struct http_exchange *x)
{
    f.gone++;
    f.held = NULL;
}

static void on_body(struct http_exchange *x, const uint8_t *data, size_t len)
{
    f.seen += len;
    http_write(x, data, len);
}

static void on_echo_end(struct http_exchange *x)
{
    http_end(x);
}

static void on_paused_body(struct http_exchange *x, const uint8_t *data, size_t len)
{
    f.seen += len;
    http_pause(x);
}

static void pump(struct http_exchange *x)
{
    static const uint8_t block[64 << 10];

    while (f.streamed < STREAM_BYTES) {
        f.streamed += sizeof(block);
        if (!http_write(x, block, sizeof(block)))
            return;
    }
    http_end(x);
    f.held = NULL;
}

static void on_request(struct http_exchange *x, void *ctx)
{
    static const struct http_exchange_ops hold = {.gone = on_gone, .body = on_paused_body};
    static const struct http_exchange_ops echo = {.body = on_body, .body_end = on_echo_end};
    static const struct http_exchange_ops stream = {.gone = on_gone, .writable = pump};
    const struct http_head *h = http_request(x);

    if (http_path_is(h, "/collect")) {
        http_collect(x, 16, on_collected, NULL);
    } else if (http_path_is(h, "/echo")) {
        http_attach(x, &echo, NULL);
        http_begin(x, 200);
        http_start(x, HTTP_LENGTH_UNKNOWN);
    } else if (http_path_is(h, "/hold")) {
        http_attach(x, &hold, NULL);
        f.held = x;
    } else if (http_path_is(h, "/stream")) {
        http_attach(x, &stream, NULL);
        f.held = x;
        http_begin(x, 200);
        http_start(x, STREAM_BYTES);
        pump(x);
    } else if (http_path_is(h, "/short")) {
        http_begin(x, 200);
        http_start(x, 10);
        http_write(x, "abc", 3);
        http_end(x);
    } else if (http_path_is(h, "/upgrade")) {
        struct buf out;

        f.hijacked = http_hijack(x, &f.hijacked_in, &out);
        buf_deinit(&out);
    } else {
        http_reply(x, 200, "text/plain", h->target, strlen(h->target));
    }
}

static int setup(void **state)
{
    f = (struct fixture){.hijacked = -1};
    if (!loop_init(&f.loop, NULL))
        return -1;
    f.server = http_server_new(&f.loop, &(struct http_server_config){.request = on_request});
    return 0;
}

static int teardown(void **state)
{
    http_server_free(f.server);
    loop_deinit(&f.loop);
    buf_deinit(&f.hijacked_in);
    if (f.hijacked >= 0)
        close(f.hijacked);
    return 0;
}

static int dial(void)
{
    return bench_dial(f.server);
}

static void turn(void)
{
    bench_turn(&f.loop);
}

static void say(int fd, const char *text, size_t step)
{
    bench_say(&f.loop, fd, text, step);
}

static char *hear(int fd, bool *ret_eof)
{
    return bench_hear(&f.loop, fd, ret_eof);
}

struct talk {
    const char *in;
    const char *out;
    bool closes;
};

#define OK(type, len, body)                                                                        \
    "HTTP/1.1 200 OK\r\nContent-Type: " type "\r\nContent-Length: " len "\r\n\r\n" body
#define OK_CLOSE(type, len, body)                                                                  \
    "HTTP/1.1 200 OK\r\nContent-Type: " type "\r\nContent-Length: " len                            \
    "\r\nConnection: close\r\n\r\n" body

static const struct talk talks[] = {
    {"GET /a HTTP/1.1\r\nHost: h\r\n\r\n", OK("text/plain", "2", "/a"), false},
    {"GET /a HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", OK_CLOSE("text/plain", "2", "/a"),
     true},
    {"HEAD /a HTTP/1.1\r\nHost: h\r\n\r\n", OK("text/plain", "2", ""), false},
    {"GET /a HTTP/1.0\r\n\r\n", OK_CLOSE("text/plain", "2", "/a"), true},
    {"GET /1 HTTP/1.1\r\nHost: h\r\n\r\nGET /2 HTTP/1.1\r\nHost: h\r\n\r\nGET /3 HTTP/1.1\r\nHost: "
     "h\r\n\r\n",
     OK("text/plain", "2", "/1") OK("text/plain", "2", "/2") OK("text/plain", "2", "/3"), false},
    {"POST /collect HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc",
     OK("text/plain", "3", "abc"), false},
    {"POST /collect HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: "
     "chunked\r\n\r\n1\r\na\r\n2\r\nbc\r\n0\r\n\r\nGET /n HTTP/1.1\r\nHost: h\r\n\r\n",
     OK("text/plain", "3", "abc") OK("text/plain", "2", "/n"), false},
    {"POST /collect HTTP/1.1\r\nHost: h\r\nContent-Length: 17\r\n\r\n12345678901234567",
     "HTTP/1.1 413 Content Too Large\r\nContent-Type: application/json; "
     "charset=utf-8\r\nContent-Length: 61\r\nConnection: "
     "close\r\n\r\n{\"code\":413,\"message\":\"the body of the request is too large\"}",
     true},
    /* The body of a request nobody reads is thrown away, and the connection goes on. */
    {"POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabcGET /n HTTP/1.1\r\nHost: "
     "h\r\n\r\n",
     OK("text/plain", "2", "/x") OK("text/plain", "2", "/n"), false},
    {"POST /collect HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 0\r\n\r\n",
     OK("text/plain", "0", ""), false},
    {"GET / HTTP/1.1\r\n\r\n",
     "HTTP/1.1 400 Bad Request\r\nContent-Type: application/json; charset=utf-8\r\nContent-Length: "
     "54\r\nConnection: close\r\n\r\n{\"code\":400,\"message\":\"there must be one Host header\"}",
     true},
    {"GET /short HTTP/1.1\r\nHost: h\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc",
     true},
};

static void check_talk(const struct talk *t, size_t step)
{
    int fd = dial();
    bool closed;

    say(fd, t->in, step);
    AUTO_FREE char *heard = hear(fd, &closed);

    if (strcmp(heard, t->out) != 0)
        fail_msg("%s\nanswered with\n%s\ninstead of\n%s", t->in, heard, t->out);
    assert_int_equal(closed, t->closes);
    close(fd);
    turn();
    assert_int_equal(http_server_connections(f.server), 0);
}

static void test_talks(void **state)
{
    for (size_t i = 0; i < sizeof(talks) / sizeof(talks[0]); i++) {
        check_talk(&talks[i], strlen(talks[i].in));
        check_talk(&talks[i], 1);
    }
}

static void test_response_runs_beside_the_request(void **state)
{
    int fd = dial();

    say(fd, "POST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n", 1000);
    AUTO_FREE char *head = hear(fd, NULL);
    assert_string_equal(head, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    say(fd, "3\r\nabc\r\n", 1000);
    AUTO_FREE char *first = hear(fd, NULL);
    assert_string_equal(first, "3\r\nabc\r\n");
    say(fd, "0\r\n\r\n", 1000);
    AUTO_FREE char *last = hear(fd, NULL);
    assert_string_equal(last, "0\r\n\r\n");
    close(fd);
}

static void test_continue_is_sent_when_the_body_is_wanted(void **state)
{
    int fd = dial();

    say(fd,
        "POST /collect HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n",
        1000);
    AUTO_FREE char *go_on = hear(fd, NULL);
    assert_string_equal(go_on, "HTTP/1.1 100 Continue\r\n\r\n");
    say(fd, "hi", 1);
    AUTO_FREE char *reply = hear(fd, NULL);
    assert_string_equal(reply, OK("text/plain", "2", "hi"));
    close(fd);
}

static void test_refused_body_closes_the_connection(void **state)
{
    int fd = dial();
    bool closed;

    say(fd, "POST /no HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n",
        1000);
    AUTO_FREE char *reply = hear(fd, &closed);
    assert_string_equal(reply, OK_CLOSE("text/plain", "3", "/no"));
    assert_true(closed);
    close(fd);
}

static void test_leaving_peer_is_noticed(void **state)
{
    int fd = dial();

    say(fd, "GET /hold HTTP/1.1\r\nHost: h\r\n\r\n", 1000);
    assert_non_null(f.held);
    assert_int_equal(f.gone, 0);
    close(fd);
    turn();
    assert_int_equal(f.gone, 1);
    assert_int_equal(http_server_connections(f.server), 0);
}

static void test_leaving_peer_is_noticed_behind_a_pipelined_request(void **state)
{
    int fd = dial();

    say(fd, "GET /hold HTTP/1.1\r\nHost: h\r\n\r\nGET /b HTTP/1.1\r\nHost: h\r\n\r\n", 1000);
    assert_non_null(f.held);
    close(fd);
    turn();
    assert_int_equal(f.gone, 1);
}

static void test_late_reply_lets_the_pipeline_go_on(void **state)
{
    int fd = dial();

    say(fd, "GET /hold HTTP/1.1\r\nHost: h\r\n\r\nGET /b HTTP/1.1\r\nHost: h\r\n\r\n", 7);
    http_reply(f.held, 204, NULL, NULL, 0);
    AUTO_FREE char *reply = hear(fd, NULL);
    assert_string_equal(reply, "HTTP/1.1 204 No Content\r\n\r\n" OK("text/plain", "2", "/b"));
    close(fd);
}

static void test_paused_body_stops_the_peer(void **state)
{
    static char block[64 << 10];
    size_t total = 32 << 20, sent;
    int fd = dial();

    say(fd, "POST /hold HTTP/1.1\r\nHost: h\r\nContent-Length: 33554432\r\n\r\n", 1000);
    for (sent = 0; sent < total;) {
        ssize_t n = send(fd, block, sizeof(block), MSG_NOSIGNAL);

        turn();
        if (n < 0)
            break;
        sent += (size_t)n;
    }
    assert_true(sent < 2 << 20);
    while (!http_body_is_complete(f.held)) {
        ssize_t n = sent < total ? send(fd, block, sizeof(block), MSG_NOSIGNAL) : 0;

        sent += n > 0 ? (size_t)n : 0;
        http_resume(f.held);
        turn();
    }
    assert_int_equal(f.seen, total);
    http_reply(f.held, 200, NULL, "k", 1);
    AUTO_FREE char *reply = hear(fd, NULL);
    assert_string_equal(reply, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nk");
    close(fd);
}

static void test_slow_reader_stops_the_stream(void **state)
{
    AUTO_FREE char *block = xmalloc(1 << 20);
    int fd = dial();
    size_t got = 0;

    say(fd, "GET /stream HTTP/1.1\r\nHost: h\r\n\r\n", 1000);
    assert_true(f.streamed < 2 << 20);
    assert_true(http_pending(f.held) < 512 << 10);

    /* Meanwhile the loop sleeps. */
    int64_t begin = clock_monotonic_ns();

    loop_run_once(&f.loop, 50);
    assert_true(clock_monotonic_ns() - begin >= 50 * NS_PER_MS);
    while (got < STREAM_BYTES) {
        ssize_t n = recv(fd, block, 1 << 20, 0);

        got += n > 0 ? (size_t)n : 0;
        turn();
    }
    assert_int_equal(f.streamed, STREAM_BYTES);
    assert_null(f.held);
    close(fd);
}

static void test_hijack_gives_everything_away(void **state)
{
    int fd = dial();
    char c = 0;

    say(fd, "GET /upgrade HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nearly",
        1000);
    assert_true(f.hijacked >= 0);
    assert_string_equal(buf_str(&f.hijacked_in), "early");
    assert_int_equal(write(f.hijacked, "!", 1), 1);
    assert_int_equal(read(fd, &c, 1), 1);
    assert_int_equal(c, '!');
    assert_int_equal(http_server_connections(f.server), 0);
    close(fd);
}

/* Turns the loop, which sleeps until its timers are due, until the peer has closed. */
static void wait_closed(int fd)
{
    bool closed = false;

    while (!closed) {
        loop_run_once(&f.loop, 1000);
        AUTO_FREE char *heard = hear(fd, &closed);

        assert_string_equal(heard, "");
    }
}

static void restart(const struct http_server_config *config)
{
    http_server_free(f.server);
    f.server = http_server_new(&f.loop, config);
}

static void test_silent_connections_are_closed(void **state)
{
    int fd;

    restart(&(struct http_server_config){.request = on_request, .idle_ms = 20});
    fd = dial();
    wait_closed(fd);
    close(fd);
    fd = dial();
    say(fd, "GET /a HTTP/1.1\r\nHost: h\r\n\r\n", 1000);
    AUTO_FREE char *reply = hear(fd, NULL);
    assert_string_equal(reply, OK("text/plain", "2", "/a"));
    wait_closed(fd);
    close(fd);
}

static void test_heads_that_trickle_are_cut_off(void **state)
{
    int fd;

    restart(&(struct http_server_config){.request = on_request, .head_ms = 20});
    fd = dial();
    say(fd, "GET /a HTTP/1.1\r\nHost: h\r\nX: ", 1000);
    for (bool closed = false; !closed;) {
        loop_run_once(&f.loop, 1);
        closed = send(fd, "a", 1, MSG_NOSIGNAL) < 0;
    }
    close(fd);
}

static void test_exchanges_may_take_their_time(void **state)
{
    int fd;

    fd = dial();
    say(fd, "GET /hold HTTP/1.1\r\nHost: h\r\n\r\n", 1000);
    assert_non_null(f.held);
    assert_int_equal(f.loop.timers.n, 0);
    http_reply(f.held, 204, NULL, NULL, 0);
    AUTO_FREE char *reply = hear(fd, NULL);
    assert_string_equal(reply, "HTTP/1.1 204 No Content\r\n\r\n");
    close(fd);
}

static void test_connections_over_the_limit_wait(void **state)
{
    struct sockaddr_in a;
    socklen_t len = sizeof(a);
    int listener, fds[2];
    AUTO_FREE char *reply = NULL;

    restart(&(struct http_server_config){.request = on_request, .max_connections = 1});
    assert_true(net_listen_tcp("127.0.0.1:0", &listener, NULL));
    assert_int_equal(getsockname(listener, (struct sockaddr *)&a, &len), 0);
    assert_true(http_server_listen(f.server, listener, NULL));
    for (int i = 0; i < 2; i++) {
        fds[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(connect(fds[i], (struct sockaddr *)&a, len), 0);
        fcntl(fds[i], F_SETFL, O_NONBLOCK);
        say(fds[i], "GET /a HTTP/1.1\r\nHost: h\r\n\r\n", 1000);
    }
    assert_int_equal(http_server_connections(f.server), 1);
    close(fds[0]);
    while (*(reply = hear(fds[1], NULL)) == '\0') {
        free(reply);
        loop_run_once(&f.loop, 1000);
    }
    assert_string_equal(reply, OK("text/plain", "2", "/a"));
    close(fds[1]);
}

static void test_free_tells_every_exchange(void **state)
{
    int fd = dial(), idle = dial();

    say(fd, "GET /hold HTTP/1.1\r\nHost: h\r\n\r\n", 1000);
    http_server_free(f.server);
    f.server = NULL;
    assert_int_equal(f.gone, 1);
    close(fd);
    close(idle);
}

int main(void)
{
#define TEST(t) cmocka_unit_test_setup_teardown(t, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_talks),
        TEST(test_response_runs_beside_the_request),
        TEST(test_continue_is_sent_when_the_body_is_wanted),
        TEST(test_refused_body_closes_the_connection),
        TEST(test_leaving_peer_is_noticed),
        TEST(test_leaving_peer_is_noticed_behind_a_pipelined_request),
        TEST(test_late_reply_lets_the_pipeline_go_on),
        TEST(test_paused_body_stops_the_peer),
        TEST(test_slow_reader_stops_the_stream),
        TEST(test_hijack_gives_everything_away),
        TEST(test_silent_connections_are_closed),
        TEST(test_heads_that_trickle_are_cut_off),
        TEST(test_exchanges_may_take_their_time),
        TEST(test_connections_over_the_limit_wait),
        TEST(test_free_tells_every_exchange),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
