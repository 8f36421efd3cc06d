/*
 * WatchSandboxes: one stream that tells of the sandboxes in a roster, which all watches of a tenant
 * share. The filters are applied here. A message is made when one can be sent, of the newest list
 * there is then, so a slow client holds nothing up and nothing back. All on the call's worker:
 * callbacks record a fact and call step().
 */
#include "service/handlers/watch_sandboxes.h"

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "sandbox/v1/errors.pb-c.h"
#include "sandbox/v1/watch_sandboxes.pb-c.h"
#include "service/app.h"
#include "service/config.h"
#include "service/handlers/leave.h"
#include "service/handlers/pairs.h"
#include "service/handlers/sandbox_message.h"
#include "service/handlers/validate.h"
#include "service/identity/caller.h"
#include "service/roster/roster.h"
#include "service/roster/view.h"

#include <stdlib.h>

enum {
    MESSAGE_EVENTS = 100,
    MESSAGE_BYTES = 1 << 20, /* about; one event may take it beyond */
};

#define TYPE(name) SANDBOX__V1__SANDBOX_EVENT__TYPE__TYPE_##name

struct watching {
    struct call *call; /* borrowed: it owns this */
    const struct app *app;
    struct pairs labels;
    struct roster_view view;
    struct roster_watcher watcher;
    bool synced, finished;
    struct call_timer heartbeat;
};

static void finish(struct watching *w, const struct status *st)
{
    if (w->finished)
        return;
    w->finished = true;
    call_finish(w->call, st);
    roster_leave(&w->watcher);
}

static void destroy(void *state)
{
    struct watching *w = state;

    roster_view_deinit(&w->view);
    pairs_deinit(&w->labels);
    free(w);
}

/* --- sending --- */

static void restart_heartbeat(struct watching *w)
{
    call_timer_start(w->call, &w->heartbeat,
                     clock_monotonic_ns() + w->app->config->heartbeat_ms * NS_PER_MS);
}

/* An event and all it points to. */
struct event {
    Sandbox__V1__SandboxEvent m;
    struct sandbox_message sandbox;
    Sandbox__V1__Sandbox gone;
    char *id; /* owned; of the one that is gone */
};

static void event_set(struct event *e, const struct roster_change *change)
{
    static const Sandbox__V1__SandboxEvent__Type types[] = {
        [ROSTER_ADDED] = TYPE(ADDED),
        [ROSTER_CHANGED] = TYPE(CHANGED),
        [ROSTER_REMOVED] = TYPE(REMOVED),
    };

    e->m.type = types[change->kind];
    if (change->entry != NULL) {
        sandbox_message_init(&e->sandbox, &change->entry->sandbox);
        e->m.sandbox = &e->sandbox.m;
        return;
    }
    sandbox__v1__sandbox__init(&e->gone);
    e->gone.sandbox_id = e->id = change->id;
    e->m.sandbox = &e->gone;
}

static void event_deinit(struct event *e)
{
    if (e->m.sandbox == &e->sandbox.m)
        sandbox_message_deinit(&e->sandbox);
    free(e->id);
}

/* What is new in the list, as much as fits a message; nothing may be. */
static void send_events(struct watching *w, const struct roster_list *list)
{
    Sandbox__V1__WatchSandboxesResponse m = SANDBOX__V1__WATCH_SANDBOXES_RESPONSE__INIT;
    Sandbox__V1__SandboxEvent *pointers[MESSAGE_EVENTS];
    struct event events[MESSAGE_EVENTS];
    struct roster_change change;
    bool more = true;

    m.events = pointers;
    for (size_t bytes = 0; more && m.n_events < MESSAGE_EVENTS && bytes < MESSAGE_BYTES;) {
        struct event *e = &events[m.n_events];

        *e = (struct event){.m = SANDBOX__V1__SANDBOX_EVENT__INIT};
        more = roster_view_next(&w->view, list, &change);
        if (more) {
            event_set(e, &change);
            bytes += change.entry != NULL ? change.entry->bytes : 0;
        } else if (!w->synced) {
            w->synced = true;
            e->m.type = TYPE(SYNCED);
        } else {
            break;
        }
        pointers[m.n_events++] = &e->m;
    }
    if (m.n_events > 0) {
        call_send(w->call, &m.base);
        restart_heartbeat(w);
    }
    for (size_t i = 0; i < m.n_events; i++)
        event_deinit(&events[i]);
}

/* Does everything that is possible now. */
static void step(struct watching *w)
{
    while (!w->finished && call_can_send(w->call)) {
        struct roster_list *list;
        struct status st;
        bool failing, is_due;

        if (!roster_look(&w->watcher, &list, &failing, &st)) {
            finish(w, &st);
            return;
        }
        is_due = list != NULL && roster_view_is_due(&w->view, list);
        if (is_due)
            send_events(w, list);
        roster_list_unref(list);
        if (!is_due)
            return;
    }
}

static void on_heartbeat(struct call_timer *timer)
{
    struct watching *w = container_of(timer, struct watching, heartbeat);
    Sandbox__V1__WatchSandboxesResponse m = SANDBOX__V1__WATCH_SANDBOXES_RESPONSE__INIT;
    struct roster_list *list;
    struct status st;
    bool failing;

    if (w->finished)
        return;
    if (!roster_look(&w->watcher, &list, &failing, &st)) {
        finish(w, &st);
        return;
    }
    roster_list_unref(list);
    m.state = failing ? SANDBOX__V1__STREAM_STATE__STREAM_STATE_RECONNECTING
                      : SANDBOX__V1__STREAM_STATE__STREAM_STATE_LIVE;
    if (call_can_send(w->call))
        call_send(w->call, &m.base);
    restart_heartbeat(w);
}

/* --- what the roster tells --- */

static void on_changed(struct roster_watcher *watcher)
{
    step(container_of(watcher, struct watching, watcher));
}

static void on_left(struct roster_watcher *watcher)
{
    call_unref(container_of(watcher, struct watching, watcher)->call);
}

/* --- what the client's side tells --- */

static void on_sent(void *state)
{
    step(state);
}

static void on_gone(void *state)
{
    struct watching *w = state;
    struct status st;

    status_set(&st, call_end_reason(w->call), SANDBOX__V1__ERROR_REASON__ERROR_REASON_DEADLINE,
               "the caller stopped waiting");
    finish(w, &st);
}

static void on_drain(void *state)
{
    struct status st;

    leave_status(((struct watching *)state)->call, &st,
                 "watch again; a new watch begins with the list");
    finish(state, &st);
}

static const struct call_handler handler = {
    .on_sent = on_sent,
    .on_gone = on_gone,
    .on_drain = on_drain,
    .destroy = destroy,
};

/* --- starting --- */

static bool read_filter(struct watching *w, const Sandbox__V1__WatchSandboxesRequest *r,
                        struct status *st)
{
    struct roster_filter *f = &w->view.filter;

    if (!validate_states(r->states, r->n_states, &f->running, &f->paused, st) ||
        !pairs_metadata(&w->labels, (pairs_metadata_entry **)r->metadata, r->n_metadata, st))
        return false;
    f->metadata = w->labels.items;
    f->n_metadata = w->labels.n;
    return true;
}

void watch_sandboxes_start(struct call *c, const ProtobufCMessage *message)
{
    struct watching *w = xcalloc(1, sizeof(*w));
    const struct e2b_caller *caller = caller_of(c);
    struct status st = STATUS_INIT;

    if (caller == NULL)
        status_set(&st, CODE_INTERNAL, SANDBOX__V1__ERROR_REASON__ERROR_REASON_INTERNAL,
                   "it is not known who calls");
    if (caller == NULL ||
        !read_filter(w, (const Sandbox__V1__WatchSandboxesRequest *)message, &st)) {
        destroy(w);
        call_finish(c, &st);
        return;
    }
    w->call = c;
    w->app = call_app(c);
    w->heartbeat.run = on_heartbeat;
    w->watcher.executor = call_executor(c);
    w->watcher.changed = on_changed;
    w->watcher.left = on_left;
    call_set_handler(c, &handler, w);
    restart_heartbeat(w);
    call_ref(c);
    roster_join(w->app->roster, &w->watcher, caller);
}
