/* See agent.h: what is served, and who may have it. */
#include "runtime/local/agent/agent.h"

#include "common/base/cleanup.h"
#include "common/connect/json.h"
#include "envd/filesystem/filesystem.pb-c.h"
#include "envd/process/process.pb-c.h"
#include "runtime/local/agent/access.h"
#include "runtime/local/agent/files.h"
#include "runtime/local/agent/handover.h"
#include "runtime/local/agent/init.h"
#include "runtime/local/agent/reply.h"
#include "runtime/local/agent/services.h"
#include "runtime/local/agent/spawn.h"
#include "runtime/local/agent/startup.h"

#include <string.h>
#include <sys/wait.h>

#define PROCESS "/process.Process/"
#define FILESYSTEM "/filesystem.Filesystem/"

static const struct rpc_method methods[] = {
    {PROCESS "List", RPC_UNARY, &process__list_request__descriptor, process_rpc_list},
    {PROCESS "Start", RPC_SERVER_STREAM, &process__start_request__descriptor, process_rpc_start},
    {PROCESS "Connect", RPC_SERVER_STREAM, &process__connect_request__descriptor,
     process_rpc_connect},
    {PROCESS "Update", RPC_UNARY, &process__update_request__descriptor, process_rpc_update},
    {PROCESS "SendInput", RPC_UNARY, &process__send_input_request__descriptor,
     process_rpc_send_input},
    {PROCESS "StreamInput", RPC_CLIENT_STREAM, &process__stream_input_request__descriptor,
     process_rpc_stream_input},
    {PROCESS "SendSignal", RPC_UNARY, &process__send_signal_request__descriptor,
     process_rpc_send_signal},
    {PROCESS "CloseStdin", RPC_UNARY, &process__close_stdin_request__descriptor,
     process_rpc_close_stdin},
    {FILESYSTEM "Stat", RPC_UNARY, &filesystem__stat_request__descriptor, filesystem_rpc_stat},
    {FILESYSTEM "ListDir", RPC_UNARY, &filesystem__list_dir_request__descriptor,
     filesystem_rpc_list_dir},
    {FILESYSTEM "MakeDir", RPC_UNARY, &filesystem__make_dir_request__descriptor,
     filesystem_rpc_make_dir},
    {FILESYSTEM "Move", RPC_UNARY, &filesystem__move_request__descriptor, filesystem_rpc_move},
    {FILESYSTEM "Remove", RPC_UNARY, &filesystem__remove_request__descriptor,
     filesystem_rpc_remove},
    {FILESYSTEM "WatchDir", RPC_SERVER_STREAM, &filesystem__watch_dir_request__descriptor,
     watch_rpc_watch_dir},
    {FILESYSTEM "CreateWatcher", RPC_UNARY, &filesystem__create_watcher_request__descriptor,
     watch_rpc_create_watcher},
    {FILESYSTEM "GetWatcherEvents", RPC_UNARY, &filesystem__get_watcher_events_request__descriptor,
     watch_rpc_get_events},
    {FILESYSTEM "RemoveWatcher", RPC_UNARY, &filesystem__remove_watcher_request__descriptor,
     watch_rpc_remove_watcher},
    {NULL},
};

static void get_health(struct agent *a, struct http_exchange *x)
{
    reply_begin(x, 204);
    http_field(x, "Cache-Control", "no-store");
    http_start(x, 0);
    http_end(x);
}

static void get_envs(struct agent *a, struct http_exchange *x)
{
    AUTO(buf_deinit) struct buf json = BUF_INIT(AGENT_CONFIG_MAX * 6);
    const char **envs = spawn_env_of_sandbox(&a->config);

    buf_append_byte(&json, '{');
    for (size_t i = 0; envs[i]; i++) {
        size_t len = strcspn(envs[i], "=");

        if (i > 0)
            buf_append_byte(&json, ',');
        json_append_string(&json, envs[i], len);
        buf_append_byte(&json, ':');
        json_append_string(&json, envs[i] + len + 1, strlen(envs[i] + len + 1));
    }
    buf_append_byte(&json, '}');
    spawn_env_free(envs);
    reply_fresh_json(x, buf_str(&json), buf_len(&json));
}

static const struct route {
    const char *method;
    const char *path;
    void (*serve)(struct agent *a, struct http_exchange *x);
} routes[] = {
    {"GET", "/health", get_health}, {"GET", "/metrics", metrics_get},
    {"GET", "/envs", get_envs},     {"GET", "/events", events_get},
    {"GET", "/files", files_get},   {"HEAD", "/files", files_get},
    {"POST", "/files", files_post}, {"POST", "/files/compose", files_compose},
    {"POST", "/init", init_post},
};

static void serve_route(struct agent *a, struct http_exchange *x)
{
    const struct http_head *head = http_request(x);
    bool known = false;

    for (size_t i = 0; i < sizeof(routes) / sizeof(*routes); i++) {
        if (!http_path_is(head, routes[i].path))
            continue;
        if (http_method_is(head, routes[i].method)) {
            routes[i].serve(a, x);
            return;
        }
        known = true;
    }
    if (known)
        reply_error(x, 405, "%s is not allowed here", head->method);
    else
        reply_error(x, 404, "there is nothing here");
}

static bool is_rpc(const struct http_head *head)
{
    return strncmp(head->path, PROCESS, strlen(PROCESS)) == 0 ||
           strncmp(head->path, FILESYSTEM, strlen(FILESYSTEM)) == 0;
}

static void on_request(struct http_exchange *x, void *ctx)
{
    const struct http_head *head = http_request(x);
    struct agent *a = ctx;
    struct status st = STATUS_INIT;
    struct user user;

    if (http_method_is(head, "OPTIONS"))
        reply_preflight(x);
    else if (!access_is_allowed(&a->config, head))
        reply_error(x, 401,
                    "unauthorized access, please provide a valid access token or method signing if "
                    "supported");
    else if (is_rpc(head))
        rpc_serve(a, x, a->methods); /* which sees to the user, in its own form */
    else if (!access_request_user(&a->config, head, &user, &st))
        reply_error(x, 401, "%s", st.message);
    else
        serve_route(a, x);
}

bool agent_init(struct agent *a, struct status *st)
{
    struct http_server_config config = {.request = on_request, .ctx = a};

    a->methods = methods;
    events_init(&a->events, a);
    processes_init(&a->processes, a);
    list_init(&a->watchers);
    a->server = http_server_new(&a->loop, &config);
    return http_server_listen(a->server, AGENT_FD_HTTP, st) &&
           dial_init(&a->dial, &a->loop, AGENT_FD_DIAL, st);
}

void agent_reap(struct agent *a)
{
    int wait_status;
    pid_t pid;

    while ((pid = waitpid(-1, &wait_status, WNOHANG)) > 0) {
        processes_reaped(&a->processes, pid, wait_status);
        startup_reaped(a, pid, wait_status);
    }
}
