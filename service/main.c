/*
 * sandboxd: settings, then the parts in their order, then waiting for a signal, then the parts in
 * reverse. The main thread does nothing else; calls live on workers (rpc/), E2B on threads of its
 * own (e2b/).
 *
 * The first SIGTERM or SIGINT drains: health says NOT_SERVING, long streams are told where to go
 * on, running calls may end. A second one ends at once.
 */
#include "common/base/log.h"
#include "common/base/version.h"
#include "service/admin/admin.h"
#include "service/app.h"
#include "service/archive/archive.h"
#include "service/archive/figures.h"
#include "service/config.h"
#include "service/e2b/e2b.h"
#include "service/embedded_foreign_recorder.h"
#include "service/embedded_recorder.h"
#include "service/handlers/counts.h"
#include "service/handlers/methods.h"
#include "service/identity/figures.h"
#include "service/identity/identity.h"
#include "service/identity/rotation.h"
#include "service/local_runtime.h"
#include "service/metrics/process.h"
#include "service/roster/roster.h"
#include "service/rpc/server.h"
#include "service/trace/tracer.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

enum { EXIT_USAGE = 2 };

/* Sandboxes are on these two, as `uname -m` has them, wherever this runs. */
#ifdef __x86_64__
#define OUR_MACHINE "x86_64"
#define OTHER_MACHINE "aarch64"
#else
#define OUR_MACHINE "aarch64"
#define OTHER_MACHINE "x86_64"
#endif

struct service {
    struct config config;
    struct app app;
    struct local_runtime local;
    struct metrics *metrics; /* owned */
    struct metric *draining;
    struct archive_figures *archive_figures;
    struct admin *admin;   /* owned; NULL: not wanted */
    struct tracer *tracer; /* owned; NULL: not wanted */
    bool rpc_is_up;
    struct watch *watch;       /* owned */
    struct identity *identity; /* owned */
    struct rotation *rotation; /* owned; NULL: no TLS */
    struct server *server;     /* owned */
    int signal_fd;
};

/* --- the process --- */

/* Every stream to a sandbox is a descriptor. */
static void raise_descriptor_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

static sigset_t ending_signals(void)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    return set;
}

/* Before there is any thread: they all inherit the mask. */
static bool catch_signals(struct service *s, struct status *st)
{
    sigset_t set = ending_signals();

    signal(SIGPIPE, SIG_IGN);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    s->signal_fd = signalfd(-1, &set, SFD_CLOEXEC);
    return s->signal_fd >= 0 || status_set(st, CODE_INTERNAL, 0, "no signals: %s", strerror(errno));
}

static void end_at_once(int signal_number)
{
    _exit(EXIT_FAILURE);
}

/* A handler, and not the default action, which the kernel spares the first process of a container.
 */
static void let_signals_end_at_once(void)
{
    sigset_t set = ending_signals();

    signal(SIGTERM, end_at_once);
    signal(SIGINT, end_at_once);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}

/* --- starting --- */

/* Forks, so it comes before everything that has threads. */
static bool start_local(struct service *s, struct status *st)
{
    struct config *c = &s->config;

    if (!c->local)
        return true;
    if (!local_runtime_start(&s->local, c->local_runtime, c->local_data_dir, st))
        return false;
    log_info("the local runtime runs", LOG_S("listen", s->local.url),
             LOG_S("isolation", s->local.isolation), LOG_N("pid", s->local.pid));
    c->e2b_api_key = s->local.api_key;
    c->e2b_api_url = s->local.url;
    c->e2b_sandbox_url = s->local.url;
    return true;
}

static bool start_e2b(struct service *s, struct status *st)
{
    const struct config *c = &s->config;
    const struct e2b_config e2b = {
        .api_key = c->e2b_api_key,
        .domain = c->e2b_domain,
        .api_url = c->e2b_api_url,
        .sandbox_url = c->e2b_sandbox_url,
        .template = c->e2b_template,
        .request_timeout_ms = c->e2b_request_timeout_ms,
        .lease_ms = c->lease_ms,
        .threads = c->e2b_threads,
        .stream_buffer_bytes = (size_t)c->stream_buffer,
        .queue_bytes = (size_t)c->queue_max,
        .read_file_max_bytes = (size_t)c->read_file_max,
        .recorders = {{OUR_MACHINE, recorder_start, (size_t)(recorder_end - recorder_start)},
                      {OTHER_MACHINE, foreign_recorder_start,
                       (size_t)(foreign_recorder_end - foreign_recorder_start)}},
        .metrics = s->metrics,
        .tracer = s->tracer,
    };

    return e2b_new(&e2b, &s->app.e2b, st);
}

static bool start_roster(struct service *s, struct status *st)
{
    const struct roster_config roster = {
        .e2b = s->app.e2b,
        .period_ms = s->config.watch_period_ms,
        .give_up_ms = ROSTER_GIVE_UP_MS,
        .sandboxes_max = ROSTER_SANDBOXES_MAX,
        .bytes_max = ROSTER_BYTES_MAX,
    };

    return roster_new(&roster, &s->app.roster, st);
}

static enum auth_mode auth_mode(const struct config *c)
{
    if (strcmp(c->auth, "keys") == 0)
        return AUTH_KEYS;
    return strcmp(c->auth, "passthrough") == 0 ? AUTH_PASSTHROUGH : AUTH_NONE;
}

/* A call may need a descriptor of its own; some are for the rest of the program. */
static int64_t calls_by_descriptors(void)
{
    enum { OTHERS = 256, AT_LEAST = 64 };
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY)
        return 0;
    return limit.rlim_cur > OTHERS + AT_LEAST ? (int64_t)limit.rlim_cur - OTHERS : AT_LEAST;
}

static bool read_certificate(struct service *s, struct status *st)
{
    const struct config *c = &s->config;
    const struct certificate_files files = {c->tls_cert, c->tls_key, c->tls_client_ca};

    s->watch = watch_new();
    return c->tls_cert == NULL || rotation_new(&files, s->watch, &s->rotation, st);
}

static bool queue_is_full(void *e2b)
{
    return e2b_queue_is_full(e2b);
}

static bool start_identity(struct service *s, struct status *st)
{
    const struct config *c = &s->config;
    const struct identity_config identity = {
        .mode = auth_mode(c),
        .keys_file = c->auth_keys,
        .clients = s->rotation != NULL ? rotation_clients(s->rotation) : NULL,
        .health_is_open = c->health_is_open,
        .reflection_is_open = c->reflection_is_open,
        .queue_is_full = queue_is_full,
        .ctx = s->app.e2b,
        .pod = {.calls = c->max_calls < 0 ? calls_by_descriptors() : c->max_calls,
                .streams = c->max_streams},
        .tenant = {.calls = c->tenant_max_calls,
                   .streams = c->tenant_max_streams,
                   .creates_per_minute = c->tenant_creates_per_minute},
    };

    return identity_new(&identity, s->watch, &s->identity, st);
}

static bool start_archive(struct service *s, struct status *st)
{
    const struct config *c = &s->config;

    s->archive_figures = archive_figures_new(s->metrics);

    const struct archive_config archive = {
        .place = c->archive,
        .s3_endpoint = c->aws_endpoint_url,
        .s3_region = c->aws_region,
        .s3_access_key_id = c->aws_access_key_id,
        .s3_secret_access_key = c->aws_secret_access_key,
        .s3_session_token = c->aws_session_token,
        .timeout_ms = c->archive_timeout_ms,
        /* With a key of their own for each caller there is none to look for sandboxes with. */
        .before_end_ms = auth_mode(c) == AUTH_PASSTHROUGH ? 0 : c->archive_before_end_ms,
        .figures = s->archive_figures,
    };

    return c->archive == NULL || *c->archive == '\0' ||
           archive_new(&archive, s->app.e2b, &s->app.archive, st);
}

static bool start_server(struct service *s, struct status *st)
{
    const struct config *c = &s->config;
    const struct server_config server = {
        .listen = c->listen,
        .workers = (int)c->workers,
        .max_message_bytes = c->message_max,
        .max_connection_age_ms = c->connection_age_ms,
        .max_connection_age_grace_ms = c->connection_age_grace_ms,
        .keepalive_ms = c->keepalive_ms,
        .max_connection_calls = c->max_connection_calls,
        .methods = methods,
        .n_methods = n_methods,
        .certificate = s->rotation != NULL ? rotation_certificate(s->rotation) : NULL,
        .gate = identity_gate(s->identity),
        .metrics = s->metrics,
        .tracer = s->tracer,
        .app = &s->app,
    };

    if (!server_new(&server, &s->server, st) || !server_start(s->server, st))
        return false;
    if (s->rotation != NULL)
        rotation_serve(s->rotation, s->server);
    figures_add(s->metrics, s->identity, s->rotation);
    return watch_start(s->watch, st);
}

/* First of all that has threads, so that it answers while the rest comes up. */
static bool start_admin(struct service *s, struct status *st)
{
    const struct config *c = &s->config;
    const struct admin_config admin = {
        .listen = c->admin_listen,
        .any_port = c->admin_any_port,
        .metrics = s->metrics,
        .config = c,
        .channelz = rpc_channelz,
    };

    rpc_init(); /* channelz asks core */
    s->rpc_is_up = true;
    return *c->admin_listen == '\0' || admin_new(&admin, &s->admin, st);
}

static bool start_tracer(struct service *s, struct status *st)
{
    const struct config *c = &s->config;
    const char *sampler = c->trace_sampler;
    bool follows = strncmp(sampler, "parentbased_", 12) == 0;
    struct tracer_config tracer = {
        .endpoint = c->otlp_endpoint,
        .headers = c->otlp_headers,
        .service_name = c->service_name,
        .resource = c->resource_attributes,
        .sampler = SAMPLER_RATIO,
        .follows_parent = follows,
        .ratio = c->trace_ratio,
        .metrics = s->metrics,
    };

    if (c->otlp_endpoint == NULL)
        return true;
    sampler += follows ? 12 : 0;
    if (strcmp(sampler, "always_on") == 0)
        tracer.sampler = SAMPLER_ALWAYS_ON;
    else if (strcmp(sampler, "always_off") == 0)
        tracer.sampler = SAMPLER_ALWAYS_OFF;
    return tracer_new(&tracer, &s->tracer, st);
}

static void tell_state(struct service *s, enum admin_state state)
{
    if (s->admin != NULL)
        admin_set_state(s->admin, state);
}

static bool start(struct service *s, struct status *st)
{
    s->app.config = &s->config;
    s->app.metrics = s->metrics = metrics_new();
    metrics_add_process(s->metrics);
    s->draining = metrics_add(
        s->metrics, &(struct metric_spec){.name = "sandboxd_draining",
                                          .help = "1 from the signal to end on, 0 before.",
                                          .type = METRIC_GAUGE});
    counts_add(&s->app);
    if (!catch_signals(s, st) || !start_local(s, st) || !start_admin(s, st) ||
        !start_tracer(s, st) || !start_e2b(s, st) || !start_roster(s, st) ||
        !read_certificate(s, st) || !start_identity(s, st) || !start_archive(s, st) ||
        !start_server(s, st))
        return false;
    tell_state(s, ADMIN_READY);
    log_info(
        "ready", LOG_S("listen", server_address(s->server)),
        LOG_S("admin", s->admin != NULL ? admin_address(s->admin) : "none"),
        LOG_S("version", SANDBOXD_VERSION),
        LOG_S("e2b", s->config.e2b_api_url != NULL ? s->config.e2b_api_url : s->config.e2b_domain),
        LOG_N("pid", getpid()));
    return true;
}

/* --- ending --- */

/* False when there is nothing left to serve from. */
static bool wait_for_signal(struct service *s, struct status *st)
{
    struct pollfd fds[] = {{.fd = s->signal_fd, .events = POLLIN},
                           {.fd = s->local.pidfd, .events = POLLIN}}; /* poll() skips -1 */
    struct signalfd_siginfo info;

    while (poll(fds, 2, -1) < 0 && errno == EINTR)
        ;
    if (fds[0].revents == 0)
        return status_set(st, CODE_INTERNAL, 0, "the local runtime has ended");
    if (read(s->signal_fd, &info, sizeof(info)) == sizeof(info))
        log_info("draining", LOG_S("signal", strsignal((int)info.ssi_signo)),
                 LOG_N("settle_ms", s->config.drain_settle_ms),
                 LOG_N("budget_ms", s->config.drain_budget_ms));
    return true;
}

static void drain(struct service *s)
{
    int64_t settle_ms = s->config.drain_settle_ms;

    let_signals_end_at_once();
    tell_state(s, ADMIN_DRAINING);
    metric_set(s->draining, 0, 1);
    server_drain(s->server);
    nanosleep(&(struct timespec){settle_ms / 1000, settle_ms % 1000 * 1000000}, NULL);
    server_shutdown(s->server, s->config.drain_budget_ms);
}

/* Also what was only half started. */
static void stop(struct service *s)
{
    watch_free(s->watch);
    server_free(s->server);
    admin_free(s->admin); /* it asks those below */
    identity_free(s->identity);
    rotation_free(s->rotation);
    archive_free(s->app.archive);
    roster_free(s->app.roster);
    e2b_free(s->app.e2b);
    tracer_free(s->tracer);
    if (s->rpc_is_up)
        rpc_deinit();
    metrics_free(s->metrics);
    archive_figures_free(s->archive_figures);
    local_runtime_stop(&s->local);
    if (s->signal_fd >= 0)
        close(s->signal_fd);
}

static bool run(struct service *s)
{
    struct status st = STATUS_INIT;
    bool ok = start(s, &st);

    if (ok) {
        ok = wait_for_signal(s, &st);
        drain(s);
    }
    stop(s);
    if (!ok)
        log_error("sandboxd cannot go on", LOG_S("error", st.message));
    else
        log_info("stopped");
    return ok;
}

int main(int argc, char **argv)
{
    struct service s = {.local = LOCAL_RUNTIME_INIT, .signal_fd = -1};
    struct status st = STATUS_INIT;
    enum log_level level;

    switch (config_read(&s.config, argc, argv, &st)) {
    case CONFIG_DONE:
        return EXIT_SUCCESS;
    case CONFIG_ERROR:
        fprintf(stderr, "sandboxd: %s\n", st.message);
        return EXIT_USAGE;
    case CONFIG_RUN:
        break;
    }
    if (log_level_from_name(s.config.log_level, &level))
        log_set_level(level);
    log_set_text(strcmp(s.config.log_format, "text") == 0);
    raise_descriptor_limit();
    return run(&s) ? EXIT_SUCCESS : EXIT_FAILURE;
}
