/* See server.h. Listeners and the set of connections; conn.c is what happens on one of them. */
#include "common/http/server.h"

#include "common/base/mem.h"
#include "common/http/conn.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { ACCEPTS_PER_ROUND = 64 };

struct reason {
    int status;
    const char *text;
};

static const struct reason reasons[] = {
    {100, "Continue"},
    {101, "Switching Protocols"},
    {200, "OK"},
    {201, "Created"},
    {202, "Accepted"},
    {203, "Non-Authoritative Information"},
    {204, "No Content"},
    {205, "Reset Content"},
    {206, "Partial Content"},
    {207, "Multi-Status"},
    {300, "Multiple Choices"},
    {301, "Moved Permanently"},
    {302, "Found"},
    {303, "See Other"},
    {304, "Not Modified"},
    {307, "Temporary Redirect"},
    {308, "Permanent Redirect"},
    {400, "Bad Request"},
    {401, "Unauthorized"},
    {402, "Payment Required"},
    {403, "Forbidden"},
    {404, "Not Found"},
    {405, "Method Not Allowed"},
    {406, "Not Acceptable"},
    {407, "Proxy Authentication Required"},
    {408, "Request Timeout"},
    {409, "Conflict"},
    {410, "Gone"},
    {411, "Length Required"},
    {412, "Precondition Failed"},
    {413, "Content Too Large"},
    {414, "URI Too Long"},
    {415, "Unsupported Media Type"},
    {416, "Range Not Satisfiable"},
    {417, "Expectation Failed"},
    {418, "I'm a Teapot"},
    {421, "Misdirected Request"},
    {422, "Unprocessable Content"},
    {423, "Locked"},
    {424, "Failed Dependency"},
    {425, "Too Early"},
    {426, "Upgrade Required"},
    {428, "Precondition Required"},
    {429, "Too Many Requests"},
    {431, "Request Header Fields Too Large"},
    {451, "Unavailable For Legal Reasons"},
    {499, "Client Closed Request"},
    {500, "Internal Server Error"},
    {501, "Not Implemented"},
    {502, "Bad Gateway"},
    {503, "Service Unavailable"},
    {504, "Gateway Timeout"},
    {505, "HTTP Version Not Supported"},
    {506, "Variant Also Negotiates"},
    {507, "Insufficient Storage"},
    {508, "Loop Detected"},
    {511, "Network Authentication Required"},
};

const char *http_reason(int status)
{
    for (size_t i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++) {
        if (reasons[i].status == status)
            return reasons[i].text;
    }
    return "Unknown";
}

struct http_server *http_server_new(struct loop *l, const struct http_server_config *config)
{
    struct http_server *s = xcalloc(1, sizeof(*s));

    s->loop = l;
    s->config = *config;
    if (s->config.idle_ms == 0)
        s->config.idle_ms = 620 * 1000;
    if (s->config.head_ms == 0)
        s->config.head_ms = 30 * 1000;
    if (s->config.max_connections == 0)
        s->config.max_connections = 16384;
    if (s->config.out_high == 0)
        s->config.out_high = 256 << 10;
    list_init(&s->listeners);
    list_init(&s->connections);
    return s;
}

static void listener_free(struct http_listener *listener)
{
    loop_remove(listener->server->loop, &listener->io);
    loop_timer_cancel(listener->server->loop, &listener->retry);
    close(listener->io.fd);
    list_unlink(&listener->node);
    free(listener);
}

/* Out of descriptors or over the limit: the backlog waits, and the loop must not spin on it. */
static void rest(struct http_listener *listener)
{
    loop_modify(listener->server->loop, &listener->io, 0);
    loop_timer_after(listener->server->loop, &listener->retry, HTTP_RETRY_MS);
}

static void on_retry(struct loop_timer *timer)
{
    struct http_listener *listener = container_of(timer, struct http_listener, retry);

    loop_modify(listener->server->loop, &listener->io, EPOLLIN);
}

static void on_connection(struct loop_fd *io, uint32_t events)
{
    struct http_listener *listener = container_of(io, struct http_listener, io);
    struct http_server *s = listener->server;

    for (int i = 0; i < ACCEPTS_PER_ROUND; i++) {
        if (s->n_connections >= s->config.max_connections) {
            rest(listener);
            return;
        }

        int fd = accept4(io->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

        if (fd >= 0 && s->config.accepted != NULL)
            s->config.accepted(s, fd, s->config.ctx);
        else if (fd >= 0)
            http_conn_new(s, fd);
        else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
            rest(listener);
        if (fd < 0 && errno != ECONNABORTED && errno != EINTR)
            return;
    }
}

bool http_server_listen(struct http_server *s, int fd, struct status *st)
{
    struct http_listener *listener = xcalloc(1, sizeof(*listener));

    *listener = (struct http_listener){
        .server = s, .io = {.fd = fd, .ready = on_connection}, .retry.fire = on_retry};
    list_append(&s->listeners, &listener->node);
    if (loop_add(s->loop, &listener->io, EPOLLIN, st))
        return true;
    listener_free(listener);
    return false;
}

void http_server_adopt(struct http_server *s, int fd)
{
    http_conn_new(s, fd);
}

void http_server_stop_listening(struct http_server *s)
{
    LIST_FOR_EACH_SAFE (node, &s->listeners)
        listener_free(container_of(node, struct http_listener, node));
}

size_t http_server_connections(const struct http_server *s)
{
    return s->n_connections;
}

void http_server_forget(struct http_server *s)
{
    s->n_connections--;
    if (s->freed && s->n_connections == 0)
        free(s);
}

void http_server_free(struct http_server *s)
{
    if (s == NULL)
        return;
    http_server_stop_listening(s);
    if (s->n_connections == 0) {
        free(s);
        return;
    }
    s->freed = true;
    LIST_FOR_EACH_SAFE (node, &s->connections)
        http_conn_drop(container_of(node, struct http_exchange, node));
}
