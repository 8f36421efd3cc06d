/* See fake.h. */
#include "service/e2b/fake.h"

#include "common/base/mem.h"
#include "common/connect/envelope.h"
#include "envd/process/process.pb-c.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CONNECTIONS_MAX = 256, REQUEST_MAX = 32 * 1024 * 1024, HEAD_MAX = 64 * 1024 };

struct connection {
    struct fake *fake;
    pthread_t thread;
    int fd, number;
};

struct fake {
    void (*serve)(struct fake_call *c, void *arg);
    void *arg;
    int listener;
    char url[64];
    pthread_t thread;
    pthread_mutex_t lock;
    int n; /* guarded by lock, like closed */
    bool stopping;
    struct connection connections[CONNECTIONS_MAX];
};

static bool write_all(int fd, const void *data, size_t len)
{
    const char *s = data;

    while (len > 0) {
        ssize_t n = send(fd, s, len, MSG_NOSIGNAL);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        s += n;
        len -= (size_t)n;
    }
    return true;
}

/* Reads one request into data; 0: the peer closed. */
static size_t read_request(int fd, char *data, size_t *have, size_t *ret_head)
{
    for (;;) {
        char *end;
        size_t body = 0;
        ssize_t n;

        data[*have] = '\0';
        end = strstr(data, "\r\n\r\n");
        if (end != NULL) {
            const char *length = strcasestr(data, "\r\nContent-Length:");

            *ret_head = (size_t)(end - data) + 4;
            if (length != NULL && length < end)
                body = strtoul(length + 17, NULL, 10);
            if (*have >= *ret_head + body)
                return *ret_head + body;
        }
        n = recv(fd, data + *have, REQUEST_MAX - *have, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return 0;
        *have += (size_t)n;
    }
}

static void *run_connection(void *arg)
{
    struct connection *conn = arg;
    char *data = xmalloc(REQUEST_MAX + 1);
    size_t have = 0, head, len;

    for (int nth = 0; (len = read_request(conn->fd, data, &have, &head)) > 0; nth++) {
        char *text = xstrndup(data, head);
        char *method = xstrndup(data, strcspn(data, " "));
        char *rest = data + strlen(method) + 1;
        char *path = xstrndup(rest, strcspn(rest, " "));
        struct fake_call c = {
            .fake = conn->fake,
            .fd = conn->fd,
            .connection = conn->number,
            .nth = nth,
            .method = method,
            .path = path,
            .head = text,
            .body = (uint8_t *)data + head,
            .body_len = len - head,
            .more = (uint8_t *)data + len,
            .more_len = have - len,
        };

        conn->fake->serve(&c, conn->fake->arg);
        free(text);
        free(method);
        free(path);
        if (c.close)
            break;
        memmove(data, data + len, have - len);
        have -= len;
    }
    /* The descriptor itself is closed in fake_free(), so that it stays ours until then. */
    shutdown(conn->fd, SHUT_RDWR);
    free(data);
    return NULL;
}

static void *run_listener(void *arg)
{
    struct fake *f = arg;
    int fd;

    while ((fd = accept4(f->listener, NULL, NULL, SOCK_CLOEXEC)) >= 0) {
        struct connection *conn;
        int one = 1;

        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        pthread_mutex_lock(&f->lock);
        if (f->stopping || f->n == CONNECTIONS_MAX) {
            pthread_mutex_unlock(&f->lock);
            close(fd);
            continue;
        }
        conn = &f->connections[f->n];
        *conn = (struct connection){.fake = f, .fd = fd, .number = f->n};
        if (pthread_create(&conn->thread, NULL, run_connection, conn) != 0)
            abort();
        f->n++;
        pthread_mutex_unlock(&f->lock);
    }
    return NULL;
}

struct fake *fake_new(void (*serve)(struct fake_call *c, void *arg), void *arg)
{
    struct fake *f = xcalloc(1, sizeof *f);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof address;

    f->serve = serve;
    f->arg = arg;
    pthread_mutex_init(&f->lock, NULL);
    f->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (f->listener < 0 || bind(f->listener, (struct sockaddr *)&address, len) < 0 ||
        listen(f->listener, 64) < 0 ||
        getsockname(f->listener, (struct sockaddr *)&address, &len) < 0)
        abort();
    snprintf(f->url, sizeof f->url, "http://127.0.0.1:%d", ntohs(address.sin_port));
    if (pthread_create(&f->thread, NULL, run_listener, f) != 0)
        abort();
    return f;
}

void fake_free(struct fake *f)
{
    pthread_mutex_lock(&f->lock);
    f->stopping = true;
    pthread_mutex_unlock(&f->lock);
    shutdown(f->listener, SHUT_RDWR);
    pthread_join(f->thread, NULL);
    close(f->listener);
    for (int i = 0; i < f->n; i++)
        shutdown(f->connections[i].fd, SHUT_RDWR);
    for (int i = 0; i < f->n; i++) {
        pthread_join(f->connections[i].thread, NULL);
        close(f->connections[i].fd);
    }
    pthread_mutex_destroy(&f->lock);
    free(f);
}

const char *fake_url(const struct fake *f)
{
    return f->url;
}

int fake_connections(struct fake *f)
{
    int n;

    pthread_mutex_lock(&f->lock);
    n = f->n;
    pthread_mutex_unlock(&f->lock);
    return n;
}

bool fake_is(const struct fake_call *c, const char *method, const char *path_prefix)
{
    return strcmp(c->method, method) == 0 &&
           strncmp(c->path, path_prefix, strlen(path_prefix)) == 0;
}

bool fake_has(const struct fake_call *c, const char *line)
{
    char *framed = xasprintf("\r\n%s\r\n", line);
    bool found = strcasestr(c->head, framed) != NULL;

    free(framed);
    return found;
}

void fake_reply_bytes(struct fake_call *c, int status, const char *headers, const void *body,
                      size_t len)
{
    char *head;

    if (status == 204)
        head = xasprintf("HTTP/1.1 204 No Content\r\n%s\r\n", headers);
    else
        head = xasprintf("HTTP/1.1 %d X\r\n%sContent-Length: %zu\r\n\r\n", status, headers, len);
    if (write_all(c->fd, head, strlen(head)))
        write_all(c->fd, body, len);
    free(head);
}

void fake_reply(struct fake_call *c, int status, const char *headers, const char *body)
{
    fake_reply_bytes(c, status, headers, body, strlen(body));
}

void fake_stream(struct fake_call *c, const char *content_type)
{
    char *head = xasprintf(
        "HTTP/1.1 200 OK\r\nContent-Type: %s\r\nTransfer-Encoding: chunked\r\n\r\n", content_type);

    write_all(c->fd, head, strlen(head));
    free(head);
}

bool fake_chunk(struct fake_call *c, const void *data, size_t len)
{
    char head[32];

    snprintf(head, sizeof head, "%zx\r\n", len);
    return write_all(c->fd, head, strlen(head)) && write_all(c->fd, data, len) &&
           write_all(c->fd, "\r\n", 2);
}

void fake_end(struct fake_call *c)
{
    write_all(c->fd, "0\r\n\r\n", 5);
}

void fake_raw(struct fake_call *c, const void *data, size_t len)
{
    write_all(c->fd, data, len);
}

void fake_wait_gone(struct fake_call *c)
{
    struct pollfd p = {.fd = c->fd, .events = POLLRDHUP};

    while (poll(&p, 1, -1) < 0 && errno == EINTR)
        ;
    c->close = true;
}

/* --- what envd says of a process --- */

static void add_event(struct buf *b, Process__ProcessEvent *event)
{
    Process__StartResponse m = PROCESS__START_RESPONSE__INIT;
    uint8_t *data;
    size_t len;

    m.event = event;
    len = process__start_response__get_packed_size(&m);
    data = xmalloc(len + 1);
    process__start_response__pack(&m, data);
    if (!envelope_append(b, 0, data, len))
        abort();
    free(data);
}

void fake_add_start(struct buf *b, uint32_t pid)
{
    Process__ProcessEvent event = PROCESS__PROCESS_EVENT__INIT;
    Process__ProcessEvent__StartEvent start = PROCESS__PROCESS_EVENT__START_EVENT__INIT;

    start.pid = pid;
    event.event_case = PROCESS__PROCESS_EVENT__EVENT_START;
    event.start = &start;
    add_event(b, &event);
}

void fake_add_data(struct buf *b, bool is_err, const void *data, size_t len)
{
    Process__ProcessEvent event = PROCESS__PROCESS_EVENT__INIT;
    Process__ProcessEvent__DataEvent d;
    ProtobufCBinaryData bytes = {.data = (uint8_t *)data, .len = len};

    process__process_event__data_event__init(&d);
    d.output_case = is_err ? PROCESS__PROCESS_EVENT__DATA_EVENT__OUTPUT_STDERR
                           : PROCESS__PROCESS_EVENT__DATA_EVENT__OUTPUT_STDOUT;
    if (is_err)
        d.stderr = bytes;
    else
        d.stdout = bytes;
    event.event_case = PROCESS__PROCESS_EVENT__EVENT_DATA;
    event.data = &d;
    add_event(b, &event);
}

void fake_add_keepalive(struct buf *b)
{
    Process__ProcessEvent event = PROCESS__PROCESS_EVENT__INIT;
    Process__ProcessEvent__KeepAlive k = PROCESS__PROCESS_EVENT__KEEP_ALIVE__INIT;

    event.event_case = PROCESS__PROCESS_EVENT__EVENT_KEEPALIVE;
    event.keepalive = &k;
    add_event(b, &event);
}

void fake_add_exit(struct buf *b, int code, bool exited)
{
    Process__ProcessEvent event = PROCESS__PROCESS_EVENT__INIT;
    Process__ProcessEvent__EndEvent end = PROCESS__PROCESS_EVENT__END_EVENT__INIT;

    end.exit_code = code;
    end.exited = exited;
    end.status = (char *)(exited ? "exit status" : "signal: killed");
    event.event_case = PROCESS__PROCESS_EVENT__EVENT_END;
    event.end = &end;
    add_event(b, &event);
}
