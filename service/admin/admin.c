/*
 * See admin.h: the thread, and which path leads where. The pages of /debug/ are for somebody on the
 * machine (or in the pod, as kubectl port-forward is): a peer from elsewhere is refused them even
 * where it may read metrics.
 */
#include "service/admin/admin.h"

#include "common/base/cleanup.h"
#include "common/base/list.h"
#include "common/base/mem.h"
#include "common/http/net.h"
#include "common/http/server.h"
#include "service/admin/pages.h"

#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/socket.h>

enum { CONNECTIONS_MAX = 64, IDLE_MS = 60 * 1000 };

struct admin {
    struct admin_config config;
    char address[300];
    struct loop loop;
    struct http_server *server; /* owned; on the loop's thread */
    pthread_t thread;
    bool running;
    struct task stop;
    _Atomic enum admin_state state;
};

static const struct {
    const char *path, *what;
    bool debug;
    void (*serve)(const struct admin_config *config, enum admin_state state,
                  struct http_exchange *x);
} pages[] = {
    {"/metrics", "what is counted, for Prometheus", false, page_metrics},
    {"/livez", "whether the process is well", false, page_livez},
    {"/readyz", "whether calls should come here; ?verbose says why", false, page_readyz},
    {"/version", "which build this is", false, page_version},
    {"/debug/config", "every option, its value, and where that came from", true, page_config},
    {"/debug/channelz", "gRPC's servers; ?server=N its connections, ?socket=N one of them", true,
     page_channelz},
};

enum { N_PAGES = sizeof(pages) / sizeof(pages[0]) };

static void serve_index(struct http_exchange *x)
{
    AUTO(buf_deinit) struct buf text = BUF_INIT(4096);

    for (size_t i = 0; i < N_PAGES; i++)
        buf_printf(&text, "%-16s %s\n", pages[i].path, pages[i].what);
    http_reply(x, 200, "text/plain", buf_data(&text), buf_len(&text));
}

static bool is_loopback(const struct sockaddr_storage *peer)
{
    const struct sockaddr_in *v4 = (const struct sockaddr_in *)peer;
    const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)peer;

    if (peer->ss_family == AF_INET)
        return ntohl(v4->sin_addr.s_addr) >> 24 == 127;
    return peer->ss_family == AF_INET6 &&
           (IN6_IS_ADDR_LOOPBACK(&v6->sin6_addr) ||
            (IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr) && v6->sin6_addr.s6_addr[12] == 127));
}

static bool is_near(struct http_exchange *x)
{
    struct sockaddr_storage peer;
    socklen_t len = sizeof(peer);

    return getpeername(http_fd(x), (struct sockaddr *)&peer, &len) == 0 && is_loopback(&peer);
}

static void refuse(struct http_exchange *x, int status, const char *why)
{
    http_reply(x, status, "text/plain", why, strlen(why));
}

static void on_request(struct http_exchange *x, void *ctx)
{
    struct admin *a = ctx;
    const struct http_head *head = http_request(x);

    http_preset(x, "Cache-Control", "no-store");
    http_preset(x, "X-Content-Type-Options", "nosniff");
    if (!http_method_is(head, "GET") && !http_method_is(head, "HEAD")) {
        http_preset(x, "Allow", "GET, HEAD");
        refuse(x, 405, "this port only tells\n");
        return;
    }
    if (http_path_is(head, "/")) {
        serve_index(x);
        return;
    }
    for (size_t i = 0; i < N_PAGES; i++) {
        if (!http_path_is(head, pages[i].path))
            continue;
        if (pages[i].debug && !is_near(x))
            refuse(x, 403, "this page is for this machine only: use kubectl port-forward\n");
        else
            pages[i].serve(&a->config, atomic_load(&a->state), x);
        return;
    }
    refuse(x, 404, "no such page; / lists those there are\n");
}

/* --- life --- */

static void *run(void *arg)
{
    struct admin *a = arg;

    pthread_setname_np(pthread_self(), "admin");
    loop_run(&a->loop);
    return NULL;
}

static void stop(struct task *task)
{
    struct admin *a = container_of(task, struct admin, stop);

    http_server_free(a->server);
    loop_stop(&a->loop);
}

static bool listen_on(struct admin *a, int *ret_fd, struct status *st)
{
    const char *colon = strrchr(a->config.listen, ':');
    AUTO_FREE char *any = NULL;

    if (net_listen_tcp(a->config.listen, ret_fd, st))
        return true;
    if (!a->config.any_port || colon == NULL)
        return status_prefix(st, "the admin port: ");
    any = xasprintf("%.*s:0", (int)(colon - a->config.listen), a->config.listen);
    return net_listen_tcp(any, ret_fd, st);
}

static bool start(struct admin *a, int fd, struct status *st)
{
    const struct http_server_config server = {
        .request = on_request,
        .ctx = a,
        .idle_ms = IDLE_MS,
        .max_connections = CONNECTIONS_MAX,
    };
    int error;

    if (!net_local_name(fd, a->address, sizeof(a->address))) {
        close(fd);
        return status_set(st, CODE_INTERNAL, 0, "the admin port has no address");
    }
    a->server = http_server_new(&a->loop, &server);
    if (!http_server_listen(a->server, fd, st))
        return false;
    error = pthread_create(&a->thread, NULL, run, a);
    if (error != 0)
        return status_set(st, CODE_INTERNAL, 0, "cannot start a thread: %s", strerror(error));
    a->running = true;
    return true;
}

bool admin_new(const struct admin_config *config, struct admin **ret, struct status *st)
{
    struct admin *a = xcalloc(1, sizeof(*a));
    int fd;

    a->config = *config;
    a->stop.run = stop;
    atomic_init(&a->state, ADMIN_STARTING);
    if (!loop_init(&a->loop, st)) {
        free(a);
        return false;
    }
    if (!listen_on(a, &fd, st) || !start(a, fd, st)) {
        admin_free(a);
        return false;
    }
    *ret = a;
    return true;
}

void admin_free(struct admin *a)
{
    if (a == NULL)
        return;
    if (a->running) {
        executor_post(loop_executor(&a->loop), &a->stop);
        pthread_join(a->thread, NULL);
    } else if (a->server != NULL) {
        http_server_free(a->server);
    }
    loop_deinit(&a->loop);
    free(a);
}

const char *admin_address(const struct admin *a)
{
    return a->address;
}

void admin_set_state(struct admin *a, enum admin_state state)
{
    atomic_store(&a->state, state);
}
