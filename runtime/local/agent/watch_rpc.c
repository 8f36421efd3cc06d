/*
 * filesystem.Filesystem: watching, told over a stream (WatchDir) or asked for (CreateWatcher, whose
 * watchers outlive their clients until they are removed).
 */
#include "common/base/cleanup.h"
#include "common/base/list.h"
#include "common/base/mem.h"
#include "runtime/local/agent/agent.h"
#include "runtime/local/agent/entry.h"
#include "runtime/local/agent/path.h"
#include "runtime/local/agent/services.h"
#include "runtime/local/agent/watch.h"

#include <errno.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#ifndef SMB2_SUPER_MAGIC
#define SMB2_SUPER_MAGIC 0xFE534D42
#endif
#ifndef CIFS_SUPER_MAGIC
#define CIFS_SUPER_MAGIC 0xFF534D42
#endif

enum {
    WATCHERS_MAX = 1024,
    WAITING_MAX = 16384, /* events of one watcher; the kernel keeps as many */
    ID_RANDOM = 20,
    ID_SIZE = 1 + ID_RANDOM + 1,
};

/* ---- what both have in common ---- */

/* Changes there by others are not seen, so a watch would promise too much. */
static bool is_on_network(const char *path)
{
    struct statfs fs;

    if (statfs(path, &fs) < 0)
        return false;
    switch ((uint32_t)fs.f_type) {
    case NFS_SUPER_MAGIC:
    case CIFS_SUPER_MAGIC:
    case SMB_SUPER_MAGIC:
    case SMB2_SUPER_MAGIC:
    case FUSE_SUPER_MAGIC:
        return true;
    default:
        return false;
    }
}

static bool check(const char *path, bool allow_network, struct status *st)
{
    struct stat info;

    if (stat(path, &info) < 0)
        return status_set(st, errno == ENOENT ? CODE_NOT_FOUND : CODE_INTERNAL, 0,
                          "path %s not found: %s", path, strerror(errno));
    if (!S_ISDIR(info.st_mode))
        return status_set(st, CODE_INVALID_ARGUMENT, 0, "path %s not a directory", path);
    if (!allow_network && is_on_network(path))
        return status_set(st, CODE_INVALID_ARGUMENT, 0,
                          "cannot watch path on network filesystem: %s", path);
    return true;
}

/* The absolute path to watch, the caller's to free; NULL when it cannot be. */
static char *find_path(struct rpc_call *call, const char *path, bool allow_network,
                       struct status *st)
{
    AUTO_FREE char *resolved = path_resolve(path, &call->user, call->agent->config.workdir, st);

    return resolved && check(resolved, allow_network, st) ? TAKE(resolved) : NULL;
}

/* What was removed or renamed is not there to be told about, but another one may be. */
static bool has_entry(Filesystem__EventType type)
{
    return type == FILESYSTEM__EVENT_TYPE__EVENT_TYPE_CREATE ||
           type == FILESYSTEM__EVENT_TYPE__EVENT_TYPE_WRITE ||
           type == FILESYSTEM__EVENT_TYPE__EVENT_TYPE_CHMOD;
}

/* ---- WatchDir ---- */

struct watch_stream {
    struct watch watch;
    struct rpc_call *call; /* borrowed */
    bool with_entry;
};

static void stream_free(struct watch_stream *s)
{
    watch_close(&s->watch);
    free(s);
}

static void on_stream_event(struct watch *w, Filesystem__EventType type, const char *path,
                            const char *name)
{
    struct watch_stream *s = container_of(w, struct watch_stream, watch);
    Filesystem__WatchDirResponse response = FILESYSTEM__WATCH_DIR_RESPONSE__INIT;
    Filesystem__FilesystemEvent event = FILESYSTEM__FILESYSTEM_EVENT__INIT;
    struct entry entry;

    event.type = type;
    event.name = (char *)name;
    if (s->with_entry && has_entry(type) && entry_init(&entry, path))
        event.entry = &entry.info;
    response.event_case = FILESYSTEM__WATCH_DIR_RESPONSE__EVENT_FILESYSTEM;
    response.filesystem = &event;
    if (!rpc_send(s->call, &response.base))
        watch_pause(w);
    if (event.entry)
        entry_deinit(&entry);
}

static void on_stream_failed(struct watch *w, const struct status *st)
{
    struct watch_stream *s = container_of(w, struct watch_stream, watch);
    struct rpc_call *call = s->call;

    stream_free(s);
    rpc_fail_status(call, st);
}

static void on_stream_writable(struct rpc_call *call)
{
    struct watch_stream *s = call->data;

    watch_resume(&s->watch);
}

static void on_stream_gone(struct rpc_call *call)
{
    stream_free(call->data);
}

static void begin_stream(struct rpc_call *call)
{
    Filesystem__WatchDirResponse response = FILESYSTEM__WATCH_DIR_RESPONSE__INIT;
    Filesystem__WatchDirResponse__StartEvent start =
        FILESYSTEM__WATCH_DIR_RESPONSE__START_EVENT__INIT;
    Filesystem__WatchDirResponse__KeepAlive keepalive =
        FILESYSTEM__WATCH_DIR_RESPONSE__KEEP_ALIVE__INIT;

    response.event_case = FILESYSTEM__WATCH_DIR_RESPONSE__EVENT_START;
    response.start = &start;
    rpc_send(call, &response.base);
    response.event_case = FILESYSTEM__WATCH_DIR_RESPONSE__EVENT_KEEPALIVE;
    response.keepalive = &keepalive;
    rpc_keep_alive(call, &response.base);
}

void watch_rpc_watch_dir(struct rpc_call *call, const ProtobufCMessage *message)
{
    static const struct watch_ops watch_ops = {on_stream_event, on_stream_failed};
    static const struct rpc_ops ops = {.gone = on_stream_gone, .writable = on_stream_writable};
    const Filesystem__WatchDirRequest *request = (const Filesystem__WatchDirRequest *)message;
    struct status st = STATUS_INIT;
    AUTO_FREE char *path = find_path(call, request->path, request->allow_network_mounts, &st);
    struct watch_stream *s = xcalloc(1, sizeof(*s));

    s->call = call;
    s->with_entry = request->include_entry && !call->legacy;
    if (!path ||
        !watch_open(&s->watch, &call->agent->loop, path, request->recursive, &watch_ops, &st)) {
        free(s);
        rpc_fail_status(call, &st);
        return;
    }
    rpc_set_ops(call, &ops, s);
    begin_stream(call);
}

/* ---- watchers ---- */

struct watcher_event {
    Filesystem__FilesystemEvent event;
    struct entry entry;
};

struct watcher {
    struct list node;
    char id[ID_SIZE];
    struct watch watch;
    bool with_entry;
    struct watcher_event **waiting; /* owned */
    size_t n_waiting;
    size_t room;
    struct status failure; /* CODE_OK: none */
};

static void drop_waiting(struct watcher *w)
{
    for (size_t i = 0; i < w->n_waiting; i++) {
        if (w->waiting[i]->event.entry)
            entry_deinit(&w->waiting[i]->entry);
        free(w->waiting[i]->event.name);
        free(w->waiting[i]);
    }
    w->n_waiting = 0;
}

static void on_watcher_event(struct watch *watch, Filesystem__EventType type, const char *path,
                             const char *name)
{
    struct watcher *w = container_of(watch, struct watcher, watch);
    struct watcher_event *e = xcalloc(1, sizeof(*e));

    filesystem__filesystem_event__init(&e->event);
    e->event.type = type;
    e->event.name = xstrdup(name);
    if (w->with_entry && has_entry(type) && entry_init(&e->entry, path))
        e->event.entry = &e->entry.info;
    if (w->n_waiting == w->room) {
        w->room = w->room ? w->room * 2 : 16;
        w->waiting = xrealloc(w->waiting, w->room * sizeof(struct watcher_event *));
    }
    w->waiting[w->n_waiting++] = e;
    if (w->n_waiting >= WAITING_MAX)
        watch_pause(watch);
}

static void on_watcher_failed(struct watch *watch, const struct status *st)
{
    container_of(watch, struct watcher, watch)->failure = *st;
}

/* "w" and 20 random letters and digits. */
static void make_id(char id[ID_SIZE])
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyz0123456789";
    uint8_t random[ID_RANDOM];

    if (getrandom(random, sizeof(random), 0) != (ssize_t)sizeof(random))
        abort(); /* cannot be: short reads come only of more than 256 bytes */
    id[0] = 'w';
    for (int i = 0; i < ID_RANDOM; i++)
        id[1 + i] = letters[random[i] % (sizeof(letters) - 1)];
    id[ID_SIZE - 1] = '\0';
}

void watch_rpc_create_watcher(struct rpc_call *call, const ProtobufCMessage *message)
{
    static const struct watch_ops ops = {on_watcher_event, on_watcher_failed};
    const Filesystem__CreateWatcherRequest *request =
        (const Filesystem__CreateWatcherRequest *)message;
    Filesystem__CreateWatcherResponse response = FILESYSTEM__CREATE_WATCHER_RESPONSE__INIT;
    struct agent *agent = call->agent;
    struct status st = STATUS_INIT;
    AUTO_FREE char *path = NULL;
    struct watcher *w;

    if (agent->n_watchers == WATCHERS_MAX) {
        rpc_fail(call, CODE_RESOURCE_EXHAUSTED, "there are %d watchers already: remove some",
                 WATCHERS_MAX);
        return;
    }
    path = find_path(call, request->path, request->allow_network_mounts, &st);
    w = xcalloc(1, sizeof(*w));
    w->with_entry = request->include_entry && !call->legacy;
    if (!path || !watch_open(&w->watch, &agent->loop, path, request->recursive, &ops, &st)) {
        free(w);
        rpc_fail_status(call, &st);
        return;
    }
    make_id(w->id);
    list_append(&agent->watchers, &w->node);
    agent->n_watchers++;
    response.watcher_id = w->id;
    rpc_reply(call, &response.base);
}

/* NULL, and the call is over, when there is none of that id. */
static struct watcher *find_watcher(struct rpc_call *call, const char *id)
{
    LIST_FOR_EACH (node, &call->agent->watchers) {
        struct watcher *w = container_of(node, struct watcher, node);

        if (strcmp(w->id, id) == 0)
            return w;
    }
    rpc_fail(call, CODE_NOT_FOUND, "watcher with id %s not found", id);
    return NULL;
}

/* A watcher that failed tells what it saw before, and then of its failure. */
void watch_rpc_get_events(struct rpc_call *call, const ProtobufCMessage *message)
{
    const Filesystem__GetWatcherEventsRequest *request =
        (const Filesystem__GetWatcherEventsRequest *)message;
    Filesystem__GetWatcherEventsResponse response = FILESYSTEM__GET_WATCHER_EVENTS_RESPONSE__INIT;
    struct watcher *w = find_watcher(call, request->watcher_id);

    if (!w)
        return;
    if (w->failure.code && w->n_waiting == 0) {
        rpc_fail_status(call, &w->failure);
        return;
    }
    response.events = xcalloc(w->n_waiting + 1, sizeof(*response.events));
    for (; response.n_events < w->n_waiting; response.n_events++)
        response.events[response.n_events] = &w->waiting[response.n_events]->event;
    rpc_reply(call, &response.base);
    free(response.events);
    drop_waiting(w);
    if (w->watch.paused)
        watch_resume(&w->watch);
}

void watch_rpc_remove_watcher(struct rpc_call *call, const ProtobufCMessage *message)
{
    const Filesystem__RemoveWatcherRequest *request =
        (const Filesystem__RemoveWatcherRequest *)message;
    Filesystem__RemoveWatcherResponse response = FILESYSTEM__REMOVE_WATCHER_RESPONSE__INIT;
    struct watcher *w = find_watcher(call, request->watcher_id);

    if (!w)
        return;
    watch_close(&w->watch);
    drop_waiting(w);
    free(w->waiting);
    list_unlink(&w->node);
    free(w);
    call->agent->n_watchers--;
    rpc_reply(call, &response.base);
}
