/*
 * See server.h: what handlers do with an exchange. Nothing here calls back; what follows from a
 * call, the connection's task does.
 */
#include "common/http/conn.h"

#include "common/base/cleanup.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

const struct http_head *http_request(const struct http_exchange *x)
{
    return &x->parser.head;
}

int http_fd(const struct http_exchange *x)
{
    return x->io.fd;
}

struct http_server *http_exchange_server(const struct http_exchange *x)
{
    return x->server;
}

void http_attach(struct http_exchange *x, const struct http_exchange_ops *ops, void *user)
{
    x->ops = ops;
    x->user = user;
}

void *http_user(const struct http_exchange *x)
{
    return x->user;
}

void http_pause(struct http_exchange *x)
{
    x->paused = true;
    if (!x->parsing)
        http_conn_kick(x);
}

void http_resume(struct http_exchange *x)
{
    if (!x->paused)
        return;
    x->paused = false;
    if (!x->parsing)
        http_conn_kick(x);
}

bool http_body_is_complete(const struct http_exchange *x)
{
    return x->body_done;
}

void http_close_after(struct http_exchange *x)
{
    x->close_after = true;
}

size_t http_pending(const struct http_exchange *x)
{
    return buf_len(&x->out);
}

bool http_is_started(const struct http_exchange *x)
{
    return x->started;
}

void http_begin(struct http_exchange *x, int status)
{
    x->bodyless = status < 200 || status == 204 || status == 304;
    buf_printf(&x->out, "HTTP/1.1 %d %s\r\n", status, http_reason(status));
    buf_append(&x->out, buf_data(&x->preset), buf_len(&x->preset));
}

/* A value from elsewhere must not be able to end its line. */
static bool is_one_line(const char *value)
{
    return value[strcspn(value, "\r\n")] == '\0';
}

void http_field(struct http_exchange *x, const char *name, const char *value)
{
    if (is_one_line(value))
        buf_printf(&x->out, "%s: %s\r\n", name, value);
}

void http_preset(struct http_exchange *x, const char *name, const char *value)
{
    if (is_one_line(value))
        buf_printf(&x->preset, "%s: %s\r\n", name, value);
}

void http_fieldf(struct http_exchange *x, const char *name, const char *fmt, ...)
{
    AUTO(buf_deinit) struct buf value = BUF_INIT(HTTP_HEAD_MAX);
    va_list args;

    va_start(args, fmt);
    buf_vprintf(&value, fmt, args);
    va_end(args);
    http_field(x, name, buf_str(&value));
}

void http_start(struct http_exchange *x, int64_t length)
{
    const struct http_head *h = &x->parser.head;
    bool unread = h->expect_continue && !x->body_done;

    x->started = true;
    if (x->bodyless) {
        x->out_left = 0;
    } else if (length >= 0) {
        buf_printf(&x->out, "Content-Length: %lld\r\n", (long long)length);
        x->out_left = (uint64_t)length;
    } else if (h->minor >= 1) {
        buf_append_str(&x->out, "Transfer-Encoding: chunked\r\n");
        x->chunked = true;
    } else {
        x->until_close = x->close_after = true;
    }
    /* A client that was not told to go on may or may not send its body: no way to know. */
    if (unread)
        x->close_after = true;
    if (x->close_after)
        buf_append_str(&x->out, "Connection: close\r\n");
    else if (h->minor == 0)
        buf_append_str(&x->out, "Connection: keep-alive\r\n");
    buf_append_str(&x->out, "\r\n");
    if (h->method != NULL && strcmp(h->method, "HEAD") == 0) {
        x->bodyless = true;
        x->chunked = false;
    }
    http_conn_kick(x);
}

static bool has_room(struct http_exchange *x)
{
    if (buf_len(&x->out) <= x->server->config.out_high && !x->broken)
        return true;
    x->want_writable = true;
    return false;
}

bool http_write(struct http_exchange *x, const void *data, size_t len)
{
    char size[24];
    struct iovec v[3] = {{size, 0}, {(void *)data, len}, {(void *)"\r\n", 0}};

    if (x->bodyless || len == 0 || x->broken)
        return has_room(x);
    if (x->chunked) {
        v[0].iov_len = (size_t)snprintf(size, sizeof(size), "%zx\r\n", len);
        v[2].iov_len = 2;
    } else if (!x->until_close) {
        if (len > x->out_left) {
            x->broken = true; /* longer than announced: the peer would take it for a response */
            http_conn_kick(x);
            return false;
        }
        x->out_left -= len;
    }
    if (buf_len(&x->out) + len < HTTP_GATHER) {
        for (int i = 0; i < 3; i++)
            buf_append(&x->out, v[i].iov_base, v[i].iov_len);
        http_conn_kick(x);
    } else {
        http_conn_send(x, v, 3);
    }
    return has_room(x);
}

void http_end(struct http_exchange *x)
{
    if (!x->bodyless && !x->chunked && !x->until_close && x->out_left > 0) {
        http_abort(x);
        return;
    }
    if (x->chunked)
        buf_append_str(&x->out, "0\r\n\r\n");
    http_conn_flush(x);
    http_conn_finish(x);
}

void http_reply(struct http_exchange *x, int status, const char *type, const void *data, size_t len)
{
    http_begin(x, status);
    if (type != NULL)
        http_field(x, "Content-Type", type);
    http_start(x, (int64_t)len);
    http_write(x, data, len);
    http_end(x);
}

static void reset_on_close(const struct http_exchange *x)
{
    struct linger now = {.l_onoff = 1, .l_linger = 0};

    setsockopt(x->io.fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
}

void http_abort(struct http_exchange *x)
{
    if (x->state == CONN_CLOSED)
        return;
    http_conn_flush(x);
    /* Only a reset tells such a body's end from the end of the connection. */
    if (x->until_close)
        reset_on_close(x);
    http_conn_detach(x, true);
}

void http_reset(struct http_exchange *x)
{
    if (x->state == CONN_CLOSED)
        return;
    http_conn_flush(x);
    reset_on_close(x);
    http_conn_detach(x, true);
}

int http_hijack(struct http_exchange *x, struct buf *ret_in, struct buf *ret_out)
{
    int fd = x->io.fd;

    *ret_in = x->in;
    if (x->parsing)
        buf_append(ret_in, x->rest.data, x->rest.len);
    *ret_out = x->out;
    buf_init(&x->in, 0);
    buf_init(&x->out, 0);
    http_conn_detach(x, false);
    return fd;
}
