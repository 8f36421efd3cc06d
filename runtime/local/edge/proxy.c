/*
 * See proxy.h. A relay is one exchange and one connection to its sandbox. It is freed where its
 * last event is handled, so every function that may do that returns whether the relay still lives.
 *
 * Heads are written anew, field by field, without what concerns one hop only; bodies pass as they
 * come: from one read straight into one write, and into memory only when the other side is full.
 */
#include "runtime/local/edge/proxy.h"

#include "common/base/cleanup.h"
#include "common/base/mem.h"
#include "common/http/net.h"
#include "runtime/local/edge/dial.h"
#include "runtime/local/edge/edge.h"
#include "runtime/local/edge/forward.h"
#include "runtime/local/edge/pool.h"
#include "runtime/local/edge/stream.h"
#include "runtime/local/edge/tunnel.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { TRIES_MAX = 5, PATH_SIZE = 256, MASK_SIZE = 512 };

/* Between attempts to reach a port that nobody listens on: a server may be just starting. */
static const int64_t retry_ms[TRIES_MAX] = {50, 150, 300, 500, 0};

struct relay {
    struct proxied proxied;
    struct daemon *daemon;   /* borrowed */
    struct sandbox *sandbox; /* borrowed: it cuts us before it ends */
    struct http_exchange *x; /* borrowed */
    uint16_t port;
    struct stream up;
    struct dial *dial; /* owned; while it lasts */
    struct loop_timer retry;
    int tries;
    struct http_parser parser; /* of the response */
    struct buf in;             /* read, but the client is full */
    bool reused;               /* the connection has served a request before */
    bool heard;                /* the server has answered something */
    bool responded;            /* the response has begun */
    bool blocked;              /* the client is full */
    bool request_done;
};

static bool connect_up(struct relay *r);

static bool is_agent(const struct relay *r)
{
    return r->port == ROUTE_ENVD_PORT;
}

static void relay_free(struct relay *r)
{
    list_unlink(&r->proxied.in_sandbox);
    dial_cancel(r->dial);
    loop_timer_cancel(&r->daemon->loop, &r->retry);
    stream_close(&r->up);
    http_parser_deinit(&r->parser);
    buf_deinit(&r->in);
    free(r);
}

/* The sandbox's side failed. */
static void relay_fail(struct relay *r)
{
    if (r->responded)
        http_abort(r->x);
    else
        edge_port_closed(r->x, r->sandbox->id, r->port);
    relay_free(r);
}

static void on_cut(struct proxied *p)
{
    struct relay *r = container_of(p, struct relay, proxied);

    if (r->responded)
        http_reset(r->x);
    else
        edge_not_found(r->x, r->sandbox->id);
    relay_free(r);
}

void proxy_cut(struct sandbox *s)
{
    while (!list_is_empty(&s->streams)) {
        struct proxied *p = container_of(s->streams.next, struct proxied, in_sandbox);

        p->cut(p);
    }
    pool_clear(s);
}

static bool wants_upgrade(const struct relay *r)
{
    const struct http_head *h = http_request(r->x);

    return h->upgrade && h->framing == HTTP_FRAMING_NONE;
}

/* The Host that the server is to see; false: the one that came. */
static bool mask_host(const struct relay *r, char *to, size_t size)
{
    static const char hole[] = "${PORT}";
    const char *mask = r->sandbox->mask_host, *at;
    size_t used = 0;

    if (mask == NULL || is_agent(r))
        return false;
    for (; (at = strstr(mask, hole)) != NULL && used < size; mask = at + strlen(hole))
        used += (size_t)snprintf(to + used, size - used, "%.*s%d", (int)(at - mask), mask, r->port);
    if (used < size)
        used += (size_t)snprintf(to + used, size - used, "%s", mask);
    return used < size;
}

static void send_head(struct relay *r)
{
    AUTO(buf_deinit) struct buf out = BUF_INIT(FORWARD_HEAD_MAX);
    char mask[MASK_SIZE];

    forward_request(&out, http_request(r->x), mask_host(r, mask, sizeof(mask)) ? mask : NULL,
                    wants_upgrade(r), is_agent(r));
    stream_send_bytes(&r->up, buf_data(&out), buf_len(&out));
}

/* Starts over on a new connection when that cannot do anything twice. */
static bool try_again(struct relay *r)
{
    if (!r->reused || r->heard || http_request(r->x)->framing != HTTP_FRAMING_NONE)
        return false;
    stream_close(&r->up);
    http_parser_reset(&r->parser);
    return connect_up(r);
}

static void lost(struct relay *r)
{
    if (r->responded || !try_again(r))
        relay_fail(r);
}

static void forward_head(struct relay *r)
{
    const struct http_head *h = &r->parser.head;
    int64_t length =
        h->framing == HTTP_FRAMING_LENGTH ? (int64_t)h->content_length : HTTP_LENGTH_UNKNOWN;
    const char *announced = http_header(h, "content-length");

    if (h->framing == HTTP_FRAMING_NONE)
        length = announced != NULL ? (int64_t)h->content_length : 0;
    http_begin(r->x, h->status);
    forward_fields(r->x, h);
    http_start(r->x, length);
    r->responded = true;
}

/* The server agreed to the upgrade: from here on it is bytes. */
static void become_tunnel(struct relay *r, const uint8_t *rest, size_t rest_len)
{
    const struct http_head *h = &r->parser.head;
    struct buf to_server, to_client;
    int fd;

    http_begin(r->x, 101);
    forward_fields(r->x, h);
    http_fieldf(r->x, "Connection", "Upgrade");
    http_field(r->x, "Upgrade", http_header(h, "upgrade") ?: "");
    fd = http_hijack(r->x, &to_server, &to_client);
    buf_append_str(&to_client, "\r\n");
    buf_append(&to_client, rest, rest_len);
    tunnel_start(r->daemon, r->sandbox, fd, &to_server, &to_client, stream_release(&r->up));
    relay_free(r);
}

static void finish(struct relay *r)
{
    bool keep = is_agent(r) && r->parser.head.keep_alive && r->request_done && !r->up.broken &&
                buf_len(&r->up.out) == 0 && buf_len(&r->in) == 0;

    http_end(r->x);
    if (keep)
        pool_put(r->daemon, r->sandbox, stream_release(&r->up));
    relay_free(r);
}

/* What the server said. False: the relay is gone. */
static bool take_response(struct relay *r, const uint8_t *data, size_t len)
{
    struct http_slice body;
    size_t used = 0, n;

    while (!r->blocked) {
        enum http_event event = http_parser_next(&r->parser, data + used, len - used, &n, &body);

        used += n;
        switch (event) {
        case HTTP_NEED_MORE:
            return true;
        case HTTP_HEAD:
            r->heard = true;
            if (r->parser.head.status == 101 && wants_upgrade(r)) {
                become_tunnel(r, data + used, len - used);
                return false;
            }
            if (r->parser.head.status >= 200)
                forward_head(r);
            break;
        case HTTP_BODY:
            r->blocked = !http_write(r->x, body.data, body.len);
            break;
        case HTTP_END:
            if (r->responded) {
                finish(r);
                return false;
            }
            http_parser_reset(&r->parser); /* an interim response */
            r->parser.bodyless = http_method_is(http_request(r->x), "HEAD");
            break;
        case HTTP_ERROR:
            relay_fail(r);
            return false;
        }
    }
    buf_append(&r->in, data + used, len - used);
    stream_read(&r->up, false);
    return true;
}

static void on_up_readable(struct stream *s)
{
    struct relay *r = container_of(s, struct relay, up);
    ssize_t n = recv(s->io.fd, r->daemon->scratch, STREAM_CHUNK, MSG_DONTWAIT);

    if (n > 0)
        take_response(r, r->daemon->scratch, (size_t)n);
    else if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    else if (n == 0 && r->responded && http_parser_eof(&r->parser) == HTTP_END)
        finish(r);
    else
        lost(r);
}

/* The client has room again. */
static void on_writable(struct http_exchange *x)
{
    struct relay *r = http_user(x);
    struct buf in = r->in;

    if (!r->blocked)
        return;
    r->blocked = false;
    buf_init(&r->in, in.cap);
    if (take_response(r, buf_data(&in), buf_len(&in)) && !r->blocked)
        stream_read(&r->up, true);
    buf_deinit(&in);
}

static void on_body(struct http_exchange *x, const uint8_t *data, size_t len)
{
    struct relay *r = http_user(x);
    char size[24];
    struct iovec v[3] = {{size, 0}, {(void *)data, len}, {(void *)"\r\n", 0}};

    if (http_request(x)->framing == HTTP_FRAMING_CHUNKED) {
        v[0].iov_len = (size_t)snprintf(size, sizeof(size), "%zx\r\n", len);
        v[2].iov_len = 2;
    }
    if (!stream_send(&r->up, v, 3))
        http_pause(x);
}

static void on_body_end(struct http_exchange *x)
{
    struct relay *r = http_user(x);

    r->request_done = true;
    if (http_request(x)->framing == HTTP_FRAMING_CHUNKED)
        stream_send_bytes(&r->up, "0\r\n\r\n", 5);
}

static void on_up_drained(struct stream *s)
{
    http_resume(container_of(s, struct relay, up)->x);
}

static void on_gone(struct http_exchange *x)
{
    relay_free(http_user(x));
}

static void connected(struct relay *r, int fd)
{
    stream_open(&r->up, &r->daemon->loop, fd);
    send_head(r);
    stream_read(&r->up, true);
    http_resume(r->x);
}

/* Another attempt later, or the answer that there is nobody. */
static bool not_connected(struct relay *r)
{
    if (++r->tries >= TRIES_MAX)
        return false;
    loop_timer_after(&r->daemon->loop, &r->retry, retry_ms[r->tries - 1]);
    return true;
}

static void on_dialled(void *ctx, int fd, int error)
{
    struct relay *r = ctx;

    r->dial = NULL;
    if (fd >= 0)
        connected(r, fd);
    else if (error != ECONNREFUSED || !not_connected(r))
        relay_fail(r);
}

static bool connect_agent(struct relay *r)
{
    char path[PATH_SIZE];
    int fd = r->reused ? -1 : pool_take(r->sandbox);

    /* A waiting connection is tried once; should it be closing just now, the next is new. */
    r->reused = fd >= 0;
    if (fd < 0 && (!zygote_agent_path(r->daemon->zygote, r->sandbox->id, path, sizeof(path)) ||
                   !net_connect_unix(path, SOCK_STREAM, &fd, NULL)))
        return not_connected(r);
    connected(r, fd);
    return true;
}

/* False: there is no way to the server. */
static bool connect_up(struct relay *r)
{
    char path[PATH_SIZE];

    if (is_agent(r))
        return connect_agent(r);
    if (zygote_dial_path(r->daemon->zygote, r->sandbox->id, path, sizeof(path)))
        r->dial = dial_start(&r->daemon->loop, path, r->port, on_dialled, r);
    return r->dial != NULL || not_connected(r);
}

static void on_retry(struct loop_timer *timer)
{
    struct relay *r = container_of(timer, struct relay, retry);

    if (!connect_up(r))
        relay_fail(r);
}

/* Answers the request, and returns false, when it lacks the token that the ports take. */
static bool may_enter(const struct sandbox *s, struct http_exchange *x)
{
    const char *given = http_header(http_request(x), EDGE_TRAFFIC_TOKEN);

    if (s->traffic_token[0] == '\0')
        return true;
    if (given != NULL && strlen(given) == SANDBOX_TOKEN_LEN &&
        CRYPTO_memcmp(given, s->traffic_token, SANDBOX_TOKEN_LEN) == 0)
        return true;
    edge_traffic_refused(x, s->id, given != NULL);
    return false;
}

bool proxy_admits(const struct sandbox *s, struct http_exchange *x, const struct route *route)
{
    return route->port == ROUTE_ENVD_PORT || may_enter(s, x);
}

void proxy_request(struct daemon *d, struct http_exchange *x, const struct route *route)
{
    static const struct http_exchange_ops ops = {
        .body = on_body, .body_end = on_body_end, .writable = on_writable, .gone = on_gone};
    struct sandbox *s = registry_find(&d->registry, route->sandbox_id);
    struct relay *r;

    if (s == NULL) {
        edge_not_found(x, route->sandbox_id);
        return;
    }
    if (!proxy_admits(s, x, route))
        return;
    if (route->port == ROUTE_ENVD_PORT && edge_is_forbidden_path(http_request(x))) {
        edge_forbidden_path(x);
        return;
    }
    r = xcalloc(1, sizeof(*r));
    *r = (struct relay){
        .proxied.cut = on_cut,
        .daemon = d,
        .sandbox = s,
        .x = x,
        .port = route->port,
        .up = {.readable = on_up_readable, .drained = on_up_drained},
        .retry.fire = on_retry,
        .in = BUF_INIT(STREAM_CHUNK),
    };
    http_parser_init(&r->parser, true);
    r->parser.bodyless = http_method_is(http_request(x), "HEAD");
    list_append(&s->streams, &r->proxied.in_sandbox);
    http_attach(x, &ops, r);
    http_pause(x);
    if (!connect_up(r))
        relay_fail(r);
}
