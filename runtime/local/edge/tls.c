/*
 * See tls.h. A connection moves bytes both ways between the network, encrypted, and its end of the
 * pair, plain. step() does all that is possible, and is the only place that decides what is waited
 * for. Either buffer is filled only when it is empty, so a side that does not read stops the other.
 *
 * The HTTP server ends a connection in good order by closing its direction first; when it closes
 * everything at once, the response was cut, and the client must see that: it gets a reset.
 */
#include "runtime/local/edge/tls.h"

#include "common/base/cleanup.h"
#include "common/base/list.h"
#include "common/base/mem.h"
#include "runtime/local/edge/authority.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    CHUNK = 16 << 10, /* a TLS record */
    BEGIN_MS = 30 * 1000,
    LINGER_MS = 2000,
    CONNECTIONS_MAX = 16384,
    HANDSHAKE_BYTE = 22,
};

struct tls_server {
    struct loop *loop; /* borrowed */
    SSL_CTX *ctx;      /* owned */
    char *domain;      /* owned; without a port; NULL: none */
    struct authority authority;
    struct list connections;
    size_t n_connections;
};

/* Bytes on their way. */
struct passage {
    uint8_t bytes[CHUNK];
    size_t at;
    size_t len; /* behind at */
};

struct tls_conn {
    struct list node;
    struct tls_server *tls;   /* borrowed: the owner */
    struct http_server *http; /* borrowed */
    struct loop_fd net;
    struct loop_fd plain; /* fd -1: the handshake is not done */
    struct loop_timer limit;
    SSL *ssl; /* owned; NULL: not a byte was seen */
    struct passage in, out;
    bool want_in, want_out; /* what TLS waits for */
    bool net_eof;           /* the client will send nothing more, */
    bool told_plain;        /* and the server knows */
    bool plain_eof;         /* the server will send nothing more, */
    bool told_net;          /* and the client knows */
    bool deaf;              /* the server does not read any more */
};

static void conn_free(struct tls_conn *c)
{
    loop_remove(c->tls->loop, &c->net);
    loop_remove(c->tls->loop, &c->plain);
    loop_timer_cancel(c->tls->loop, &c->limit);
    SSL_free(c->ssl);
    if (c->net.fd >= 0)
        close(c->net.fd);
    if (c->plain.fd >= 0)
        close(c->plain.fd);
    list_unlink(&c->node);
    c->tls->n_connections--;
    free(c);
}

static void conn_reset(struct tls_conn *c)
{
    struct linger now = {.l_onoff = 1, .l_linger = 0};

    setsockopt(c->net.fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
    conn_free(c);
}

/* ---- moving bytes ---- */

enum moved { MOVED_NONE, MOVED_SOME, MOVED_FAILED };

/* Notes what a call of TLS, which has not succeeded, waits for. */
static enum moved must_wait(struct tls_conn *c, int result)
{
    switch (SSL_get_error(c->ssl, result)) {
    case SSL_ERROR_WANT_READ:
        c->want_in = true;
        return MOVED_NONE;
    case SSL_ERROR_WANT_WRITE:
        c->want_out = true;
        return MOVED_NONE;
    case SSL_ERROR_ZERO_RETURN:
        c->net_eof = true;
        return MOVED_SOME;
    default:
        return MOVED_FAILED;
    }
}

static enum moved net_read(struct tls_conn *c)
{
    int n;

    if (c->in.len > 0 || c->net_eof || c->deaf)
        return MOVED_NONE;
    ERR_clear_error();
    n = SSL_read(c->ssl, c->in.bytes, CHUNK);
    if (n <= 0)
        return must_wait(c, n);
    c->in.at = 0;
    c->in.len = (size_t)n;
    return MOVED_SOME;
}

static enum moved net_write(struct tls_conn *c)
{
    int n;

    if (c->out.len == 0)
        return MOVED_NONE;
    ERR_clear_error();
    n = SSL_write(c->ssl, c->out.bytes + c->out.at, (int)c->out.len);
    if (n <= 0)
        return must_wait(c, n);
    c->out.at += (size_t)n;
    c->out.len -= (size_t)n;
    return MOVED_SOME;
}

static bool is_for_later(int error)
{
    return error == EAGAIN || error == EINTR;
}

static enum moved plain_write(struct tls_conn *c)
{
    ssize_t n;

    if (c->in.len == 0)
        return MOVED_NONE;
    n = send(c->plain.fd, c->in.bytes + c->in.at, c->in.len, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0 && is_for_later(errno))
        return MOVED_NONE;
    if (n < 0) {
        /* It may have answered before it closed: that is still to be passed on. */
        c->deaf = true;
        c->in.len = 0;
        return MOVED_SOME;
    }
    c->in.at += (size_t)n;
    c->in.len -= (size_t)n;
    return MOVED_SOME;
}

/* Whether the server has closed both directions, and not because we had closed ours. */
static bool was_cut(const struct tls_conn *c)
{
    struct pollfd p = {.fd = c->plain.fd};

    return !c->told_plain && poll(&p, 1, 0) == 1 && (p.revents & POLLHUP);
}

static enum moved plain_read(struct tls_conn *c)
{
    ssize_t n;

    if (c->out.len > 0 || c->plain_eof)
        return MOVED_NONE;
    n = recv(c->plain.fd, c->out.bytes, CHUNK, MSG_DONTWAIT);
    if (n < 0 && is_for_later(errno))
        return MOVED_NONE;
    if (n < 0 || (n == 0 && was_cut(c)))
        return MOVED_FAILED;
    c->out.at = 0;
    c->out.len = (size_t)n;
    c->plain_eof = n == 0;
    return MOVED_SOME;
}

/* ---- what is done, and waited for ---- */

/* False: the connection has no future. */
static bool accept_tls(struct tls_conn *c)
{
    int ends[2], result;

    ERR_clear_error();
    result = SSL_accept(c->ssl);
    if (result <= 0)
        return must_wait(c, result) == MOVED_NONE;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) < 0)
        return false;
    c->plain.fd = ends[0];
    http_server_adopt(c->http, ends[1]);
    loop_timer_cancel(c->tls->loop, &c->limit);
    return true;
}

static bool move_all(struct tls_conn *c)
{
    static enum moved (*const moves[])(struct tls_conn *) = {net_read, plain_write, plain_read,
                                                             net_write};
    bool again = true;

    while (again) {
        again = false;
        for (size_t i = 0; i < sizeof(moves) / sizeof(moves[0]); i++) {
            enum moved moved = moves[i](c);

            if (moved == MOVED_FAILED)
                return false;
            again = again || moved == MOVED_SOME;
        }
    }
    return true;
}

/* Passes on the end of either direction. False: that was the second. */
static bool tell_ends(struct tls_conn *c)
{
    if (c->net_eof && c->in.len == 0 && !c->told_plain) {
        shutdown(c->plain.fd, SHUT_WR);
        c->told_plain = true;
    }
    if (c->plain_eof && c->out.len == 0 && !c->told_net) {
        ERR_clear_error();
        SSL_shutdown(c->ssl);
        shutdown(c->net.fd, SHUT_WR);
        c->told_net = true;
        loop_timer_after(c->tls->loop, &c->limit, LINGER_MS);
    }
    return !(c->net_eof && c->told_net);
}

static bool wait_for(struct tls_conn *c)
{
    uint32_t net = (c->want_in ? EPOLLIN : 0) | (c->want_out ? EPOLLOUT : 0);
    bool read_plain = c->out.len == 0 && !c->plain_eof;
    uint32_t plain = (read_plain ? EPOLLIN : 0) | (c->in.len > 0 ? EPOLLOUT : 0);

    loop_modify(c->tls->loop, &c->net, net);
    if (c->plain.fd < 0)
        return true;
    /* Out of the loop where nothing can be done: that the server hung up cannot be masked. */
    if (plain == 0)
        loop_remove(c->tls->loop, &c->plain);
    else if (c->plain.added)
        loop_modify(c->tls->loop, &c->plain, plain);
    else
        return loop_add(c->tls->loop, &c->plain, plain, NULL);
    return true;
}

static void step(struct tls_conn *c)
{
    c->want_in = c->want_out = false;
    if (c->plain.fd < 0 && !accept_tls(c)) {
        conn_free(c);
        return;
    }
    if (c->plain.fd >= 0 && !move_all(c)) {
        conn_reset(c);
        return;
    }
    if ((c->plain.fd >= 0 && !tell_ends(c)) || !wait_for(c))
        conn_free(c);
}

static void on_plain(struct loop_fd *io, uint32_t events)
{
    step(container_of(io, struct tls_conn, plain));
}

static void on_net(struct loop_fd *io, uint32_t events)
{
    struct tls_conn *c = container_of(io, struct tls_conn, net);

    if ((events & (EPOLLHUP | EPOLLERR)) && !c->want_in && !c->want_out)
        conn_free(c); /* gone, while nothing can be asked of it */
    else
        step(c);
}

static void on_limit(struct loop_timer *timer)
{
    conn_free(container_of(timer, struct tls_conn, limit));
}

/* ---- the first byte ---- */

static void on_first_byte(struct loop_fd *io, uint32_t events)
{
    struct tls_conn *c = container_of(io, struct tls_conn, net);
    struct http_server *http = c->http;
    uint8_t byte;
    ssize_t n = recv(io->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);

    if (n < 0 && is_for_later(errno))
        return;
    if (n == 1 && byte == HANDSHAKE_BYTE) {
        c->net.ready = on_net;
        c->ssl = SSL_new(c->tls->ctx);
        SSL_set_fd(c->ssl, io->fd);
        step(c);
        return;
    }
    if (n == 1) {
        int fd = io->fd;

        loop_remove(c->tls->loop, io);
        io->fd = -1;
        http_server_adopt(http, fd);
    }
    conn_free(c);
}

void tls_server_take(struct tls_server *t, struct http_server *http, int fd)
{
    struct tls_conn *c;
    int on = 1;

    if (t->n_connections >= CONNECTIONS_MAX) {
        close(fd);
        return;
    }
    c = xcalloc(1, sizeof(*c));
    c->tls = t;
    c->http = http;
    c->net = (struct loop_fd){.fd = fd, .ready = on_first_byte};
    c->plain = (struct loop_fd){.fd = -1, .ready = on_plain};
    c->limit.fire = on_limit;
    list_append(&t->connections, &c->node);
    t->n_connections++;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    loop_timer_after(t->loop, &c->limit, BEGIN_MS);
    if (!loop_add(t->loop, &c->net, EPOLLIN, NULL))
        conn_free(c);
}

/* ---- the server ---- */

/* HTTP/1.1, or no protocol by name at all. */
static int choose_protocol(SSL *ssl, const unsigned char **out, unsigned char *out_len,
                           const unsigned char *in, unsigned int in_len, void *ctx)
{
    static const unsigned char ours[] = "\x08http/1.1";

    if (SSL_select_next_proto((unsigned char **)out, out_len, ours, sizeof(ours) - 1, in, in_len) ==
        OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_OK;
    return SSL_TLSEXT_ERR_ALERT_FATAL;
}

static bool is_below(const char *name, const char *domain)
{
    size_t len = strlen(name), domain_len = domain != NULL ? strlen(domain) : 0;

    return domain_len > 0 && len > domain_len + 1 && name[len - domain_len - 1] == '.' &&
           strcasecmp(name + len - domain_len, domain) == 0;
}

/* Gives the connection a certificate that has the name the client asked for. */
static int certify(SSL *ssl, void *ctx)
{
    const struct tls_server *t = ctx;
    const char *names[6] = {"localhost", "127.0.0.1", "::1"};
    const char *asked = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
    AUTO_FREE char *wildcard = t->domain != NULL ? xasprintf("*.%s", t->domain) : NULL;
    size_t n = 3;
    X509 *certificate;
    bool ok;

    if (t->domain != NULL && strcasecmp(t->domain, "localhost") != 0)
        names[n++] = t->domain;
    if (wildcard != NULL)
        names[n++] = wildcard;
    if (asked != NULL && (is_below(asked, t->domain) || is_below(asked, "localhost")))
        names[n++] = asked;
    certificate = authority_issue(&t->authority, names, n);
    ok = certificate != NULL && SSL_use_certificate(ssl, certificate) == 1 &&
         SSL_use_PrivateKey(ssl, t->authority.leaf) == 1;
    X509_free(certificate);
    return ok ? 1 : 0;
}

static bool make_context(struct tls_server *t)
{
    t->ctx = SSL_CTX_new(TLS_server_method());
    if (t->ctx == NULL || SSL_CTX_set_min_proto_version(t->ctx, TLS1_2_VERSION) != 1)
        return false;
    /* A client that just hangs up has ended its direction, as over TCP alone. */
    SSL_CTX_set_options(t->ctx, SSL_OP_IGNORE_UNEXPECTED_EOF | SSL_OP_NO_RENEGOTIATION);
    SSL_CTX_set_mode(t->ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_alpn_select_cb(t->ctx, choose_protocol, NULL);
    SSL_CTX_set_cert_cb(t->ctx, certify, t);
    return true;
}

struct tls_server *tls_server_new(struct loop *l, const char *dir, const char *domain,
                                  struct status *st)
{
    struct tls_server *t = xcalloc(1, sizeof(*t));

    t->loop = l;
    t->domain = domain != NULL ? xstrndup(domain, strcspn(domain, ":")) : NULL;
    list_init(&t->connections);
    if (!authority_load(&t->authority, dir, st)) {
        tls_server_free(t);
        return NULL;
    }
    if (!make_context(t)) {
        status_set(st, CODE_INTERNAL, 0, "TLS cannot be set up");
        tls_server_free(t);
        return NULL;
    }
    return t;
}

void tls_server_free(struct tls_server *t)
{
    if (t == NULL)
        return;
    LIST_FOR_EACH_SAFE (node, &t->connections)
        conn_free(container_of(node, struct tls_conn, node));
    SSL_CTX_free(t->ctx);
    authority_deinit(&t->authority);
    free(t->domain);
    free(t);
}
