/* See egress.h: the two sockets of a sandbox, and what all sandboxes share. */
#include "runtime/local/egress/egress.h"

#include "common/base/cleanup.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "runtime/local/egress/ask.h"
#include "runtime/local/egress/conn.h"
#include "runtime/local/egress/route.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { ACCEPTS_PER_ROUND = 16, BREATH_MS = 100, TOLD_MAX = 10 };

static bool read_open(struct egress_server *s, const char *list, struct status *st)
{
    AUTO_FREE char *copy = xstrdup(list);
    struct egress_range range;
    char *rest = copy, *item;

    while ((item = strsep(&rest, ",")) != NULL) {
        if (!egress_range_parse(item, true, &range))
            return status_set(st, CODE_INVALID_ARGUMENT, 0,
                              "\"%s\" is no range of addresses: ADDRESS[/BITS][:PORT]", item);
        egress_ranges_add(&s->open, range);
    }
    return true;
}

/* A connection takes two descriptors; all of them take at most half of those there are. */
static size_t count_connections(void)
{
    struct rlimit limit;

    return getrlimit(RLIMIT_NOFILE, &limit) == 0 ? (size_t)limit.rlim_cur / 4 : 256;
}

bool egress_server_init(struct egress_server *s, struct loop *l, const char *name_servers,
                        const char *const *open, size_t n, struct status *st)
{
    *s = (struct egress_server){.loop = l, .route_fd = -1};
    for (size_t i = 0; i < n; i++) {
        if (!read_open(s, open[i], st))
            return false;
    }
    s->route_fd = egress_route_open();
    if (s->route_fd < 0)
        return status_set(st, CODE_INTERNAL, 0, "no netlink: %s", strerror(errno));
    s->scratch = xmalloc(EGRESS_CHUNK);
    s->connections_max = count_connections();
    s->resolver = egress_resolver_new(l, name_servers, st);
    return s->resolver != NULL;
}

void egress_server_deinit(struct egress_server *s)
{
    if (s->loop == NULL)
        return;
    egress_resolver_free(s->resolver);
    free(s->open.at);
    free(s->scratch);
    if (s->route_fd >= 0)
        close(s->route_fd);
    *s = (struct egress_server){.route_fd = -1};
}

bool egress_may_reach(const struct egress_server *s, uint32_t address, uint16_t port)
{
    if (egress_ranges_have(&s->open, address, port))
        return true;
    return !egress_is_private(address) && egress_route_leaves(s->route_fd, address);
}

static void accept_some(struct egress *e)
{
    struct loop *l = e->server->loop;

    for (int i = 0; i < ACCEPTS_PER_ROUND && e->n_connections < EGRESS_CONNECTIONS_MAX; i++) {
        bool full = e->server->n_connections >= e->server->connections_max;
        int fd = full ? -1 : accept4(e->listener.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

        if (fd >= 0) {
            egress_conn_start(e, fd);
        } else if (full || errno == EMFILE || errno == ENFILE || errno == ENOBUFS ||
                   errno == ENOMEM) {
            loop_modify(l, &e->listener, 0);
            loop_timer_after(l, &e->breath, BREATH_MS);
            return;
        } else if (errno != ECONNABORTED) {
            return;
        }
    }
    if (e->n_connections >= EGRESS_CONNECTIONS_MAX)
        loop_modify(l, &e->listener, 0);
}

static void on_connection(struct loop_fd *io, uint32_t events)
{
    struct egress *e = container_of(io, struct egress, listener);

    /* Events that cannot be masked: the socket is of no use any more. */
    if (events & (EPOLLERR | EPOLLHUP))
        loop_remove(e->server->loop, io);
    else
        accept_some(e);
}

static void on_breath(struct loop_timer *timer)
{
    struct egress *e = container_of(timer, struct egress, breath);

    loop_modify(e->server->loop, &e->listener, EPOLLIN);
}

void egress_connection_ended(struct egress *e)
{
    e->server->n_connections--;
    if (e->n_connections-- == EGRESS_CONNECTIONS_MAX)
        loop_modify(e->server->loop, &e->listener, EPOLLIN);
}

static void on_datagram(struct loop_fd *io, uint32_t events)
{
    egress_ask_datagrams(container_of(io, struct egress, dns));
}

/* Nobody is to wonder where his headers are. */
static void tell_rules(const struct egress *e)
{
    if (e->policy.n_rules > 0)
        log_warn("the headers of network rules are set in plain HTTP to port 80 only, not within "
                 "TLS",
                 LOG_S("sandbox_id", e->id));
}

struct egress *egress_new(struct egress_server *s, const char *id, int take_tcp_fd, int take_dns_fd,
                          struct egress_policy *take)
{
    struct egress *e = xcalloc(1, sizeof(*e));

    *e = (struct egress){
        .server = s,
        .policy = *take,
        .listener = {.fd = take_tcp_fd, .ready = on_connection},
        .dns = {.fd = take_dns_fd, .ready = on_datagram},
        .breath.fire = on_breath,
    };
    *take = (struct egress_policy){.n_domains = 0};
    strncpy(e->id, id, sizeof(e->id) - 1);
    list_init(&e->connections);
    list_init(&e->questions);
    loop_add(s->loop, &e->listener, EPOLLIN, NULL);
    loop_add(s->loop, &e->dns, EPOLLIN, NULL);
    tell_rules(e);
    return e;
}

void egress_set_policy(struct egress *e, struct egress_policy *take)
{
    egress_policy_deinit(&e->policy);
    e->policy = *take;
    e->n_told = 0;
    *take = (struct egress_policy){.n_domains = 0};
    tell_rules(e);
    LIST_FOR_EACH_SAFE (node, &e->connections) {
        struct egress_conn *c = container_of(node, struct egress_conn, in_egress);

        if (!egress_conn_is_permitted(c))
            egress_conn_cut(c);
    }
}

void egress_free(struct egress *e)
{
    if (e == NULL)
        return;
    loop_remove(e->server->loop, &e->listener);
    loop_remove(e->server->loop, &e->dns);
    while (!list_is_empty(&e->connections))
        egress_conn_cut(container_of(e->connections.next, struct egress_conn, in_egress));
    egress_ask_cancel_all(e);
    loop_timer_cancel(e->server->loop, &e->breath);
    close(e->listener.fd);
    close(e->dns.fd);
    egress_policy_deinit(&e->policy);
    egress_names_deinit(&e->names);
    free(e);
}

void egress_tell_denied(struct egress *e, uint32_t address, uint16_t port, const char *name,
                        const char *why)
{
    char text[INET_ADDRSTRLEN];
    struct in_addr v4 = {htonl(address)};

    if (e->n_told++ >= TOLD_MAX)
        return;
    inet_ntop(AF_INET, &v4, text, sizeof(text));
    log_info("connection denied", LOG_S("sandbox_id", e->id), LOG_S("address", text),
             LOG_N("port", port), LOG_S("name", name), LOG_S("reason", why));
}
