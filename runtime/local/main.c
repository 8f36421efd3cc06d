/*
 * e2b-local: E2B's API on one machine. The zygote is started first, before this process has
 * anything worth keeping from a sandbox; then one loop serves the control plane and the sandboxes'
 * traffic on one port until a signal ends it.
 */
#include "common/base/cleanup.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/http/net.h"
#include "runtime/local/api/api.h"
#include "runtime/local/daemon/observer.h"
#include "runtime/local/daemon/pause.h"
#include "runtime/local/daemon/signature.h"
#include "runtime/local/daemon/workdir.h"
#include "runtime/local/edge/edge.h"
#include "runtime/local/edge/stream.h"
#include "runtime/local/edge/tls.h"
#include "runtime/local/edge/traffic.h"
#include "runtime/local/options.h"
#include "runtime/local/tool.h"
#include "runtime/local/zygote/oom_score.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

/* A file by a signed URL on the address that all sandboxes share. */
static void signed_request(struct daemon *d, struct http_exchange *x)
{
    const struct sandbox *s = signature_find(http_request(x), &d->registry);
    struct route route = {.port = ROUTE_ENVD_PORT};

    if (s == NULL) {
        api_error(x, 401, "invalid signature: it fits no sandbox of this server");
        return;
    }
    strcpy(route.sandbox_id, s->id);
    traffic_request(d, x, &route);
}

static void on_request(struct http_exchange *x, void *ctx)
{
    struct daemon *d = ctx;
    struct route route;

    switch (route_find(http_request(x), d->config.domain, &route)) {
    case ROUTE_API:
        if (signature_is_there(http_request(x)))
            signed_request(d, x);
        else
            api_request(d, x);
        break;
    case ROUTE_SANDBOX:
        traffic_request(d, x, &route);
        break;
    case ROUTE_BAD:
        edge_bad_route(x, route.why);
        break;
    }
}

static void on_accepted(struct http_server *server, int fd, void *ctx)
{
    const struct daemon *d = ctx;

    tls_server_take(d->tls, server, fd);
}

static void read_templates_again(struct daemon *d)
{
    struct status st = STATUS_INIT;

    if (daemon_read_templates(d, &st))
        log_info("templates read", LOG_N("templates", (int64_t)d->templates.n));
    else
        log_error("templates stay as they were", LOG_S("error", st.message));
}

static void on_signal(struct loop_fd *io, uint32_t events)
{
    struct daemon *d = container_of(io, struct daemon, signal_io);
    struct signalfd_siginfo info;

    if (read(io->fd, &info, sizeof(info)) != sizeof(info))
        return;
    if (info.ssi_signo == SIGUSR2) {
        read_templates_again(d);
    } else {
        d->letting_go = info.ssi_signo == SIGUSR1;
        log_info(d->letting_go ? "letting go" : "stopping",
                 LOG_S("signal", strsignal((int)info.ssi_signo)));
        loop_stop(&d->loop);
    }
}

static bool watch_signals(struct daemon *d, struct status *st)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGUSR2);
    sigprocmask(SIG_BLOCK, &set, NULL);
    d->signal_io =
        (struct loop_fd){.fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK), .ready = on_signal};
    if (d->signal_io.fd < 0)
        return status_set(st, CODE_INTERNAL, 0, "no signals: %s", strerror(errno));
    return loop_add(&d->loop, &d->signal_io, EPOLLIN, st);
}

/* Streams are descriptors: as many as we may have. */
static void raise_descriptor_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

static bool start_serving(struct daemon *d, struct status *st)
{
    struct http_server_config config = {.request = on_request, .ctx = d};
    int fd;

    if (!egress_server_init(&d->egress, &d->loop, d->config.name_servers, d->config.egress_open.at,
                            d->config.egress_open.n, st))
        return false;
    d->keeper = (struct keeper){.zygote = d->zygote, .event = daemon_on_event, .ctx = d};
    if (!watch_signals(d, st) || !daemon_start_templates(d, st) || !daemon_adopt(d, st) ||
        !keeper_start(&d->keeper, st))
        return false;
    daemon_adopt_stored(d);
    if (!net_listen_tcp(d->config.listen, &fd, st))
        return false;
    net_local_name(fd, d->address, sizeof(d->address));
    snprintf(d->domain, sizeof(d->domain), "localhost%s", strrchr(d->address, ':'));
    if (d->config.domain == NULL)
        d->config.domain = d->domain;
    else if (*d->config.domain == '\0')
        d->config.domain = NULL;
    if (d->config.tls) {
        d->tls = tls_server_new(&d->loop, d->config.data_dir, d->config.domain, st);
        config.accepted = on_accepted;
    }
    if (d->config.tls && d->tls == NULL) {
        close(fd);
        return false;
    }
    d->server = http_server_new(&d->loop, &config);
    return http_server_listen(d->server, fd, st) &&
           workdir_leave(d->config.data_dir, "address", d->address, st);
}

static void say_ready(const struct daemon *d)
{
    log_info("ready", LOG_S("listen", d->address),
             LOG_S("tier", zygote_tier(d->zygote) == ZYGOTE_TIER_A ? "A" : "B"),
             LOG_S("isolation", zygote_summary(d->zygote)), LOG_S("data_dir", d->config.data_dir),
             LOG_N("pid", getpid()));
}

/* Behind the zygote's start: sandboxes must not inherit limits and signals of ours. */
static bool run(struct daemon *d, struct status *st)
{
    bool ok = loop_init(&d->loop, st);

    if (!ok)
        return false;
    raise_descriptor_limit();
    oom_score_set(0, OOM_SCORE_OURS);
    signal(SIGPIPE, SIG_IGN); /* a log that nobody reads any more */
    registry_init(&d->registry);
    list_init(&d->keyed);
    list_init(&d->creations);
    list_init(&d->endings);
    list_init(&d->changes);
    snapshots_init(&d->snapshots, d->config.data_dir);
    histories_init(&d->histories);
    d->scratch = xmalloc(STREAM_CHUNK);
    ok = token_seed(d->config.data_dir, d->seed, st) && start_serving(d, st);
    if (ok) {
        say_ready(d);
        loop_run(&d->loop);
        ok = !d->failed || status_set(st, CODE_INTERNAL, 0, "the zygote died");
    }
    d->stopping = true;
    LIST_FOR_EACH_SAFE (node, &d->registry.by_start) {
        struct sandbox *s = container_of(node, struct sandbox, by_start);

        daemon_rest(d, s);
        egress_free(s->egress);
    }
    http_server_free(d->server);
    tls_server_free(d->tls);
    keeper_stop(&d->keeper);
    egress_server_deinit(&d->egress);
    loop_deinit(&d->loop);
    daemon_drop_changes(d);
    daemon_drop_creations(d);
    daemon_drop_endings(d);
    snapshots_deinit(&d->snapshots);
    templates_deinit(&d->templates);
    registry_deinit(&d->registry);
    histories_deinit(&d->histories);
    free(d->scratch);
    close(d->signal_io.fd);
    return ok;
}

/* What is served, and who ends: this process alone, or all. */
static bool serve(struct daemon *d, bool own_dir, struct status *st)
{
    const struct zygote_config config = {.data_dir = d->config.data_dir,
                                         .net_proxy = d->config.egress_proxy,
                                         .orphan_ms = d->config.orphan_ms,
                                         .own_dir = own_dir};
    bool ok;

    d->zygote = zygote_start(&config, st);
    if (d->zygote == NULL)
        return false;
    ok = run(d, st);
    /* That we could not start is no reason to end what went on without us. */
    if (d->letting_go || (!ok && !d->failed && zygote_was_there(d->zygote)))
        zygote_release(d->zygote);
    else
        zygote_stop(d->zygote);
    if (d->failed) /* a new zygote removes what the dead one left */
        zygote_stop(zygote_start(&config, NULL));
    return ok;
}

int main(int argc, char **argv)
{
    struct daemon d = {
        .signal_io.fd = -1,
    };
    AUTO_FREE char *own_dir = NULL, *data_dir = NULL;
    struct status st = STATUS_INIT;
    int exit_code;
    bool ok = true;

    if (argc > 1 && tool_is_verb(argv[1]))
        return tool_run(argc, argv);
    if (!options_read(&d.config, argc, argv, &exit_code))
        return exit_code;
    if (d.config.data_dir == NULL)
        d.config.data_dir = own_dir = workdir_make(&st);
    else
        d.config.data_dir = data_dir = workdir_absolute(d.config.data_dir, &st);
    ok = d.config.data_dir != NULL;
    if (ok)
        ok = serve(&d, own_dir != NULL, &st);
    if (own_dir != NULL)
        workdir_remove(own_dir);
    if (!ok)
        log_error("e2b-local cannot go on", LOG_S("error", st.message));
    return ok ? EXIT_SUCCESS : EXIT_FAILURE;
}
