/*
 * The proxy between a client and a scripted server in a sandbox, all in this process: sockets where
 * the sandbox's would be, the loop turned by hand. Nothing here depends on time but the retries.
 */
#include "runtime/local/edge/proxy.h"

#include "common/base/cleanup.h"
#include "common/base/mem.h"
#include "common/http/bench.h"
#include "common/http/net.h"
#include "runtime/local/edge/stream.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#define ID "iabcdefghij0123456789"

struct fixture {
    struct daemon daemon;
    struct sandbox *sandbox;
    char dir[64];
    int agent_listener; /* of agent.sock */
    int dial_listener;  /* of dial.sock */
    uint16_t port;      /* where requests go */
};

static struct fixture f;

/* The zygote of this test: it only knows where the sockets are. */
bool zygote_agent_path(const struct zygote *z, const char *id, char *to, size_t size)
{
    return snprintf(to, size, "%s/agent.sock", f.dir) < (int)size;
}

bool zygote_dial_path(const struct zygote *z, const char *id, char *to, size_t size)
{
    return snprintf(to, size, "%s/dial.sock", f.dir) < (int)size;
}

static void on_request(struct http_exchange *x, void *ctx)
{
    struct route route = {.sandbox_id = ID, .port = f.port};

    proxy_request(&f.daemon, x, &route);
}

static int setup(void **state)
{
    char path[96];

    f = (struct fixture){.dir = "/tmp/proxy-test-XXXXXX", .port = ROUTE_ENVD_PORT};
    if (mkdtemp(f.dir) == NULL || !loop_init(&f.daemon.loop, NULL))
        return -1;
    zygote_agent_path(NULL, ID, path, sizeof(path));
    if (!net_listen_unix(path, SOCK_STREAM, &f.agent_listener, NULL))
        return -1;
    zygote_dial_path(NULL, ID, path, sizeof(path));
    if (!net_listen_unix(path, SOCK_SEQPACKET, &f.dial_listener, NULL))
        return -1;
    registry_init(&f.daemon.registry);
    f.daemon.scratch = xmalloc(STREAM_CHUNK);
    f.sandbox = registry_make(ID);
    registry_add(&f.daemon.registry, f.sandbox, 1, 1, 1);
    f.daemon.server = http_server_new(
        &f.daemon.loop, &(struct http_server_config){.request = on_request, .ctx = &f.daemon});
    return 0;
}

static int teardown(void **state)
{
    char path[96];

    if (f.sandbox != NULL)
        proxy_cut(f.sandbox);
    http_server_free(f.daemon.server);
    registry_deinit(&f.daemon.registry);
    loop_deinit(&f.daemon.loop);
    free(f.daemon.scratch);
    close(f.agent_listener);
    close(f.dial_listener);
    zygote_agent_path(NULL, ID, path, sizeof(path));
    unlink(path);
    zygote_dial_path(NULL, ID, path, sizeof(path));
    unlink(path);
    return rmdir(f.dir);
}

static void turn(void)
{
    bench_turn(&f.daemon.loop);
}

static int dial_client(void)
{
    return bench_dial(f.daemon.server);
}

/* The proxy's connection to the server, or -1. */
static int accept_server(void)
{
    turn();
    return accept4(f.agent_listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
}

static void say(int fd, const char *text, size_t step)
{
    bench_say(&f.daemon.loop, fd, text, step);
}

static char *hear(int fd, bool *ret_eof)
{
    return bench_hear(&f.daemon.loop, fd, ret_eof);
}

static void expect(int fd, const char *want)
{
    AUTO_FREE char *got = hear(fd, NULL);

    if (strcmp(got, want) != 0)
        fail_msg("got\n%s\ninstead of\n%s", got, want);
}

struct exchange {
    const char *request;   /* of the client */
    const char *forwarded; /* what the server gets */
    const char *response;  /* of the server */
    bool server_closes;    /* behind it */
    const char *returned;  /* what the client gets */
    bool client_closed;    /* and then the end */
};

static const struct exchange exchanges[] = {
    {"GET /a?b=%20c HTTP/1.1\r\nHost: h:1\r\nX-Y: z\r\nConnection: X-Y, keep-alive\r\nA: b\r\n\r\n",
     "GET /a?b=%20c HTTP/1.1\r\nHost: h:1\r\nA: b\r\n\r\n",
     "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: y\r\nConnection: X\r\nB: c\r\n\r\nhi", false,
     "HTTP/1.1 200 OK\r\nB: c\r\nContent-Length: 2\r\n\r\nhi", false},
    {"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc",
     "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc",
     "HTTP/1.1 204 No Content\r\n\r\n", false, "HTTP/1.1 204 No Content\r\n\r\n", false},
    {"HEAD / HTTP/1.1\r\nHost: h\r\n\r\n", "HEAD / HTTP/1.1\r\nHost: h\r\n\r\n",
     "HTTP/1.1 200 OK\r\nContent-Length: 700\r\n\r\n", false,
     "HTTP/1.1 200 OK\r\nContent-Length: 700\r\n\r\n", false},
    {"GET / HTTP/1.1\r\nHost: h\r\n\r\n", "GET / HTTP/1.1\r\nHost: h\r\n\r\n",
     "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 404 Nope\r\nContent-Length: 0\r\n\r\n",
     false, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", false},
    /* A body that ends with the connection is complete when that is closed, and gets chunks. */
    {"GET / HTTP/1.1\r\nHost: h\r\n\r\n", "GET / HTTP/1.1\r\nHost: h\r\n\r\n",
     "HTTP/1.0 200 OK\r\n\r\n", true,
     "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", false},
    {"GET / HTTP/1.0\r\n\r\n", "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
     "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n", false,
     "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\na", true},
    /* Cut short: the client must be able to tell. */
    {"GET / HTTP/1.1\r\nHost: h\r\n\r\n", "GET / HTTP/1.1\r\nHost: h\r\n\r\n",
     "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", true,
     "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", true},
    {"GET / HTTP/1.1\r\nHost: h\r\n\r\n", "GET / HTTP/1.1\r\nHost: h\r\n\r\n",
     "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", true,
     "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", true},
    {"GET / HTTP/1.1\r\nHost: h\r\n\r\n", "GET / HTTP/1.1\r\nHost: h\r\n\r\n", "", true,
     "HTTP/1.1 502 Bad Gateway\r\nContent-Type: application/json; charset=utf-8\r\nContent-Length: "
     "117\r\n\r\n{\"sandboxId\":\"" ID "\",\"message\":\"The sandbox is running but port is not "
     "open\",\"port\":49983,\"code\":502}",
     false},
    {"GET / HTTP/1.1\r\nHost: h\r\n\r\n", "GET / HTTP/1.1\r\nHost: h\r\n\r\n", "gibberish\r\n\r\n",
     false,
     "HTTP/1.1 502 Bad Gateway\r\nContent-Type: application/json; charset=utf-8\r\nContent-Length: "
     "117\r\n\r\n{\"sandboxId\":\"" ID "\",\"message\":\"The sandbox is running but port is not "
     "open\",\"port\":49983,\"code\":502}",
     false},
};

static void check_exchange(const struct exchange *e, size_t step)
{
    int client = dial_client(), server;
    bool closed;

    say(client, e->request, step);
    server = accept_server();
    assert_true(server >= 0);
    expect(server, e->forwarded);
    say(server, e->response, step);
    if (e->server_closes)
        close(server);
    AUTO_FREE char *got = hear(client, &closed);

    if (strcmp(got, e->returned) != 0)
        fail_msg("%s\nanswered with\n%s\ninstead of\n%s", e->request, got, e->returned);
    assert_int_equal(closed, e->client_closed);
    close(client);
    if (!e->server_closes)
        close(server);
    turn();
    assert_true(list_is_empty(&f.sandbox->streams));
    assert_true(list_is_empty(&f.sandbox->idle));
}

static void test_exchanges(void **state)
{
    for (size_t i = 0; i < sizeof(exchanges) / sizeof(exchanges[0]); i++) {
        check_exchange(&exchanges[i], 1 << 20);
        check_exchange(&exchanges[i], 1);
    }
}

static void test_both_directions_run_at_once(void **state)
{
    int client = dial_client(), server;

    say(client, "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n", 1000);
    server = accept_server();
    expect(server, "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n");
    say(server, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", 1000);
    expect(client, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    for (int i = 0; i < 3; i++) {
        say(client, "3\r\nabc\r\n", 1000);
        expect(server, "3\r\nabc\r\n");
        say(server, "2\r\nhi\r\n", 1000);
        expect(client, "2\r\nhi\r\n");
    }
    say(client, "0\r\n\r\n", 1000);
    expect(server, "0\r\n\r\n");
    say(server, "0\r\n\r\n", 1000);
    expect(client, "0\r\n\r\n");
    close(client);
    close(server);
}

static void test_connections_to_the_agent_are_used_again(void **state)
{
    int client = dial_client(), server;

    say(client, "GET /1 HTTP/1.1\r\nHost: h\r\n\r\n", 1000);
    server = accept_server();
    expect(server, "GET /1 HTTP/1.1\r\nHost: h\r\n\r\n");
    say(server, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1", 1000);
    expect(client, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1");
    say(client, "GET /2 HTTP/1.1\r\nHost: h\r\n\r\n", 1000);
    expect(server, "GET /2 HTTP/1.1\r\nHost: h\r\n\r\n");
    say(server, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\n\r\n2", 1000);
    expect(client, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n2");
    assert_true(list_is_empty(&f.sandbox->idle));
    close(client);
    close(server);
}

static void test_closing_connection_is_replaced(void **state)
{
    int client = dial_client(), server, fresh;

    say(client, "GET /1 HTTP/1.1\r\nHost: h\r\n\r\n", 1000);
    server = accept_server();
    expect(server, "GET /1 HTTP/1.1\r\nHost: h\r\n\r\n");
    say(server, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1", 1000);
    expect(client, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1");
    /* The request is on its way already when the server closes. */
    assert_true(send(client, "GET /2 HTTP/1.1\r\nHost: h\r\n\r\n", 29, 0) > 0);
    loop_run_once(&f.daemon.loop, 0);
    close(server);
    fresh = accept_server();
    assert_true(fresh >= 0);
    expect(fresh, "GET /2 HTTP/1.1\r\nHost: h\r\n\r\n");
    close(client);
    close(fresh);
}

static void test_leaving_client_frees_the_server(void **state)
{
    int client = dial_client(), server;
    bool closed;

    say(client, "GET / HTTP/1.1\r\nHost: h\r\n\r\n", 1000);
    server = accept_server();
    close(client);
    AUTO_FREE char *got = hear(server, &closed);
    assert_true(closed);
    close(server);
}

static void test_end_of_the_sandbox_cuts_streams(void **state)
{
    int streaming = dial_client(), waiting = dial_client(), server, other;
    bool closed;

    say(streaming, "GET /1 HTTP/1.1\r\nHost: h\r\n\r\n", 1000);
    server = accept_server();
    say(server, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n", 1000);
    say(waiting, "GET /2 HTTP/1.1\r\nHost: h\r\n\r\n", 1000);
    other = accept_server();
    proxy_cut(f.sandbox);
    registry_remove(&f.daemon.registry, f.sandbox);
    f.sandbox = NULL;
    AUTO_FREE char *cut = hear(streaming, &closed);
    assert_string_equal(cut, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n");
    assert_true(closed);
    AUTO_FREE char *told = hear(waiting, &closed);
    assert_non_null(strstr(told, "502 Bad Gateway"));
    assert_non_null(strstr(told, "The sandbox was not found"));
    assert_false(closed);
    close(streaming);
    close(waiting);
    close(server);
    close(other);
}

static void test_unknown_sandbox_and_closed_routes(void **state)
{
    int client = dial_client();

    say(client, "POST /init HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}", 1000);
    AUTO_FREE char *forbidden = hear(client, NULL);
    assert_non_null(strstr(forbidden, "404 Not Found"));
    assert_non_null(strstr(forbidden, "\"path\":\"/init\""));
    registry_remove(&f.daemon.registry, f.sandbox);
    f.sandbox = NULL;
    say(client, "GET / HTTP/1.1\r\nHost: h\r\n\r\n", 1000);
    AUTO_FREE char *unknown = hear(client, NULL);
    assert_non_null(strstr(unknown, "The sandbox was not found"));
    say(client, "GET / HTTP/1.1\r\nHost: h\r\nUser-Agent: Mozilla/5.0\r\nAccept: text/html\r\n\r\n",
        1000);
    AUTO_FREE char *page = hear(client, NULL);
    assert_non_null(strstr(page, "502 Bad Gateway"));
    assert_non_null(strstr(page, "<h1>The sandbox was not found</h1>"));
    close(client);
}

static void test_upgrade_becomes_a_tunnel(void **state)
{
    int client = dial_client(), server;
    bool closed;

    say(client,
        "GET /ws HTTP/1.1\r\nHost: h\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Key: k\r\n\r\nearly",
        1000);
    server = accept_server();
    expect(server, "GET /ws HTTP/1.1\r\nHost: h\r\nSec-WebSocket-Key: k\r\nConnection: Upgrade\r\n"
                   "Upgrade: websocket\r\n\r\n");
    say(server,
        "HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Accept: a\r\n\r\nhello",
        1000);
    expect(client, "HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: a\r\n"
                   "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello");
    expect(server, "early");
    say(client, "ping", 1);
    expect(server, "ping");
    say(server, "pong", 1);
    expect(client, "pong");
    /* One direction may end before the other. */
    shutdown(client, SHUT_WR);
    AUTO_FREE char *none = hear(server, &closed);
    assert_true(closed);
    say(server, "last words", 1000);
    close(server);
    AUTO_FREE char *last = hear(client, &closed);
    assert_string_equal(last, "last words");
    assert_true(closed);
    assert_true(list_is_empty(&f.sandbox->streams));
    close(client);
}

static void test_refused_upgrade_is_an_ordinary_response(void **state)
{
    int client = dial_client(), server;

    say(client, "GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n", 1000);
    server = accept_server();
    say(server, "HTTP/1.1 426 Upgrade Required\r\nContent-Length: 2\r\n\r\nno", 1000);
    expect(client, "HTTP/1.1 426 Upgrade Required\r\nContent-Length: 2\r\n\r\nno");
    close(client);
    close(server);
}

/* Writes to one end until nothing more fits, and returns how much did. */
static size_t stuff(int fd, size_t at_most)
{
    static const char block[64 << 10];
    size_t total = 0;
    int idle = 0;

    while (total < at_most && idle < 3) {
        size_t len = sizeof(block) < at_most - total ? sizeof(block) : at_most - total;
        ssize_t n = send(fd, block, len, MSG_NOSIGNAL);

        idle = n > 0 ? 0 : idle + 1;
        total += n > 0 ? (size_t)n : 0;
        turn();
    }
    return total;
}

/* Reads one end and goes on writing to the other, until all came through. */
static void drain(int from, int to, size_t sent, size_t total, size_t head)
{
    AUTO_FREE char *piece = xmalloc(1 << 20);
    size_t got = 0;

    while (got < total + head) {
        ssize_t n = recv(to, piece, 1 << 20, 0);

        assert_true(n > 0 || errno == EAGAIN);
        got += n > 0 ? (size_t)n : 0;
        if (sent < total)
            sent += stuff(from, total - sent < 1 << 20 ? total - sent : 1 << 20);
        turn();
    }
    assert_int_equal(got, total + head);
}

enum { BULK = 64 << 20, AHEAD_MAX = 3 << 20 };

static void test_slow_client_stops_the_server(void **state)
{
    static const char returned[] = "HTTP/1.1 200 OK\r\nContent-Length: 67108864\r\n\r\n";
    int client = dial_client(), server;
    size_t sent;

    say(client, "GET / HTTP/1.1\r\nHost: h\r\n\r\n", 1000);
    server = accept_server();
    say(server, returned, 1000);
    sent = stuff(server, BULK);
    assert_true(sent < AHEAD_MAX);
    drain(server, client, sent, BULK, sizeof(returned) - 1);
    close(client);
    close(server);
}

static void test_slow_server_stops_the_client(void **state)
{
    static const char request[] = "PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 67108864\r\n\r\n";
    int client = dial_client(), server;
    size_t sent;

    say(client, request, 1000);
    server = accept_server();
    sent = stuff(client, BULK);
    assert_true(sent < AHEAD_MAX);
    drain(client, server, sent, BULK, sizeof(request) - 1);
    close(client);
    close(server);
}

static void test_slow_side_of_a_tunnel_stops_the_other(void **state)
{
    int client = dial_client(), server;
    size_t sent;

    say(client, "GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n", 1000);
    server = accept_server();
    AUTO_FREE char *request = hear(server, NULL);
    say(server, "HTTP/1.1 101 S\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n", 1000);
    AUTO_FREE char *response = hear(client, NULL);
    sent = stuff(server, BULK);
    assert_true(sent < AHEAD_MAX);
    drain(server, client, sent, BULK, 0);
    sent = stuff(client, BULK);
    assert_true(sent < AHEAD_MAX);
    drain(client, server, sent, BULK, 0);
    close(client);
    close(server);
}

/* Answers one request for a port, as the agent does. Returns the port. */
static uint16_t answer_dial(int fd, uint8_t result, int send_fd)
{
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(int))];
    } control = {.space = {0}};
    struct iovec v = {&result, 1};
    struct msghdr msg = {.msg_iov = &v, .msg_iovlen = 1};
    uint16_t port = 0;

    assert_int_equal(recv(fd, &port, sizeof(port), 0), sizeof(port));
    if (send_fd >= 0) {
        msg.msg_control = &control;
        msg.msg_controllen = sizeof(control);
        control.header.cmsg_level = SOL_SOCKET;
        control.header.cmsg_type = SCM_RIGHTS;
        control.header.cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(&control.header), &send_fd, sizeof(int));
    }
    assert_int_equal(sendmsg(fd, &msg, 0), 1);
    close(fd);
    turn();
    return ntohs(port);
}

static int accept_dial(void)
{
    int fd;

    /* A retry takes a moment: the loop sleeps until then. */
    while ((fd = accept4(f.dial_listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) < 0)
        loop_run_once(&f.daemon.loop, 1000);
    return fd;
}

/* Two ends of a TCP connection. */
static void tcp_pair(int fds[2])
{
    AUTO_CLOSE int listener = -1;
    struct sockaddr_in a;
    socklen_t len = sizeof(a);

    assert_true(net_listen_tcp("127.0.0.1:0", &listener, NULL));
    assert_int_equal(getsockname(listener, (struct sockaddr *)&a, &len), 0);
    fds[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fds[0], (struct sockaddr *)&a, len), 0);
    while ((fds[1] = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) < 0)
        turn();
}

static void test_other_ports_are_dialled(void **state)
{
    int client = dial_client(), fds[2];
    AUTO_FREE char *request = NULL, *response = NULL;

    f.port = 8000;
    tcp_pair(fds);
    say(client, "GET / HTTP/1.1\r\nHost: h\r\n\r\n", 1000);
    assert_int_equal(answer_dial(accept_dial(), ECONNREFUSED, -1), 8000);
    assert_int_equal(answer_dial(accept_dial(), 0, fds[0]), 8000);
    close(fds[0]);
    while (*(request = hear(fds[1], NULL)) == '\0')
        free(request);
    assert_string_equal(request, "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    say(fds[1], "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", 1000);
    while (*(response = hear(client, NULL)) == '\0')
        free(response);
    assert_string_equal(response, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi");
    assert_true(list_is_empty(&f.sandbox->idle));
    close(client);
    close(fds[1]);
}

static void test_closed_port_is_tried_five_times(void **state)
{
    int client = dial_client();

    f.port = 8000;
    say(client, "GET / HTTP/1.1\r\nHost: h\r\n\r\n", 1000);
    for (int i = 0; i < 5; i++)
        assert_int_equal(answer_dial(accept_dial(), ECONNREFUSED, -1), 8000);
    AUTO_FREE char *told = hear(client, NULL);
    assert_non_null(strstr(told, "502 Bad Gateway"));
    assert_non_null(strstr(told, "\"port\":8000"));
    close(client);
}

static void test_wrong_descriptors_are_refused(void **state)
{
    int pair[2];

    f.port = 8000;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    for (int i = 0; i < 2; i++) {
        int client = dial_client();

        say(client, "GET / HTTP/1.1\r\nHost: h\r\n\r\n", 1000);
        answer_dial(accept_dial(), 0, i == 0 ? pair[0] : -1);
        AUTO_FREE char *told = hear(client, NULL);
        assert_non_null(strstr(told, "502 Bad Gateway"));
        close(client);
    }
    close(pair[0]);
    close(pair[1]);
}

int main(void)
{
#define TEST(t) cmocka_unit_test_setup_teardown(t, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_exchanges),
        TEST(test_both_directions_run_at_once),
        TEST(test_connections_to_the_agent_are_used_again),
        TEST(test_closing_connection_is_replaced),
        TEST(test_leaving_client_frees_the_server),
        TEST(test_end_of_the_sandbox_cuts_streams),
        TEST(test_unknown_sandbox_and_closed_routes),
        TEST(test_upgrade_becomes_a_tunnel),
        TEST(test_refused_upgrade_is_an_ordinary_response),
        TEST(test_slow_client_stops_the_server),
        TEST(test_slow_server_stops_the_client),
        TEST(test_slow_side_of_a_tunnel_stops_the_other),
        TEST(test_other_ports_are_dialled),
        TEST(test_closed_port_is_tried_five_times),
        TEST(test_wrong_descriptors_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
