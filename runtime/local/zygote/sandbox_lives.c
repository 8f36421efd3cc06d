/*
 * See sandbox_lives.h. A sandbox only ever moves on: starting, running, ending, gone. Its process
 * is watched through its pidfd, its deadline through one timer for all, which stands at the first.
 *
 * The time a sandbox takes to start is not charged: its deadline moves by as much.
 */
#include "runtime/local/zygote/sandbox_lives.h"

#include "common/base/cleanup.h"
#include "common/base/clock.h"
#include "common/base/mem.h"
#include "runtime/local/zygote/sandbox_freeze.h"
#include "runtime/local/zygote/sandbox_save.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>

static void set_clock(struct sandbox_lives *l)
{
    struct itimerspec at = {.it_value = {0}};
    int64_t first_ns = INT64_MAX;

    LIST_FOR_EACH (node, &l->all) {
        const struct sandbox *s = container_of(node, struct sandbox, node);

        if (s->phase == SANDBOX_RUNNING && s->deadline_ns > 0 && s->deadline_ns < first_ns)
            first_ns = s->deadline_ns;
    }
    if (first_ns < INT64_MAX) {
        first_ns += l->courtesy_ns;
        at.it_value.tv_sec = first_ns / NS_PER_S;
        at.it_value.tv_nsec = first_ns % NS_PER_S;
    }
    timerfd_settime(l->clock.fd, TFD_TIMER_ABSTIME, &at, NULL);
}

static void tell(const struct sandbox *s, struct zygote_event *e)
{
    memcpy(e->id, s->id, sizeof e->id);
    if (!s->silent)
        s->lives->tell(s->lives->ctx, e);
}

static void tell_failed(struct sandbox *s, const struct status *st)
{
    struct zygote_event e = {.kind = ZYGOTE_STARTED, .status = *st, .net = {-1, -1}};

    tell(s, &e);
    s->silent = true; /* it never was there, so it does not end either */
}

static void end(struct sandbox *s)
{
    loop_remove(s->lives->loop, &s->sync_io);
    loop_timer_cancel(s->lives->loop, &s->timer);
    sandbox_kill(s);
    sandbox_let_die(s->lives->host, s);
}

static void clear(struct sandbox *s)
{
    struct zygote_event e = {.kind = ZYGOTE_ENDED,
                             .net = {-1, -1},
                             .wait_status = s->wait_status,
                             .at_deadline = s->expired};

    if (!sandbox_clear(s->lives->host, s) && ++s->clearings < SANDBOX_CLEARINGS) {
        loop_timer_after(s->lives->loop, &s->timer, SANDBOX_CLEAR_MS);
        return;
    }
    tell(s, &e);
    sandbox_free(s);
}

static void fail(struct sandbox *s, const struct status *st)
{
    tell_failed(s, st);
    end(s);
}

static void on_timer(struct loop_timer *timer)
{
    struct sandbox *s = container_of(timer, struct sandbox, timer);
    struct status st = STATUS_INIT;

    if (s->phase == SANDBOX_ENDING) {
        clear(s);
        return;
    }
    status_set(&st, CODE_DEADLINE_EXCEEDED, 0, "the sandbox was not ready within %d s",
               (int)(s->start_ms / 1000));
    fail(s, &st);
}

static void serves(struct sandbox *s)
{
    struct zygote_event e = {.kind = ZYGOTE_STARTED, .status = STATUS_INIT, .net = s->net};

    loop_remove(s->lives->loop, &s->sync_io);
    loop_timer_cancel(s->lives->loop, &s->timer);
    close(s->sync_fd);
    s->sync_fd = -1;
    if (s->deadline_ns > 0)
        s->deadline_ns += clock_boottime_ns() - s->began_ns;
    tell(s, &e);
    set_clock(s->lives);
}

static void hear(struct sandbox *s)
{
    struct status st = STATUS_INIT;
    enum sandbox_word word = sandbox_hear(s, &st);

    if (word == SANDBOX_SERVES)
        serves(s);
    else if (word == SANDBOX_FAILED)
        fail(s, &st);
}

static void on_sync(struct loop_fd *io, uint32_t events)
{
    hear(container_of(io, struct sandbox, sync_io));
}

static void on_exit_of(struct loop_fd *io, uint32_t events)
{
    struct sandbox *s = container_of(io, struct sandbox, exit_io);

    if (!sandbox_reap(s))
        return;
    /* What it said last may explain its end. At most three words come before that of being gone. */
    for (int words = 0; words < 4 && s->phase == SANDBOX_STARTING; words++)
        hear(s);
    end(s);
    loop_remove(s->lives->loop, io);
    set_clock(s->lives);
    clear(s);
}

/* One that cannot be frozen ends: it must not live on. */
static void expire(struct sandbox *s)
{
    struct zygote_event e = {.kind = ZYGOTE_FROZEN, .status = STATUS_INIT, .net = {-1, -1}};

    if (s->at_deadline == ZYGOTE_DEADLINE_FREEZES && sandbox_freeze(s->lives->host, s)) {
        s->deadline_ns = 0;
        tell(s, &e);
        return;
    }
    s->expired = true;
    end(s);
}

static void on_clock(struct loop_fd *io, uint32_t events)
{
    struct sandbox_lives *l = container_of(io, struct sandbox_lives, clock);
    int64_t now_ns = clock_boottime_ns();
    uint64_t fired;

    if (read(io->fd, &fired, sizeof fired) < 0)
        return;
    LIST_FOR_EACH (node, &l->all) {
        struct sandbox *s = container_of(node, struct sandbox, node);

        if (s->phase == SANDBOX_RUNNING && s->deadline_ns > 0 &&
            s->deadline_ns + l->courtesy_ns <= now_ns)
            expire(s);
    }
    set_clock(l);
}

bool sandbox_lives_init(struct sandbox_lives *l, struct loop *loop, struct sandbox_host *host,
                        struct status *st)
{
    *l = (struct sandbox_lives){.loop = loop, .host = host, .clock.ready = on_clock};
    list_init(&l->all);
    list_init(&l->savings);
    l->clock.fd = timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC | TFD_NONBLOCK);
    if (l->clock.fd < 0)
        return status_set(st, CODE_INTERNAL, 0, "no timer: %s", strerror(errno));
    return loop_add(loop, &l->clock, EPOLLIN, st);
}

/* --- saving --- */

struct saving {
    struct list node;
    struct sandbox_lives *lives; /* borrowed */
    char id[ZYGOTE_ID_MAX + 1];
    char name[ZYGOTE_ID_MAX + 1];
    pid_t pid;
    struct loop_fd io; /* its pidfd; owned */
};

static char *saved_path(const char *name, const char *suffix)
{
    return xasprintf("../snapshots/%s.tar%s", name, suffix);
}

static void saving_free(struct saving *v)
{
    loop_remove(v->lives->loop, &v->io);
    close(v->io.fd);
    list_unlink(&v->node);
    free(v);
}

static void abandon(struct saving *v)
{
    AUTO_FREE char *half = saved_path(v->name, ".new");

    kill(v->pid, SIGKILL);
    waitpid(v->pid, NULL, 0);
    unlink(half);
    saving_free(v);
}

/* It appears under its name only when it is whole. */
static bool keep_saved(const struct saving *v, int wait_status, struct status *st)
{
    AUTO_FREE char *half = saved_path(v->name, ".new");
    AUTO_FREE char *whole = saved_path(v->name, "");

    if (wait_status == 0 && rename(half, whole) == 0)
        return true;
    unlink(half);
    if (WIFEXITED(wait_status) && WEXITSTATUS(wait_status) == SAVE_NO_TAR)
        return status_set(st, CODE_FAILED_PRECONDITION, 0,
                          "the sandbox's files cannot be saved: there is no tar on this machine");
    return status_set(st, CODE_INTERNAL, 0, "the sandbox's files were not saved: tar ended with %d",
                      WIFEXITED(wait_status) ? WEXITSTATUS(wait_status)
                                             : 128 + WTERMSIG(wait_status));
}

static void on_saved(struct loop_fd *io, uint32_t events)
{
    struct saving *v = container_of(io, struct saving, io);
    struct zygote_event e = {.kind = ZYGOTE_SAVED, .status = STATUS_INIT, .net = {-1, -1}};
    int wait_status = 0;

    if (waitpid(v->pid, &wait_status, WNOHANG) != v->pid)
        return;
    memcpy(e.id, v->id, sizeof e.id);
    memcpy(e.name, v->name, sizeof e.name);
    keep_saved(v, wait_status, &e.status);
    v->lives->tell(v->lives->ctx, &e);
    saving_free(v);
}

bool sandbox_lives_save(struct sandbox *s, const char *name, struct status *st)
{
    AUTO_FREE char *half = saved_path(name, ".new");
    AUTO_CLOSE int fd = open(half, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    struct saving *v;

    if (fd < 0)
        return status_set(st, CODE_INTERNAL, 0, "snapshot %s cannot be written: %s", name,
                          strerror(errno));
    v = xcalloc(1, sizeof *v);
    v->lives = s->lives;
    memcpy(v->id, s->id, sizeof v->id);
    snprintf(v->name, sizeof v->name, "%s", name);
    v->io = (struct loop_fd){.fd = -1, .ready = on_saved};
    list_append(&s->lives->savings, &v->node);
    v->pid = sandbox_save_start(s->lives->host, s, fd, &v->io.fd);
    if (v->pid > 0 && loop_add(s->lives->loop, &v->io, EPOLLIN, st))
        return true;
    if (v->pid > 0) {
        abandon(v);
        return false;
    }
    status_set(st, CODE_INTERNAL, 0, "nobody to save the files: %s", strerror(errno));
    unlink(half);
    list_unlink(&v->node);
    free(v);
    return false;
}

bool sandbox_lives_freeze(struct sandbox *s, bool frozen, struct status *st)
{
    if (!frozen)
        sandbox_thaw(s->lives->host, s);
    else if (s->phase != SANDBOX_RUNNING || !sandbox_freeze(s->lives->host, s))
        return status_set(st, CODE_INTERNAL, 0, "sandbox %s does not stand still", s->id);
    return true;
}

/* --- life --- */

void sandbox_lives_deinit(struct sandbox_lives *l)
{
    LIST_FOR_EACH_SAFE (node, &l->savings)
        abandon(container_of(node, struct saving, node));
    LIST_FOR_EACH (node, &l->all) /* first all, then each: they die side by side */
        end(container_of(node, struct sandbox, node));
    LIST_FOR_EACH_SAFE (node, &l->all) {
        struct sandbox *s = container_of(node, struct sandbox, node);

        loop_remove(l->loop, &s->exit_io);
        sandbox_end(l->host, s);
    }
    loop_remove(l->loop, &l->clock);
    close(l->clock.fd);
}

static struct sandbox *find(const struct sandbox_lives *l, const char *id)
{
    LIST_FOR_EACH (node, &l->all) {
        struct sandbox *s = container_of(node, struct sandbox, node);

        if (strcmp(s->id, id) == 0)
            return s;
    }
    return NULL;
}

static bool watch(struct sandbox_lives *l, struct sandbox *s, struct status *st)
{
    s->lives = l;
    s->sync_io = (struct loop_fd){.fd = s->sync_fd, .ready = on_sync};
    s->exit_io = (struct loop_fd){.fd = s->pidfd, .ready = on_exit_of};
    s->timer.fire = on_timer;
    loop_timer_after(l->loop, &s->timer, s->start_ms);
    return loop_add(l->loop, &s->sync_io, EPOLLIN, st) &&
           loop_add(l->loop, &s->exit_io, EPOLLIN, st);
}

struct sandbox *sandbox_lives_create(struct sandbox_lives *l, const char *id,
                                     const struct sandbox_order *order, struct status *st)
{
    int64_t began_ns = clock_boottime_ns();
    struct sandbox *s;

    if (find(l, id)) {
        status_set(st, CODE_ALREADY_EXISTS, 0, "sandbox %s exists", id);
        return NULL;
    }
    s = sandbox_spawn(l->host, id, order, st);
    if (!s)
        return NULL;
    s->began_ns = began_ns;
    s->serial = ++l->last_serial;
    if (watch(l, s, st)) {
        list_append(&l->all, &s->node);
        return s;
    }
    end(s);
    loop_remove(l->loop, &s->exit_io);
    sandbox_end(l->host, s);
    return NULL;
}

struct sandbox *sandbox_lives_find(const struct sandbox_lives *l, const char *id, struct status *st)
{
    struct sandbox *s = find(l, id);

    if (s && s->phase != SANDBOX_ENDING)
        return s;
    status_set(st, CODE_NOT_FOUND, 0, "sandbox %s does not exist", id);
    return NULL;
}

struct sandbox *sandbox_lives_behind(const struct sandbox_lives *l, uint64_t serial)
{
    LIST_FOR_EACH (node, &l->all) {
        struct sandbox *s = container_of(node, struct sandbox, node);

        if (s->phase == SANDBOX_RUNNING && s->serial > serial)
            return s;
    }
    return NULL;
}

void sandbox_lives_set(struct sandbox *s, int64_t deadline_ns, enum zygote_at_deadline at_deadline,
                       int take_record_fd)
{
    s->deadline_ns = deadline_ns;
    s->at_deadline = at_deadline;
    if (take_record_fd >= 0) {
        if (s->record_fd >= 0)
            close(s->record_fd);
        s->record_fd = take_record_fd;
    }
    set_clock(s->lives);
}

void sandbox_lives_kill(struct sandbox *s, bool told)
{
    s->silent = !told;
    end(s);
    set_clock(s->lives);
}

void sandbox_lives_attend(struct sandbox_lives *l, bool daemon)
{
    l->courtesy_ns = daemon ? ZYGOTE_COURTESY_MS * NS_PER_MS : 0;
    LIST_FOR_EACH (node, &l->all) {
        struct sandbox *s = container_of(node, struct sandbox, node);

        if (!daemon && s->phase == SANDBOX_STARTING)
            sandbox_lives_kill(s, false);
    }
    set_clock(l);
}
