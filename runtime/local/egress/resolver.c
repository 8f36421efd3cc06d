/*
 * See egress_resolver.h. c-ares asks; its sockets and timeouts are the loop's. A lookup is freed by
 * its own task, which is posted when the answer is there: a cancelled one just tells nobody.
 */
#include "runtime/local/egress/resolver.h"

#include "common/base/clock.h"
#include "common/base/list.h"
#include "common/base/mem.h"

#include <ares.h>
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

enum {
    TRY_MS = 2000,
    TRIES = 2,
    CACHE_SLOTS = 256,
    TTL_MAX = 60, /* told to sandboxes, and kept here, in seconds */
    CLASS_INTERNET = 1,
};

static const char host_configuration[] = "/etc/resolv.conf";

struct answer {
    enum egress_dns_code code;
    struct egress_dns_address at[EGRESS_DNS_ADDRESSES_MAX];
    size_t n;
};

struct cached {
    char name[EGRESS_NAME_MAX + 1];
    struct answer answer;
    int64_t until_ns;
};

struct egress_resolver {
    struct loop *loop; /* borrowed */
    ares_channel channel;
    char *servers; /* owned; NULL: the host's */
    struct timespec configured;
    struct loop_timer timeout;
    struct list watched;
    struct cached *cache[CACHE_SLOTS]; /* owned */
};

/* A socket of c-ares. */
struct watched {
    struct list node;
    struct loop_fd io;
    struct egress_resolver *resolver; /* borrowed */
};

struct egress_lookup {
    struct task task;
    struct egress_resolver *resolver; /* borrowed */
    char name[EGRESS_NAME_MAX + 1];
    egress_resolved *resolved; /* one of the two; both NULL: cancelled */
    egress_relayed *relayed;
    void *ctx; /* borrowed */
    struct answer answer;
    uint8_t *message; /* owned */
    size_t message_len;
};

/* c-ares has sockets and deadlines of its own choice after each call into it. */
static void arm(struct egress_resolver *r)
{
    struct timeval wait;

    if (ares_timeout(r->channel, NULL, &wait) == NULL)
        loop_timer_cancel(r->loop, &r->timeout);
    else
        loop_timer_after(r->loop, &r->timeout, wait.tv_sec * 1000 + wait.tv_usec / 1000 + 1);
}

static void on_timeout(struct loop_timer *timer)
{
    struct egress_resolver *r = container_of(timer, struct egress_resolver, timeout);

    ares_process_fd(r->channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
    arm(r);
}

static void on_ready(struct loop_fd *io, uint32_t events)
{
    struct egress_resolver *r = container_of(io, struct watched, io)->resolver;
    int fd = io->fd;

    /* io may be gone afterwards. */
    ares_process_fd(r->channel, events & ~(uint32_t)EPOLLOUT ? fd : ARES_SOCKET_BAD,
                    events & EPOLLOUT ? fd : ARES_SOCKET_BAD);
    arm(r);
}

static void unwatch(struct watched *w)
{
    loop_remove(w->resolver->loop, &w->io);
    list_unlink(&w->node);
    free(w);
}

static struct watched *find_watched(struct egress_resolver *r, int fd)
{
    LIST_FOR_EACH (node, &r->watched) {
        struct watched *w = container_of(node, struct watched, node);

        if (w->io.fd == fd)
            return w;
    }
    return NULL;
}

static void on_socket(void *resolver, ares_socket_t fd, int readable, int writable)
{
    struct egress_resolver *r = resolver;
    struct watched *w = find_watched(r, fd);
    uint32_t events = (readable ? EPOLLIN : 0) | (writable ? EPOLLOUT : 0);

    if (events == 0) {
        if (w != NULL)
            unwatch(w);
        return;
    }
    if (w == NULL) {
        w = xcalloc(1, sizeof(*w));
        *w = (struct watched){.io = {.fd = fd, .ready = on_ready}, .resolver = r};
        list_append(&r->watched, &w->node);
        loop_add(r->loop, &w->io, events, NULL);
    } else {
        loop_modify(r->loop, &w->io, events);
    }
}

static struct timespec changed_at(void)
{
    struct stat info;

    return stat(host_configuration, &info) == 0 ? info.st_mtim : (struct timespec){0, 0};
}

static bool open_channel(struct egress_resolver *r, struct status *st)
{
    struct ares_options options = {
        .timeout = TRY_MS,
        .tries = TRIES,
        .sock_state_cb = on_socket,
        .sock_state_cb_data = r,
    };
    /* No domains: names are complete as sandboxes write them. */
    int result = ares_init_options(&r->channel, &options,
                                   ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_DOMAINS |
                                       ARES_OPT_SOCK_STATE_CB);

    if (result != ARES_SUCCESS)
        return status_set(st, CODE_INTERNAL, 0, "no resolver: %s", ares_strerror(result));
    r->configured = changed_at();
    if (r->servers == NULL)
        return true;
    result = ares_set_servers_ports_csv(r->channel, r->servers);
    if (result == ARES_SUCCESS)
        return true;
    ares_destroy(r->channel);
    return status_set(st, CODE_INVALID_ARGUMENT, 0, "\"%s\" are no name servers: IP[:PORT],…",
                      r->servers);
}

/* A machine that moves to another network gets other name servers. */
static void follow_host(struct egress_resolver *r)
{
    struct timespec now = r->servers == NULL ? changed_at() : r->configured;
    ares_channel old = r->channel;

    if (now.tv_sec == r->configured.tv_sec && now.tv_nsec == r->configured.tv_nsec)
        return;
    if (open_channel(r, NULL))
        ares_destroy(old);
    else
        r->channel = old;
}

struct egress_resolver *egress_resolver_new(struct loop *l, const char *servers, struct status *st)
{
    struct egress_resolver *r = xcalloc(1, sizeof(*r));

    *r = (struct egress_resolver){.loop = l, .timeout.fire = on_timeout};
    list_init(&r->watched);
    if (servers != NULL)
        r->servers = xstrdup(servers);
    if (ares_library_init(ARES_LIB_INIT_ALL) == ARES_SUCCESS && open_channel(r, st))
        return r;
    free(r->servers);
    free(r);
    return NULL;
}

void egress_resolver_free(struct egress_resolver *r)
{
    if (r == NULL)
        return;
    ares_destroy(r->channel);
    ares_library_cleanup();
    loop_timer_cancel(r->loop, &r->timeout);
    for (size_t i = 0; i < CACHE_SLOTS; i++)
        free(r->cache[i]);
    free(r->servers);
    free(r);
}

static struct cached **slot_of(struct egress_resolver *r, const char *name)
{
    uint32_t hash = 2166136261u; /* FNV-1a */

    for (; *name != '\0'; name++)
        hash = (hash ^ (uint8_t)*name) * 16777619u;
    return &r->cache[hash % CACHE_SLOTS];
}

static const struct cached *find_cached(struct egress_resolver *r, const char *name)
{
    const struct cached *c = *slot_of(r, name);

    return c != NULL && strcmp(c->name, name) == 0 && clock_monotonic_ns() < c->until_ns ? c : NULL;
}

/* For as long as the shortest of its addresses holds. */
static void keep(struct egress_resolver *r, const char *name, const struct answer *a)
{
    struct cached **slot = slot_of(r, name);
    uint32_t ttl = TTL_MAX;

    for (size_t i = 0; i < a->n; i++)
        ttl = a->at[i].ttl < ttl ? a->at[i].ttl : ttl;
    if (a->n == 0 || ttl == 0)
        return;
    if (*slot == NULL)
        *slot = xcalloc(1, sizeof(**slot));
    strcpy((*slot)->name, name);
    (*slot)->answer = *a;
    (*slot)->until_ns = clock_monotonic_ns() + ttl * NS_PER_S;
}

static void tell(struct task *task)
{
    struct egress_lookup *l = container_of(task, struct egress_lookup, task);

    if (l->resolved != NULL)
        l->resolved(l->ctx, l->answer.code, l->answer.at, l->answer.n);
    else if (l->relayed != NULL)
        l->relayed(l->ctx, l->message, l->message_len);
    free(l->message);
    free(l);
}

static void finish(struct egress_lookup *l)
{
    executor_post(loop_executor(l->resolver->loop), &l->task);
}

static enum egress_dns_code code_of(int status)
{
    switch (status) {
    case ARES_SUCCESS:
    case ARES_ENODATA:
        return EGRESS_DNS_OK;
    case ARES_ENOTFOUND:
        return EGRESS_DNS_NO_NAME;
    default:
        return EGRESS_DNS_SERVER_FAILURE;
    }
}

static void add_address(struct answer *a, const struct ares_addrinfo_node *node)
{
    const struct sockaddr_in *v4 = (const void *)node->ai_addr;
    int ttl = node->ai_ttl < 0 ? 0 : node->ai_ttl;

    if (node->ai_family != AF_INET || a->n == EGRESS_DNS_ADDRESSES_MAX)
        return;
    a->at[a->n++] = (struct egress_dns_address){ntohl(v4->sin_addr.s_addr),
                                                (uint32_t)(ttl < TTL_MAX ? ttl : TTL_MAX)};
}

static void on_addresses(void *lookup, int status, int timeouts, struct ares_addrinfo *result)
{
    struct egress_lookup *l = lookup;

    l->answer.code = code_of(status);
    for (const struct ares_addrinfo_node *node = result != NULL ? result->nodes : NULL;
         node != NULL; node = node->ai_next)
        add_address(&l->answer, node);
    ares_freeaddrinfo(result);
    if (l->resolved != NULL)
        keep(l->resolver, l->name, &l->answer);
    finish(l);
}

static void on_message(void *lookup, int status, int timeouts, unsigned char *data, int len)
{
    struct egress_lookup *l = lookup;

    if (data != NULL && len > 0) {
        l->message = xmemdup(data, (size_t)len);
        l->message_len = (size_t)len;
    }
    finish(l);
}

static struct egress_lookup *new_lookup(struct egress_resolver *r, const char *name, void *ctx)
{
    struct egress_lookup *l = xcalloc(1, sizeof(*l));

    *l = (struct egress_lookup){.task.run = tell, .resolver = r, .ctx = ctx};
    strcpy(l->name, name);
    return l;
}

struct egress_lookup *egress_resolve(struct egress_resolver *r, const char *name,
                                     egress_resolved *done, void *ctx)
{
    static const struct ares_addrinfo_hints hints = {.ai_family = AF_INET,
                                                     .ai_flags = ARES_AI_NOSORT};
    struct egress_lookup *l = new_lookup(r, name, ctx);
    const struct cached *c;

    l->resolved = done;
    follow_host(r);
    c = find_cached(r, name);
    if (c != NULL) {
        l->answer = c->answer;
        finish(l);
    } else {
        ares_getaddrinfo(r->channel, name, NULL, &hints, on_addresses, l);
        arm(r);
    }
    return l;
}

struct egress_lookup *egress_query(struct egress_resolver *r, const char *name, uint16_t type,
                                   egress_relayed *done, void *ctx)
{
    struct egress_lookup *l = new_lookup(r, name, ctx);

    l->relayed = done;
    follow_host(r);
    ares_query(r->channel, name, CLASS_INTERNET, type, on_message, l);
    arm(r);
    return l;
}

void egress_lookup_cancel(struct egress_lookup *l)
{
    if (l == NULL)
        return;
    l->resolved = NULL;
    l->relayed = NULL;
}
