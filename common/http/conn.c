/*
 * One connection: bytes in through the parser to the handler, the response out with backpressure.
 *
 * Handlers may end an exchange inside any callback and from anywhere else on the loop's thread, so
 * nothing is parsed, called back or freed inside a call of theirs: such a call records a fact and
 * posts the connection's task, and conn_step() does what has become possible. update() is the only
 * place that decides what the descriptor is waited for.
 */
#include "common/http/conn.h"

#include "common/base/cleanup.h"
#include "common/base/mem.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

static const struct http_exchange_ops no_ops;

void http_conn_kick(struct http_exchange *x)
{
    if (x->posted)
        return;
    x->posted = true;
    executor_post(loop_executor(x->server->loop), &x->task);
}

/* Closes the descriptor, or leaves it to whoever hijacked it. */
void http_conn_detach(struct http_exchange *x, bool close_it)
{
    loop_remove(x->server->loop, &x->io);
    loop_timer_cancel(x->server->loop, &x->timer);
    if (close_it)
        close(x->io.fd);
    x->io.fd = -1;
    x->state = CONN_CLOSED;
    http_conn_kick(x);
}

void http_conn_drop(struct http_exchange *x)
{
    void (*gone)(struct http_exchange *) = x->state == CONN_BUSY ? x->ops->gone : NULL;

    if (x->state == CONN_CLOSED)
        return;
    http_conn_detach(x, true);
    if (gone != NULL)
        gone(x);
}

static void conn_free(struct http_exchange *x)
{
    struct http_server *s = x->server;

    list_unlink(&x->node);
    http_parser_deinit(&x->parser);
    buf_deinit(&x->in);
    buf_deinit(&x->out);
    buf_deinit(&x->preset);
    free(x);
    http_server_forget(s);
}

static uint32_t wanted_events(const struct http_exchange *x)
{
    bool full = buf_len(&x->out) > x->server->config.out_high;
    uint32_t events = 0;

    switch (x->state) {
    case CONN_IDLE:
        events = full ? 0 : EPOLLIN;
        break;
    case CONN_BUSY:
        /* Behind the body, reading only serves to see the peer leave; one read ahead is enough. */
        if (!x->body_done)
            events = x->paused ? 0 : EPOLLIN;
        else
            events = buf_len(&x->in) == 0 ? EPOLLIN | EPOLLRDHUP : EPOLLRDHUP;
        break;
    case CONN_DRAIN:
    case CONN_LINGER:
        events = EPOLLIN;
        break;
    case CONN_CLOSED:
        break;
    }
    if (buf_len(&x->out) > 0)
        events |= EPOLLOUT;
    return events;
}

/* Sends what it can. What is behind x->out in the vector is queued when it must wait. */
void http_conn_send(struct http_exchange *x, const struct iovec *more, int n_more)
{
    struct iovec v[4] = {{buf_data(&x->out), buf_len(&x->out)}};
    struct msghdr msg = {.msg_iov = v, .msg_iovlen = (size_t)n_more + 1};
    ssize_t n = 0;

    if (x->broken || x->io.fd < 0)
        return;
    for (int i = 0; i < n_more; i++)
        v[i + 1] = more[i];
    /* When the socket is known to be full, another try would only cost a system call. */
    if ((x->io.events & EPOLLOUT) == 0 || n_more == 0) {
        n = sendmsg(x->io.fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno != EAGAIN && errno != EINTR) {
            x->broken = true;
            http_conn_kick(x);
            return;
        }
    }

    size_t sent = n > 0 ? (size_t)n : 0;
    size_t from_out = sent < buf_len(&x->out) ? sent : buf_len(&x->out);

    buf_consume(&x->out, from_out);
    sent -= from_out;
    for (int i = 0; i < n_more; i++) {
        size_t skip = sent < more[i].iov_len ? sent : more[i].iov_len;

        sent -= skip;
        if (!buf_append(&x->out, (const uint8_t *)more[i].iov_base + skip, more[i].iov_len - skip))
            x->broken = true;
    }
    if (buf_len(&x->out) == 0)
        buf_deinit(&x->out);
    /* Only to be waited for: a step that finds the socket still full must not call for another. */
    if (x->broken || (buf_len(&x->out) > 0 && (x->io.events & EPOLLOUT) == 0))
        http_conn_kick(x);
}

void http_conn_flush(struct http_exchange *x)
{
    if (buf_len(&x->out) > 0)
        http_conn_send(x, NULL, 0);
}

/* Nothing more will be sent; the peer may still be reading, so its bytes are taken until it left.
 */
static void start_linger(struct http_exchange *x)
{
    x->state = CONN_LINGER;
    buf_deinit(&x->in);
    loop_timer_after(x->server->loop, &x->timer, HTTP_LINGER_MS);
    http_conn_kick(x);
}

static void wait_for_head(struct http_exchange *x)
{
    http_parser_reset(&x->parser);
    buf_deinit(&x->preset);
    x->state = CONN_IDLE;
    x->ops = &no_ops;
    x->user = NULL;
    x->out_left = 0;
    x->drained = 0;
    x->paused = x->body_done = x->started = false;
    x->chunked = x->until_close = x->bodyless = x->want_writable = false;
    loop_timer_after(x->server->loop, &x->timer, x->server->config.idle_ms);
}

/* The response is complete: on to the next request, if the connection may carry one. */
void http_conn_finish(struct http_exchange *x)
{
    if (x->close_after)
        start_linger(x);
    else if (x->body_done)
        wait_for_head(x);
    else
        x->state = CONN_DRAIN;
    x->ops = &no_ops;
    x->user = NULL;
    if (!x->parsing)
        http_conn_kick(x);
}

static void begin_exchange(struct http_exchange *x)
{
    loop_timer_cancel(x->server->loop, &x->timer);
    x->state = CONN_BUSY;
    x->close_after = !x->parser.head.keep_alive;
    x->server->config.request(x, x->server->config.ctx);
}

static void maybe_continue(struct http_exchange *x)
{
    static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";

    if (x->state != CONN_BUSY || !x->parser.head.expect_continue || x->paused || x->body_done)
        return;
    x->parser.head.expect_continue = false;
    if (x->started)
        return;
    buf_append_str(&x->out, go_on);
    http_conn_flush(x);
}

static void refuse(struct http_exchange *x)
{
    char json[160];
    int n = snprintf(json, sizeof(json), "{\"code\":%d,\"message\":\"%s\"}", x->parser.error_status,
                     x->parser.error);

    x->close_after = true;
    if (x->state == CONN_IDLE) {
        x->state = CONN_BUSY;
        x->ops = &no_ops;
        http_reply(x, x->parser.error_status, "application/json; charset=utf-8", json, (size_t)n);
    } else {
        /* The handler may be in the middle of its response: there is no polite way out. */
        http_conn_drop(x);
    }
}

static void on_piece(struct http_exchange *x, struct http_slice body)
{
    if (x->state == CONN_BUSY && x->ops->body != NULL) {
        x->ops->body(x, body.data, body.len);
        return;
    }
    x->drained += body.len;
    if (x->state == CONN_DRAIN && x->drained > HTTP_DRAIN_MAX)
        start_linger(x);
}

static void on_end(struct http_exchange *x)
{
    x->body_done = true;
    if (x->state == CONN_DRAIN)
        wait_for_head(x);
    else if (x->ops->body_end != NULL)
        x->ops->body_end(x);
}

static bool may_parse(const struct http_exchange *x)
{
    switch (x->state) {
    case CONN_IDLE:
        return buf_len(&x->out) <= x->server->config.out_high;
    case CONN_BUSY:
        return !x->paused && !x->body_done;
    case CONN_DRAIN:
        return true;
    case CONN_LINGER:
    case CONN_CLOSED:
        break;
    }
    return false;
}

/* Returns how much of the input is dealt with; the rest is for later. */
static size_t conn_parse(struct http_exchange *x, const uint8_t *data, size_t len)
{
    enum http_event event = HTTP_HEAD;
    struct http_slice body;
    size_t used = 0, n;

    x->parsing = true;
    while (event != HTTP_NEED_MORE && may_parse(x)) {
        bool was_idle = http_parser_is_idle(&x->parser);

        event = http_parser_next(&x->parser, data + used, len - used, &n, &body);
        used += n;
        x->rest = (struct http_slice){data + used, len - used};
        if (event == HTTP_HEAD)
            begin_exchange(x);
        else if (event == HTTP_BODY)
            on_piece(x, body);
        else if (event == HTTP_END)
            on_end(x);
        else if (event == HTTP_ERROR)
            refuse(x);
        else if (was_idle && !http_parser_is_idle(&x->parser))
            loop_timer_after(x->server->loop, &x->timer, x->server->config.head_ms);
    }
    x->parsing = false;
    maybe_continue(x);
    return x->state == CONN_LINGER || x->state == CONN_CLOSED ? len : used;
}

static void parse_waiting(struct http_exchange *x)
{
    /* Once more without input too: a body of length 0 ends without any. */
    struct buf in = x->in;

    buf_init(&x->in, in.cap);
    buf_consume(&in, conn_parse(x, buf_data(&in), buf_len(&in)));
    if (buf_len(&in) == 0)
        buf_deinit(&in);
    x->in = in;
}

static void receive(struct http_exchange *x)
{
    uint8_t *scratch = x->server->scratch;
    /* What comes behind a complete request waits in memory: not more than one small read of it. */
    size_t size = may_parse(x) || x->state == CONN_LINGER ? HTTP_SCRATCH : HTTP_GATHER;
    ssize_t n = recv(x->io.fd, scratch, size, MSG_DONTWAIT);

    if (n < 0) {
        if (errno != EAGAIN && errno != EINTR)
            x->broken = true;
        return;
    }
    if (n == 0) {
        x->eof = true;
        return;
    }

    size_t used = x->state == CONN_LINGER ? (size_t)n : 0;

    if (buf_len(&x->in) == 0 && used == 0)
        used = conn_parse(x, scratch, (size_t)n);
    if (x->state != CONN_CLOSED && !buf_append(&x->in, scratch + used, (size_t)n - used))
        x->broken = true;
}

/* Whether the connection has no future. */
static bool is_over(const struct http_exchange *x)
{
    if (x->broken)
        return true;
    switch (x->state) {
    case CONN_IDLE:
        /* What was pipelined before the peer half-closed is still answered. */
        return x->eof && buf_len(&x->in) == 0 && buf_len(&x->out) == 0;
    case CONN_BUSY:
        return x->eof;
    case CONN_DRAIN:
        return x->eof && buf_len(&x->out) == 0;
    case CONN_LINGER:
        return x->eof && buf_len(&x->out) == 0;
    case CONN_CLOSED:
        break;
    }
    return false;
}

static void tell_writable(struct http_exchange *x)
{
    if (x->state != CONN_BUSY || !x->want_writable ||
        buf_len(&x->out) > x->server->config.out_high / 4)
        return;
    x->want_writable = false;
    if (x->ops->writable != NULL)
        x->ops->writable(x);
}

/* Does whatever has become possible. */
static void conn_step(struct http_exchange *x)
{
    size_t before;

    http_conn_flush(x);
    do {
        before = buf_len(&x->in);
        if (may_parse(x) && (before > 0 || x->state == CONN_BUSY))
            parse_waiting(x);
    } while (buf_len(&x->in) < before);
    tell_writable(x);
    if (x->state == CONN_CLOSED)
        return;
    if (is_over(x)) {
        http_conn_drop(x);
        return;
    }
    if (x->state == CONN_LINGER && buf_len(&x->out) == 0 && !x->shut)
        x->shut = shutdown(x->io.fd, SHUT_WR) == 0;
    loop_modify(x->server->loop, &x->io,
                x->eof ? wanted_events(x) & (uint32_t)EPOLLOUT : wanted_events(x));
}

static void on_ready(struct loop_fd *io, uint32_t events)
{
    struct http_exchange *x = container_of(io, struct http_exchange, io);

    if (events & EPOLLOUT)
        http_conn_flush(x);
    if (events & (EPOLLHUP | EPOLLERR))
        x->broken = x->broken || (events & EPOLLERR) != 0 || (x->io.events & EPOLLIN) == 0;
    if ((events & EPOLLRDHUP) && (x->io.events & EPOLLIN) == 0)
        x->eof = true;
    if ((events & (EPOLLIN | EPOLLHUP | EPOLLRDHUP)) && (x->io.events & EPOLLIN) && !x->eof)
        receive(x);
    if (x->state != CONN_CLOSED)
        conn_step(x);
}

static void on_timer(struct loop_timer *timer)
{
    struct http_exchange *x = container_of(timer, struct http_exchange, timer);

    http_conn_drop(x);
}

static void on_task(struct task *task)
{
    struct http_exchange *x = container_of(task, struct http_exchange, task);

    x->posted = false;
    if (x->state == CONN_CLOSED)
        conn_free(x);
    else
        conn_step(x);
}

void http_conn_new(struct http_server *s, int fd)
{
    struct http_exchange *x = xcalloc(1, sizeof(*x));
    int on = 1;

    *x = (struct http_exchange){
        .server = s,
        .io = {.fd = fd, .ready = on_ready},
        .timer.fire = on_timer,
        .task.run = on_task,
        .in = BUF_INIT(HTTP_SCRATCH),
        .out = BUF_INIT(HTTP_OUT_MAX),
        .preset = BUF_INIT(HTTP_HEAD_MAX),
    };
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)); /* a unix socket refuses: fine */
    http_parser_init(&x->parser, false);
    list_append(&s->connections, &x->node);
    s->n_connections++;
    wait_for_head(x);
    if (!loop_add(s->loop, &x->io, EPOLLIN, NULL))
        http_conn_drop(x);
}
