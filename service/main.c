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
#include "service/app.h"
#include "service/config.h"
#include "service/e2b/e2b.h"
#include "service/embedded_recorder.h"
#include "service/handlers/methods.h"
#include "service/local_runtime.h"
#include "service/rpc/server.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>

enum { EXIT_USAGE = 2, EXIT_HARD_STOP = 3 };

struct program_state {
    struct config config;
    struct app app;
    struct server *server;
    struct local_runtime local;
    pthread_t relay;
    bool relaying;
};

static bool fail(const struct status *st)
{
    fprintf(stderr, "sandboxd: %s\n", st->message);
    return false;
}

/* Every stream to a sandbox is a descriptor. */
static void raise_descriptor_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

static bool start_local(struct program_state *p, struct status *st)
{
    if (!p->config.local)
        return true;
    if (!local_runtime_start(&p->local, p->config.local_runtime, p->config.local_data_dir, st))
        return false;
    p->config.e2b_api_key = p->local.api_key;
    p->config.e2b_api_url = p->local.url;
    p->config.e2b_sandbox_url = p->local.url;
    p->relaying = pthread_create(&p->relay, NULL, local_runtime_relay, &p->local) == 0;
    return true;
}

static bool start_e2b(struct program_state *p, struct status *st)
{
    const struct config *c = &p->config;
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
        .read_file_max_bytes = (size_t)c->read_file_max,
        .recorder = recorder_start,
        .recorder_len = (size_t)(recorder_end - recorder_start),
    };

    return e2b_new(&e2b, &p->app.e2b, st);
}

static bool start_server(struct program_state *p, struct status *st)
{
    const struct config *c = &p->config;
    const struct server_config server = {
        .listen = c->listen,
        .workers = (int)c->workers,
        .max_message_bytes = c->message_max,
        .max_connection_age_ms = c->connection_age_ms,
        .max_connection_age_grace_ms = c->connection_age_grace_ms,
        .keepalive_ms = c->keepalive_ms,
        .methods = methods,
        .n_methods = n_methods,
        .app = &p->app,
    };

    return server_new(&server, &p->server, st) && server_start(p->server, st);
}

static bool start(struct program_state *p)
{
    struct status st = STATUS_INIT;

    p->app.config = &p->config;
    if (!start_local(p, &st))
        return fail(&st);
    rpc_init();
    if (!start_e2b(p, &st) || !start_server(p, &st))
        return fail(&st);
    log_info("ready", LOG_S("listen", server_address(p->server)),
             LOG_S("version", SANDBOXD_VERSION),
             LOG_S("e2b", p->config.local ? "local" : p->config.e2b_domain));
    return true;
}

static void stop(struct program_state *p)
{
    if (p->server != NULL)
        server_shutdown(p->server, p->config.drain_budget_ms);
    server_free(p->server);
    e2b_free(p->app.e2b);
    rpc_deinit();
    local_runtime_stop(&p->local);
    if (p->relaying)
        pthread_join(p->relay, NULL);
}

static void block_signals(sigset_t *set)
{
    sigemptyset(set);
    sigaddset(set, SIGTERM);
    sigaddset(set, SIGINT);
    pthread_sigmask(SIG_BLOCK, set, NULL);
    signal(SIGPIPE, SIG_IGN);
}

static void *wait_for_second_signal(void *arg)
{
    const sigset_t *set = arg;
    int number;

    sigwait(set, &number);
    log_warn("second signal: ending at once");
    _Exit(EXIT_HARD_STOP);
}

static void drain(struct program_state *p, sigset_t *set)
{
    pthread_t second;
    int64_t settle_ms = p->config.drain_settle_ms;

    if (pthread_create(&second, NULL, wait_for_second_signal, set) == 0)
        pthread_detach(second);
    server_drain(p->server);
    if (settle_ms > 0)
        nanosleep(&(struct timespec){settle_ms / 1000, settle_ms % 1000 * 1000000}, NULL);
}

int main(int argc, char **argv)
{
    static struct program_state p;
    struct status st = STATUS_INIT;
    enum log_level level = LOG_INFO;
    sigset_t set;
    int number;

    switch (config_read(&p.config, argc, argv, &st)) {
    case CONFIG_DONE:
        return EXIT_SUCCESS;
    case CONFIG_ERROR:
        fail(&st);
        return EXIT_USAGE;
    case CONFIG_RUN:
        break;
    }
    log_level_from_name(p.config.log_level, &level);
    log_set_level(level);
    raise_descriptor_limit();
    block_signals(&set);
    if (!start(&p)) {
        local_runtime_stop(&p.local);
        return EXIT_FAILURE;
    }
    sigwait(&set, &number);
    log_info("draining", LOG_N("budget_ms", p.config.drain_budget_ms));
    drain(&p, &set);
    stop(&p);
    log_info("stopped");
    return EXIT_SUCCESS;
}
