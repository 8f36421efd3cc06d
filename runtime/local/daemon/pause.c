/*
 * See daemon_pause.h. A change goes from step to step: each asks the zygote for one thing, on the
 * keeper's thread, and goes on here when that is done. The sandbox is looked up anew each time,
 * since it may have been killed meanwhile.
 */
#include "runtime/local/daemon/pause.h"

#include "common/base/cleanup.h"
#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "runtime/local/daemon/record.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct change {
    struct task task;
    struct list node;      /* of the daemon's */
    struct daemon *daemon; /* borrowed */
    char id[SANDBOX_ID_LEN + 1];
    char name[SNAPSHOT_NAME_MAX + 1]; /* of the snapshot that is written or read */
    int64_t timeout_s;
    bool resumes; /* when its files are saved it starts anew */
    struct status st;
    /* The zygote's part of a step, and what comes behind it. */
    bool (*ask)(struct zygote *z, const struct change *c, struct status *st);
    void (*then)(struct change *c, struct sandbox *s);
    bool saving; /* `then` waits for ZYGOTE_SAVED */
    bool ending; /* `then` waits for ZYGOTE_ENDED */
    daemon_changed *done;
    void *ctx; /* borrowed */
};

struct waiter {
    struct list node;
    struct task *task; /* borrowed */
};

void daemon_when_idle(struct sandbox *s, struct task *task)
{
    struct waiter *w = xcalloc(1, sizeof(*w));

    w->task = task;
    list_append(&s->waiting, &w->node);
}

void daemon_move_waiting(struct list *to, struct list *from)
{
    struct list *node;

    while ((node = list_pop(from)) != NULL)
        list_append(to, node);
}

void daemon_run_waiting(struct daemon *d, struct list *waiting)
{
    struct list *node;

    while ((node = list_pop(waiting)) != NULL) {
        struct waiter *w = container_of(node, struct waiter, node);

        executor_post(loop_executor(&d->loop), w->task);
        free(w);
    }
}

static struct change *begin(struct daemon *d, struct sandbox *s, daemon_changed *done, void *ctx)
{
    struct change *c = xcalloc(1, sizeof(*c));

    *c = (struct change){.daemon = d, .done = done, .ctx = ctx};
    strcpy(c->id, s->id);
    list_append(&d->changes, &c->node);
    s->busy = true;
    return c;
}

static void end(struct change *c)
{
    struct sandbox *s = registry_find(&c->daemon->registry, c->id);

    list_unlink(&c->node);
    if (s != NULL) {
        s->busy = false;
        daemon_run_waiting(c->daemon, &s->waiting);
    } else if (c->st.code == CODE_OK) {
        status_set(&c->st, CODE_NOT_FOUND, 0, "the sandbox has ended meanwhile");
    }
    if (c->done != NULL)
        c->done(c->ctx, s, &c->st);
    else if (c->st.code != CODE_OK)
        log_error("sandbox was not paused", LOG_S("sandbox_id", c->id),
                  LOG_S("error", c->st.message));
    free(c);
}

void daemon_drop_changes(struct daemon *d)
{
    LIST_FOR_EACH_SAFE (node, &d->changes) {
        struct change *c = container_of(node, struct change, node);

        status_set(&c->st, CODE_UNAVAILABLE, 0, "the server is stopping");
        end(c);
    }
}

/* Back on the loop's thread. */
static void go_on(struct change *c)
{
    struct sandbox *s = registry_find(&c->daemon->registry, c->id);

    if (s == NULL)
        end(c);
    else
        c->then(c, s);
}

static void answered(struct task *task)
{
    struct change *c = container_of(task, struct change, task);

    if (!(c->saving || c->ending) || c->st.code != CODE_OK)
        go_on(c);
}

/* On the keeper's thread. */
static void ask_zygote(struct task *task)
{
    struct change *c = container_of(task, struct change, task);

    c->ask(c->daemon->zygote, c, &c->st);
    c->task.run = answered;
    executor_post(loop_executor(&c->daemon->loop), &c->task);
}

static void step(struct change *c,
                 bool (*ask)(struct zygote *z, const struct change *c, struct status *st),
                 void (*then)(struct change *c, struct sandbox *s))
{
    c->ask = ask;
    c->then = then;
    c->task.run = ask_zygote;
    executor_post(keeper_executor(&c->daemon->keeper), &c->task);
}

static bool ask_freeze(struct zygote *z, const struct change *c, struct status *st)
{
    return zygote_freeze(z, c->id, st);
}

static bool ask_thaw(struct zygote *z, const struct change *c, struct status *st)
{
    return zygote_thaw(z, c->id, st);
}

static bool ask_save(struct zygote *z, const struct change *c, struct status *st)
{
    return zygote_save(z, c->id, c->name, st);
}

static bool ask_end(struct zygote *z, const struct change *c, struct status *st)
{
    return zygote_end(z, c->id, st);
}

static void save(struct change *c, void (*then)(struct change *c, struct sandbox *s))
{
    c->saving = true;
    step(c, ask_save, then);
}

void daemon_take_saved(struct daemon *d, const struct zygote_event *e)
{
    LIST_FOR_EACH (node, &d->changes) {
        struct change *c = container_of(node, struct change, node);

        if (!c->saving || strcmp(c->id, e->id) != 0 || strcmp(c->name, e->name) != 0)
            continue;
        c->saving = false;
        c->st = e->status;
        go_on(c);
        return;
    }
    snapshots_drop_files(&d->snapshots,
                         e->name); /* of a daemon before, or of one that was killed */
}

bool daemon_take_ended(struct daemon *d, const char *id)
{
    LIST_FOR_EACH (node, &d->changes) {
        struct change *c = container_of(node, struct change, node);

        if (!c->ending || strcmp(c->id, id) != 0)
            continue;
        c->ending = false;
        go_on(c);
        return true;
    }
    return false;
}

/* --- into a pause --- */

static void has_paused(struct daemon *d, struct sandbox *s)
{
    s->paused = true;
    s->end_ns = clock_wall_ns();
    daemon_note(s, NOTE_INFO, "Sandbox paused", s->stored ? "its files are kept" : NULL);
    log_info("sandbox paused", LOG_S("sandbox_id", s->id),
             LOG_S("kept", s->stored ? "files" : "files and memory"));
}

static void pause_failed(struct change *c, struct sandbox *s)
{
    daemon_wake(c->daemon, s);
    end(c);
}

static void frozen_for_good(struct change *c, struct sandbox *s)
{
    if (c->st.code != CODE_OK) {
        pause_failed(c, s);
        return;
    }
    has_paused(c->daemon, s);
    daemon_keep(c->daemon, s);
    end(c);
}

static void start_anew(struct change *c, struct sandbox *s);

static void has_ended_for_files(struct change *c, struct sandbox *s)
{
    c->ending = false;
    c->st = STATUS_INIT; /* it may have ended by itself: its files are there */
    egress_free(TAKE(s->egress));
    s->stored = true;
    if (!s->paused)
        has_paused(c->daemon, s);
    snapshots_store(&c->daemon->snapshots, s);
    if (c->resumes)
        start_anew(c, s);
    else
        end(c);
}

static void saved_for_good(struct change *c, struct sandbox *s)
{
    if (c->st.code == CODE_OK) {
        c->ending = true;
        step(c, ask_end, has_ended_for_files);
    } else if (s->paused) {
        end(c); /* it stays as it was */
    } else {
        step(c, ask_thaw, pause_failed); /* why stays in c->st */
    }
}

static void frozen_to_be_saved(struct change *c, struct sandbox *s)
{
    if (c->st.code != CODE_OK)
        pause_failed(c, s);
    else
        save(c, saved_for_good);
}

void daemon_pause(struct daemon *d, struct sandbox *s, bool memory, daemon_changed *done, void *ctx)
{
    struct change *c = begin(d, s, done, ctx);

    snapshots_own_name(s->id, c->name);
    daemon_rest(d, s);
    step(c, ask_freeze, memory ? frozen_for_good : frozen_to_be_saved);
}

/* By its deadline, and we were not there, or too late. */
void daemon_take_frozen(struct daemon *d, const char *id)
{
    struct sandbox *s = registry_find(&d->registry, id);

    if (s == NULL || s->paused || s->busy)
        return;
    daemon_rest(d, s);
    has_paused(d, s);
    daemon_keep(d, s);
}

/* --- out of it --- */

static void has_resumed(struct change *c, struct sandbox *s)
{
    struct daemon *d = c->daemon;

    if (c->st.code == CODE_OK) {
        s->paused = false;
        registry_restart(&d->registry, s, clock_wall_ns(), clock_boottime_ns(),
                         c->timeout_s * NS_PER_S);
        daemon_wake(d, s);
        daemon_keep(d, s);
        daemon_note(s, NOTE_INFO, "Sandbox resumed", NULL);
        log_info("sandbox resumed", LOG_S("sandbox_id", s->id));
    }
    end(c);
}

static void on_started_anew(void *ctx, struct sandbox *s, const struct status *st)
{
    struct change *c = ctx;

    c->st = *st;
    if (s != NULL) {
        snapshots_unstore(&c->daemon->snapshots, c->id);
        daemon_note(s, NOTE_INFO, "Sandbox resumed", "from its files");
    }
    end(c);
}

static void start_anew(struct change *c, struct sandbox *s)
{
    daemon_create_like(c->daemon, s, s->id, c->name, c->timeout_s, on_started_anew, c);
}

void daemon_resume(struct daemon *d, struct sandbox *s, int64_t timeout_s, bool memory,
                   daemon_changed *done, void *ctx)
{
    struct change *c = begin(d, s, done, ctx);

    c->timeout_s = timeout_s;
    c->resumes = true;
    snapshots_own_name(s->id, c->name);
    if (s->stored)
        start_anew(c, s);
    else if (memory)
        step(c, ask_thaw, has_resumed);
    else
        save(c, saved_for_good);
}

/* --- a copy of its files --- */

static void goes_on(struct change *c, struct sandbox *s)
{
    end(c);
}

static void copied(struct change *c, struct sandbox *s)
{
    step(c, ask_thaw, goes_on); /* what failed before is in c->st, and stays */
}

static void frozen_to_be_copied(struct change *c, struct sandbox *s)
{
    if (c->st.code != CODE_OK)
        end(c);
    else
        save(c, copied);
}

void daemon_save(struct daemon *d, struct sandbox *s, const char *name, daemon_changed *done,
                 void *ctx)
{
    struct change *c = begin(d, s, done, ctx);

    snprintf(c->name, sizeof(c->name), "%s", name);
    step(c, ask_freeze, frozen_to_be_copied);
}

/* --- what was there before --- */

static void adopt_stored(void *ctx, const char *id, const uint8_t *record, size_t len)
{
    struct daemon *d = ctx;
    struct status st = STATUS_INIT;
    struct sandbox *s;

    if (registry_find(&d->registry, id) != NULL)
        return;
    s = record_read(id, record, len, &st);
    if (s == NULL) {
        log_error("sandbox cannot be taken up", LOG_S("sandbox_id", id),
                  LOG_S("error", st.message));
        return;
    }
    s->daemon = d;
    s->paused = s->stored = true;
    s->history = history_open(&d->histories, s->id);
    registry_restore(&d->registry, s);
}

void daemon_adopt_stored(struct daemon *d)
{
    snapshots_each_stored(&d->snapshots, adopt_stored, d);
}
