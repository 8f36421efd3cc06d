/* See daemon.h. */
#include "runtime/local/daemon/daemon.h"

#include "common/base/cleanup.h"
#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "runtime/local/daemon/observer.h"
#include "runtime/local/daemon/pause.h"
#include "runtime/local/daemon/token.h"
#include "runtime/local/edge/proxy.h"

#include <stdlib.h>
#include <string.h>

enum { BUSY_AT_END_MS = 20 };

void daemon_note(struct sandbox *s, enum note_level level, const char *message, const char *why)
{
    const struct note_field fields[] = {{"logger", "sandbox"}, {"reason", why}};

    logbook_add(&s->history->log, clock_wall_ns(), level, message, fields, why != NULL ? 2 : 1);
}

void daemon_rest(struct daemon *d, struct sandbox *s)
{
    loop_timer_cancel(&d->loop, &s->expiry);
    if (s->observer != NULL)
        observer_stop(TAKE(s->observer));
    proxy_cut(s);
}

void daemon_forget(struct daemon *d, struct sandbox *s)
{
    struct list waiting;

    daemon_rest(d, s);
    history_close(&d->histories, s->history);
    egress_free(s->egress);
    list_init(&waiting);
    daemon_move_waiting(&waiting, &s->waiting);
    registry_remove(&d->registry, s);
    daemon_run_waiting(d, &waiting);
}

static void on_expiry(struct loop_timer *timer)
{
    struct sandbox *s = container_of(timer, struct sandbox, expiry);

    if (!s->auto_pause)
        daemon_end(s->daemon, s, "its time is over", NULL);
    else if (s->busy)
        loop_timer_after(&s->daemon->loop, timer, BUSY_AT_END_MS);
    else
        daemon_pause(s->daemon, s, s->keeps_memory, NULL, NULL);
}

/* The zygote ends it too, a moment later; we are there first to cut its streams. */
static void arm(struct daemon *d, struct sandbox *s)
{
    s->expiry.fire = on_expiry;
    loop_timer_set(&d->loop, &s->expiry, clock_monotonic_ns() + s->end_at_ns - clock_boottime_ns());
}

bool daemon_take_network(struct daemon *d, struct sandbox *s, struct network *take, bool internet,
                         struct status *st)
{
    AUTO_FREE char *subject = xasprintf("sandbox-traffic-%s", s->id);

    if (take->text != NULL && strlen(take->text) > NETWORK_TEXT_MAX)
        return status_set(st, CODE_INVALID_ARGUMENT, 0, "network is larger than %d bytes",
                          NETWORK_TEXT_MAX);
    free(s->network);
    free(s->mask_host);
    s->network = TAKE(take->text);
    s->mask_host = TAKE(take->mask_host);
    s->internet = internet;
    if (take->public_traffic)
        s->traffic_token[0] = '\0';
    else
        token_make(d->seed, sizeof(d->seed), subject, s->traffic_token);
    return true;
}

bool daemon_set_network(struct daemon *d, struct sandbox *s, struct network *take, bool internet,
                        struct status *st)
{
    if (!daemon_take_network(d, s, take, internet, st))
        return false;
    egress_set_policy(s->egress, &take->policy);
    daemon_keep(d, s);
    return true;
}

void daemon_enter(struct daemon *d, struct sandbox *s, const struct sandbox_net_sockets *net,
                  struct egress_policy *policy)
{
    s->daemon = d;
    s->egress = egress_new(&d->egress, s->id, net->tcp_fd, net->dns_fd, policy);
    s->history = history_open(&d->histories, s->id);
    if (!s->paused)
        daemon_wake(d, s);
}

void daemon_wake(struct daemon *d, struct sandbox *s)
{
    s->observer = observer_start(d, s);
    arm(d, s);
}

void daemon_set_timeout(struct daemon *d, struct sandbox *s, int64_t left_ms)
{
    sandbox_set_end(s, clock_wall_ns(), clock_boottime_ns(), left_ms * NS_PER_MS);
    arm(d, s);
    daemon_keep(d, s);
}

int64_t daemon_max_left_ms(const struct daemon *d, const struct sandbox *s)
{
    int64_t age_ms = (clock_boottime_ns() - s->start_at_ns) / NS_PER_MS;

    return age_ms < d->config.max_lifetime_ms ? d->config.max_lifetime_ms - age_ms : 0;
}

static void take_ended(struct daemon *d, const struct zygote_event *e)
{
    struct sandbox *s = registry_find(&d->registry, e->id);

    if (daemon_take_end(d, e->id) || s == NULL || daemon_take_ended(d, e->id))
        return;
    daemon_note(s, e->at_deadline ? NOTE_INFO : NOTE_ERROR, "Sandbox ended",
                e->at_deadline ? "its time is over" : "its first process died");
    if (e->at_deadline)
        log_info("sandbox ends", LOG_S("sandbox_id", s->id), LOG_S("reason", "its time is over"));
    else
        log_warn("sandbox died", LOG_S("sandbox_id", s->id), LOG_N("wait_status", e->wait_status));
    daemon_forget(d, s);
}

/* News of the keeper's thread. */
struct news {
    struct task task;
    struct daemon *daemon; /* borrowed */
    bool zygote_gone;
    struct zygote_event event;
};

static void take_event(struct daemon *d, struct zygote_event *e)
{
    switch (e->kind) {
    case ZYGOTE_STARTED:
        daemon_take_started(d, e);
        break;
    case ZYGOTE_ENDED:
        take_ended(d, e);
        break;
    case ZYGOTE_FROZEN:
        daemon_take_frozen(d, e->id);
        break;
    case ZYGOTE_SAVED:
        daemon_take_saved(d, e);
        break;
    }
}

static void take_news(struct task *task)
{
    struct news *n = container_of(task, struct news, task);
    struct daemon *d = n->daemon;

    if (n->zygote_gone) {
        log_error("the zygote died, and all sandboxes with it");
        d->failed = true;
        loop_stop(&d->loop);
    } else {
        take_event(d, &n->event);
    }
    free(n);
}

void daemon_on_event(void *daemon, const struct zygote_event *e)
{
    struct news *n = xcalloc(1, sizeof(*n));

    *n = (struct news){.task.run = take_news, .daemon = daemon, .zygote_gone = e == NULL};
    if (e != NULL)
        n->event = *e;
    executor_post(loop_executor(&n->daemon->loop), &n->task);
}
