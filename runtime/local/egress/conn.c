/*
 * See egress_conn.h. The order of things: where does it go; is that for us, as a name server or a
 * proxy; may it be reached at all; does a rule speak of names, and which is meant; look that up;
 * dial; relay. Until the last, at most HTTP_HEAD_MAX bytes of the client are read.
 *
 * When a rule lets a connection pass because of the name the client gives, we look that name up
 * ourselves and dial what we find, wherever the client was going: it may have made the address up.
 */
#include "runtime/local/egress/conn.h"

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "runtime/local/zygote/sandbox_net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter_ipv4.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum {
    PATIENCE_MS = 15000,    /* for a client to say whom it wants */
    READS_MAX = 64,         /* it may take; each looks at all there is */
    DNS_IDLE_MS = 30000,    /* between questions over TCP */
    DNS_UNREAD_MAX = 65536, /* answers that the client does not take */
    TLS_HANDSHAKE = 0x16,   /* the first byte of what is encrypted */
};

static void conn_free(struct egress_conn *c)
{
    struct egress *e = c->egress;

    list_unlink(&c->in_egress);
    loop_timer_cancel(e->server->loop, &c->patience);
    egress_lookup_cancel(c->lookup);
    egress_ask_cancel(c->asked);
    egress_dial_cancel(c->dial);
    duplex_close(&c->duplex);
    buf_deinit(&c->in);
    if (c->http != NULL)
        egress_http_deinit(c->http);
    free(c->http);
    free(c);
    egress_connection_ended(e);
}

/* A stream that is closed so looks broken, not complete. */
static void reset_on_close(const struct stream *s)
{
    const struct linger at_once = {.l_onoff = 1};

    if (s->loop != NULL)
        setsockopt(s->io.fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
}

void egress_conn_cut(struct egress_conn *c)
{
    reset_on_close(&c->duplex.side[0]);
    reset_on_close(&c->duplex.side[1]);
    conn_free(c);
}

static void end(struct egress_conn *c, int status, const char *why)
{
    if (c->proxied) {
        egress_proxy_reply(c, status, why);
        conn_free(c);
    } else {
        egress_conn_cut(c);
    }
}

void egress_conn_deny(struct egress_conn *c, const char *why)
{
    egress_tell_denied(c->egress, c->address, c->port, c->name, why);
    end(c, 403, why);
}

void egress_conn_fail(struct egress_conn *c, const char *why)
{
    end(c, 502, why);
}

bool egress_conn_is_permitted(const struct egress_conn *c)
{
    /* Not yet judged: the new policy will. */
    if (c->dial == NULL && c->duplex.side[1].loop == NULL)
        return true;
    return egress_policy_permits(&c->egress->policy, c->address, c->name);
}

static void on_patience(struct loop_timer *timer)
{
    egress_conn_fail(container_of(timer, struct egress_conn, patience), "no request came in time");
}

bool egress_conn_read(struct egress_conn *c)
{
    size_t room = buf_room(&c->in) < EGRESS_CHUNK ? buf_room(&c->in) : EGRESS_CHUNK;
    ssize_t n = recv(c->duplex.side[0].io.fd, c->egress->server->scratch, room, MSG_DONTWAIT);

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return false;
    if (n <= 0 || ++c->reads > READS_MAX) {
        egress_conn_cut(c);
        return false;
    }
    buf_append(&c->in, c->egress->server->scratch, (size_t)n);
    return true;
}

/* What a rule sets in the requests of this connection; NULL: nothing. */
static const struct pairs *headers_of(const struct egress_conn *c)
{
    return c->port == 80 ? egress_policy_headers(&c->egress->policy, c->name) : NULL;
}

static bool on_pass(struct duplex *d, const uint8_t *data, size_t len)
{
    struct egress_conn *c = container_of(d, struct egress_conn, duplex);
    struct buf out = BUF_INIT(EGRESS_HTTP_OUT_MAX);
    bool fine = egress_http_pass(c->http, headers_of(c), data, len, &out);

    if (buf_len(&out) > 0)
        stream_send_bytes(&d->side[1], buf_data(&out), buf_len(&out));
    buf_deinit(&out);
    return fine;
}

static void on_done(struct duplex *d, bool complete)
{
    struct egress_conn *c = container_of(d, struct egress_conn, duplex);

    if (complete)
        conn_free(c);
    else
        egress_conn_cut(c);
}

/* Whether what the client says is plain HTTP that has to be looked at. */
static bool is_http(const struct egress_conn *c)
{
    if (c->proxied && !c->connects)
        return true;
    return headers_of(c) != NULL &&
           (c->connects || (buf_len(&c->in) > 0 && *buf_data(&c->in) != TLS_HANDSHAKE));
}

/* What the client has said goes first. False: it is not what it has to be. */
static bool send_first(struct egress_conn *c)
{
    if (is_http(c)) {
        c->http = xcalloc(1, sizeof(*c->http));
        egress_http_init(c->http, c->name, c->proxied && !c->connects);
        c->duplex.pass = on_pass;
        return on_pass(&c->duplex, buf_data(&c->in), buf_len(&c->in));
    }
    if (buf_len(&c->in) > 0)
        stream_send_bytes(&c->duplex.side[1], buf_data(&c->in), buf_len(&c->in));
    return true;
}

static void relay(struct egress_conn *c, int fd)
{
    duplex_init(&c->duplex);
    stream_open(&c->duplex.side[1], c->egress->server->loop, fd);
    if (c->connects)
        egress_proxy_reply(c, 200, NULL);
    if (!send_first(c)) {
        egress_conn_cut(c);
        return;
    }
    buf_deinit(&c->in);
    duplex_start(&c->duplex);
}

static void on_dialled(void *ctx, int fd, uint32_t address, int error)
{
    struct egress_conn *c = ctx;

    c->dial = NULL;
    if (fd >= 0) {
        c->address = address;
        relay(c, fd);
    } else if (error == EACCES) {
        egress_conn_deny(c, "the address is one that no sandbox may reach");
    } else {
        egress_conn_fail(c, strerror(error));
    }
}

void egress_conn_dial(struct egress_conn *c, const uint32_t *addresses, size_t n)
{
    struct egress_server *s = c->egress->server;

    stream_read(&c->duplex.side[0], false);
    loop_timer_cancel(s->loop, &c->patience);
    c->address = addresses[0];
    c->dial = egress_dial_start(s, addresses, n, c->port, on_dialled, c);
}

static void on_resolved(void *ctx, enum egress_dns_code code,
                        const struct egress_dns_address *found, size_t n)
{
    struct egress_conn *c = ctx;
    uint32_t permitted[EGRESS_DNS_ADDRESSES_MAX];
    size_t n_permitted = 0;

    c->lookup = NULL;
    for (size_t i = 0; i < n; i++) {
        uint32_t address = found[i].address;

        if (!egress_may_reach(c->egress->server, address, c->port) ||
            !egress_policy_permits(&c->egress->policy, address, c->name))
            continue;
        permitted[n_permitted++] = address;
        /* Where the client was going comes first. */
        if (address == c->address) {
            permitted[n_permitted - 1] = permitted[0];
            permitted[0] = address;
        }
    }
    if (n_permitted > 0)
        egress_conn_dial(c, permitted, n_permitted);
    else if (n > 0)
        egress_conn_deny(c, "its name has no address that this sandbox may reach");
    else
        egress_conn_fail(c, "its name has no address");
}

void egress_conn_resolve(struct egress_conn *c)
{
    struct egress_server *s = c->egress->server;

    stream_read(&c->duplex.side[0], false);
    loop_timer_cancel(s->loop, &c->patience);
    c->lookup = egress_resolve(s->resolver, c->name, on_resolved, c);
}

/* The client has said whom it means, or that it does not say. */
static void on_named(struct egress_conn *c)
{
    const struct egress_policy *p = &c->egress->policy;

    /* What goes with headers of a rule must go to whom they are for. */
    if (egress_policy_domain(p, c->name) ||
        (headers_of(c) != NULL && egress_policy_permits(p, c->address, NULL)))
        egress_conn_resolve(c);
    else if (egress_policy_permits(p, c->address, NULL))
        egress_conn_dial(c, &c->address, 1);
    else
        egress_conn_deny(c, "a rule of this sandbox denies it");
}

static void on_sniffable(struct stream *s)
{
    struct egress_conn *c = container_of(s, struct egress_conn, duplex.side[0]);
    enum egress_sniff result;

    if (!egress_conn_read(c))
        return;
    if (*buf_data(&c->in) == TLS_HANDSHAKE)
        result = egress_sniff_tls(buf_data(&c->in), buf_len(&c->in), c->name);
    else
        result = egress_sniff_http(buf_data(&c->in), buf_len(&c->in), c->name);
    if (result == EGRESS_SNIFF_MORE && buf_len(&c->in) < EGRESS_SNIFF_MAX)
        return;
    if (result != EGRESS_SNIFF_NAME)
        c->name[0] = '\0';
    on_named(c);
}

static void listen_to(struct egress_conn *c, void (*readable)(struct stream *s), int64_t ms)
{
    c->duplex.side[0].readable = readable;
    loop_timer_after(c->egress->server->loop, &c->patience, ms);
    stream_read(&c->duplex.side[0], true);
}

/* Whether rules speak of names that the client is going to tell. */
static bool needs_name(const struct egress_conn *c)
{
    const struct egress_policy *p = &c->egress->policy;

    if (c->port == 80 && p->n_rules > 0)
        return true;
    return (c->port == 80 || c->port == 443) && p->n_domains > 0 &&
           egress_policy_address(p, c->address) != EGRESS_ALLOWED;
}

/* To an address of the sandbox's own choice. */
static void judge(struct egress_conn *c)
{
    struct egress *e = c->egress;
    const char *name;

    if (!egress_may_reach(e->server, c->address, c->port)) {
        egress_conn_deny(c, "the address is one that no sandbox may reach");
    } else if (needs_name(c)) {
        listen_to(c, on_sniffable, PATIENCE_MS);
    } else if (egress_policy_permits(&e->policy, c->address, NULL)) {
        egress_conn_dial(c, &c->address, 1);
    } else {
        name = egress_names_find(&e->names, c->address, &e->policy, clock_monotonic_ns());
        if (name != NULL) {
            strcpy(c->name, name);
            egress_conn_dial(c, &c->address, 1);
        } else {
            egress_conn_deny(c, "a rule of this sandbox denies it");
        }
    }
}

static void next_question(struct egress_conn *c);

static void on_answered(void *ctx, const struct egress_dns_question *q, struct buf *answer)
{
    struct egress_conn *c = ctx;
    uint8_t size[2] = {(uint8_t)(buf_len(answer) >> 8), (uint8_t)buf_len(answer)};
    struct iovec v[2] = {{size, 2}, {buf_data(answer), buf_len(answer)}};

    stream_send(&c->duplex.side[0], v, 2);
    if (c->asked != NULL) {
        c->asked = NULL; /* not from inside the question */
        next_question(c);
    }
}

/* Asks what is complete in c->in, one after the other. */
static void next_question(struct egress_conn *c)
{
    while (c->asked == NULL && buf_len(&c->in) >= 2) {
        const uint8_t *data = buf_data(&c->in);
        size_t len = (size_t)data[0] << 8 | data[1];

        if (buf_len(&c->in) < 2 + len)
            break;
        c->asked = egress_ask(c->egress, data + 2, len, on_answered, c);
        buf_consume(&c->in, 2 + len);
    }
    stream_read(&c->duplex.side[0], c->asked == NULL);
    if (c->asked == NULL)
        loop_timer_after(c->egress->server->loop, &c->patience, DNS_IDLE_MS);
}

static void on_question(struct stream *s)
{
    struct egress_conn *c = container_of(s, struct egress_conn, duplex.side[0]);

    c->reads = 0;
    if (buf_len(&s->out) > DNS_UNREAD_MAX)
        egress_conn_cut(c);
    else if (egress_conn_read(c))
        next_question(c);
}

/* Where the sandbox's connection goes; false when we are meant ourselves. */
static bool find_target(struct egress_conn *c, int fd)
{
    struct sockaddr_in to;
    socklen_t size = sizeof(to);
    struct in_addr gateway;

    inet_pton(AF_INET, SANDBOX_NET_GATEWAY, &gateway);
    if (getsockopt(fd, IPPROTO_IP, SO_ORIGINAL_DST, &to, &size) < 0)
        return false;
    c->address = ntohl(to.sin_addr.s_addr);
    c->port = ntohs(to.sin_port);
    return to.sin_addr.s_addr != gateway.s_addr || c->port != SANDBOX_NET_PORT;
}

void egress_conn_start(struct egress *e, int fd)
{
    struct egress_conn *c = xcalloc(1, sizeof(*c));
    bool elsewhere;
    int on = 1;

    *c = (struct egress_conn){
        .egress = e,
        .duplex = {.scratch = e->server->scratch, .chunk = EGRESS_CHUNK, .done = on_done},
        .in = BUF_INIT(HTTP_HEAD_MAX + 2),
        .patience.fire = on_patience,
    };
    c->duplex.side[0].high = c->duplex.side[1].high = EGRESS_CHUNK;
    list_append(&e->connections, &c->in_egress);
    e->n_connections++;
    e->server->n_connections++;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    elsewhere = find_target(c, fd);
    stream_open(&c->duplex.side[0], e->server->loop, fd);
    if (!elsewhere) {
        c->proxied = true;
        listen_to(c, NULL, PATIENCE_MS);
        egress_proxy_start(c);
    } else if (c->port == 53) {
        listen_to(c, on_question, DNS_IDLE_MS);
    } else {
        judge(c);
    }
}
