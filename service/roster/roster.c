/*
 * See roster.h. A feed is one tenant's list, kept as long as it has watchers. The thread asks for
 * its pages one after the other and only it makes and frees feeds' lists and feeds; what watchers
 * see is under the lock. The inbox, by which E2B's answers come to the thread, has a lock of its
 * own, taken last.
 */
#include "service/roster/roster.h"

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "sandbox/v1/errors.pb-c.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define REASON(name) SANDBOX__V1__ERROR_REASON__ERROR_REASON_##name

enum {
    PAGE = 100,
    PAGES_MAX = 1000, /* whoever has more of them to give goes in circles */
    PAGE_TIMEOUT_MS = 60 * 1000,
    PAUSE_MAX_MS = 60 * 1000, /* between attempts, unless E2B asks for more */
};

struct roster_feed {
    struct list node;
    struct roster *roster;
    char *tenant, *api_key; /* owned; NULL as in struct e2b_caller */
    struct e2b_caller caller;

    /* Under the lock. */
    struct list watchers;
    struct roster_list *latest; /* a reference; NULL: none yet */
    struct status over;         /* not OK: nothing comes any more */
    bool failing;

    /* The thread's. */
    bool running, cancelled;
    int64_t began_ns, due_ns; /* of this list, of the next */
    int64_t failing_since_ns;
    unsigned failures; /* in a row */
    struct e2b_op op;
    struct e2b_list_args args;
    struct e2b_list page;
    char *page_token;          /* owned */
    struct e2b_sandbox *found; /* owned, of the pages until now */
    size_t n_found, bytes;
    unsigned pages;
};

struct roster {
    struct roster_config config;
    pthread_t thread;

    pthread_mutex_t lock;
    struct list feeds; /* under it */

    struct executor executor;
    pthread_mutex_t inbox_lock;
    pthread_cond_t wake;
    struct task *inbox, **inbox_end; /* under inbox_lock, as the two below */
    bool kicked;                     /* feeds are to be looked at */
    bool stopping;
};

/* --- the inbox --- */

static void post(struct executor *e, struct task *task)
{
    struct roster *r = container_of(e, struct roster, executor);

    task->next = NULL;
    pthread_mutex_lock(&r->inbox_lock);
    *r->inbox_end = task;
    r->inbox_end = &task->next;
    pthread_cond_signal(&r->wake);
    pthread_mutex_unlock(&r->inbox_lock);
}

static void kick(struct roster *r)
{
    pthread_mutex_lock(&r->inbox_lock);
    r->kicked = true;
    pthread_cond_signal(&r->wake);
    pthread_mutex_unlock(&r->inbox_lock);
}

/* Waits until something came, or it is time. All that came. */
static struct task *wait_until(struct roster *r, int64_t at_ns, bool *ret_stopping)
{
    struct timespec at = {at_ns / NS_PER_S, at_ns % NS_PER_S};
    struct task *came;

    pthread_mutex_lock(&r->inbox_lock);
    while (r->inbox == NULL && !r->kicked) {
        if (at_ns == INT64_MAX)
            pthread_cond_wait(&r->wake, &r->inbox_lock);
        else if (pthread_cond_timedwait(&r->wake, &r->inbox_lock, &at) != 0)
            break;
    }
    came = r->inbox;
    r->inbox = NULL;
    r->inbox_end = &r->inbox;
    r->kicked = false;
    *ret_stopping = r->stopping;
    pthread_mutex_unlock(&r->inbox_lock);
    return came;
}

/* --- feeds --- */

static bool is_same(const char *a, const char *b)
{
    return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

static char *copy_or_null(const char *text)
{
    return text != NULL ? xstrdup(text) : NULL;
}

/* One that is over is left to those who have not noticed yet. */
static struct roster_feed *find_feed(struct roster *r, const struct e2b_caller *caller)
{
    LIST_FOR_EACH (node, &r->feeds) {
        struct roster_feed *f = container_of(node, struct roster_feed, node);

        if (f->over.code == CODE_OK && is_same(f->tenant, caller->tenant) &&
            is_same(f->api_key, caller->api_key))
            return f;
    }
    return NULL;
}

static struct roster_feed *new_feed(struct roster *r, const struct e2b_caller *caller)
{
    struct roster_feed *f = xcalloc(1, sizeof(*f));

    f->roster = r;
    f->tenant = copy_or_null(caller->tenant);
    f->api_key = copy_or_null(caller->api_key);
    f->caller = (struct e2b_caller){.tenant = f->tenant, .api_key = f->api_key};
    list_init(&f->watchers);
    list_append(&r->feeds, &f->node);
    return f;
}

/* What the pages have brought until now. */
static void forget_found(struct roster_feed *f)
{
    for (size_t i = 0; i < f->n_found; i++)
        e2b_sandbox_deinit(&f->found[i]);
    free(f->found);
    free(f->page_token);
    f->found = NULL;
    f->page_token = NULL;
    f->n_found = f->bytes = 0;
    f->pages = 0;
}

static void free_feed(struct roster_feed *f)
{
    list_unlink(&f->node);
    forget_found(f);
    roster_list_unref(f->latest);
    free(f->tenant);
    free(f->api_key);
    free(f);
}

/* Under the lock. */
static void tell_watchers(struct roster_feed *f)
{
    LIST_FOR_EACH (node, &f->watchers) {
        struct roster_watcher *w = container_of(node, struct roster_watcher, node);

        if (!w->posted) {
            w->posted = true;
            executor_post(w->executor, &w->task);
        }
    }
}

/* --- what comes of asking --- */

static void succeed(struct roster_feed *f)
{
    struct roster *r = f->roster;
    struct roster_list *l = roster_list_new(f->found, f->n_found, f->latest);
    struct roster_list *old = NULL;

    f->found = NULL;
    f->n_found = 0;
    forget_found(f);
    f->failures = 0;
    f->due_ns = f->began_ns + r->config.period_ms * NS_PER_MS;
    pthread_mutex_lock(&r->lock);
    f->failing = false;
    if (l != NULL) {
        old = f->latest;
        f->latest = l;
        tell_watchers(f);
    }
    pthread_mutex_unlock(&r->lock);
    roster_list_unref(old);
}

static void give_up(struct roster_feed *f, const struct status *st)
{
    forget_found(f);
    pthread_mutex_lock(&f->roster->lock);
    f->over = *st;
    tell_watchers(f);
    pthread_mutex_unlock(&f->roster->lock);
}

/* The period, doubled with each failure, or what E2B asks for where that is more. */
static int64_t pause_ms(const struct roster_feed *f, const struct status *st)
{
    int64_t ms = f->roster->config.period_ms;

    for (unsigned i = 0; i < f->failures && ms < PAUSE_MAX_MS; i++)
        ms *= 2;
    if (ms > PAUSE_MAX_MS)
        ms = PAUSE_MAX_MS;
    return st->retry_ms > ms ? st->retry_ms : ms;
}

/* Asking again would not help. */
static bool is_final(const struct status *st)
{
    return st->reason == REASON(E2B_UNAUTHENTICATED) || st->reason == REASON(E2B_FORBIDDEN) ||
           st->code == CODE_UNAUTHENTICATED || st->code == CODE_PERMISSION_DENIED;
}

static void fail(struct roster_feed *f, const struct status *st)
{
    int64_t now_ns = clock_monotonic_ns();
    int64_t ms = pause_ms(f, st), end_ns;
    struct status over;

    forget_found(f);
    if (f->failures++ == 0)
        f->failing_since_ns = f->began_ns;
    if (is_final(st)) {
        give_up(f, st);
        return;
    }
    end_ns = f->failing_since_ns + f->roster->config.give_up_ms * NS_PER_MS;
    if (now_ns >= end_ns || st->retry_ms > (end_ns - now_ns) / NS_PER_MS) {
        status_set(&over, CODE_UNAVAILABLE, REASON(E2B_UNAVAILABLE),
                   "E2B has not listed the sandboxes for %lld s: %s",
                   (long long)((now_ns - f->failing_since_ns) / NS_PER_S), st->message);
        over.retry_ms = st->retry_ms;
        give_up(f, &over);
        return;
    }
    f->due_ns = ms < (end_ns - now_ns) / NS_PER_MS ? now_ns + ms * NS_PER_MS : end_ns;
    pthread_mutex_lock(&f->roster->lock);
    f->failing = true;
    pthread_mutex_unlock(&f->roster->lock);
}

static void refuse_size(struct roster_feed *f)
{
    const struct roster_config *c = &f->roster->config;
    struct status st;

    status_set(&st, CODE_RESOURCE_EXHAUSTED, REASON(TENANT_QUOTA),
               "there are too many sandboxes to watch: at most %zu, and %zu bytes of what is told "
               "of them; use ListSandboxes",
               c->sandboxes_max, c->bytes_max);
    status_detail(&st, "tenant", "%s", f->tenant != NULL ? f->tenant : "");
    status_detail(&st, "limit", "watched_sandboxes");
    status_detail(&st, "value", "%zu", c->sandboxes_max);
    give_up(f, &st);
}

/* --- asking --- */

static void on_page(struct e2b_op *op);

static void ask(struct roster_feed *f)
{
    f->args = (struct e2b_list_args){.limit = PAGE, .page_token = f->page_token};
    f->page = (struct e2b_list){0};
    f->op = (struct e2b_op){
        .caller = &f->caller,
        .executor = &f->roster->executor,
        .done = on_page,
        .deadline_ns = clock_monotonic_ns() + PAGE_TIMEOUT_MS * NS_PER_MS,
    };
    f->running = true;
    e2b_list(f->roster->config.e2b, &f->op, &f->args, &f->page);
}

/* False: there are too many. */
static bool take_page(struct roster_feed *f)
{
    const struct roster_config *c = &f->roster->config;
    size_t n = f->page.n_items;

    if (n > 0) {
        f->found = xrealloc(f->found, (f->n_found + n) * sizeof(f->found[0]));
        memcpy(f->found + f->n_found, f->page.items, n * sizeof(f->found[0]));
        for (size_t i = 0; i < n; i++)
            f->bytes += roster_weight(&f->page.items[i]);
        f->n_found += n;
    }
    free(f->page.items);
    f->page.items = NULL;
    f->page.n_items = 0;
    free(f->page_token);
    f->page_token = f->page.next_page_token;
    f->page.next_page_token = NULL;
    f->pages++;
    return f->n_found <= c->sandboxes_max && f->bytes <= c->bytes_max;
}

static void on_page(struct e2b_op *op)
{
    struct roster_feed *f = container_of(op, struct roster_feed, op);
    struct status st = op->st;

    f->running = false;
    if (f->cancelled) {
        /* Nobody watched; whoever came since wants it from the start. */
        f->cancelled = false;
        f->due_ns = 0;
        forget_found(f);
    } else if (st.code != CODE_OK) {
        fail(f, &st);
    } else if (!take_page(f)) {
        refuse_size(f);
    } else if (f->page_token == NULL) {
        succeed(f);
    } else if (f->pages < PAGES_MAX) {
        ask(f);
    } else {
        status_set(&st, CODE_UNAVAILABLE, REASON(E2B_UNAVAILABLE), "E2B's list has no end");
        fail(f, &st);
    }
    if (!f->running)
        e2b_list_deinit(&f->page);
}

/* Does what is due for it. When it is to be looked at again; it may be gone. */
static int64_t look_after(struct roster_feed *f)
{
    bool is_watched = !list_is_empty(&f->watchers);

    if (f->running) {
        if (!is_watched && !f->cancelled) {
            f->cancelled = true;
            e2b_cancel(&f->op);
        }
        return INT64_MAX;
    }
    if (!is_watched) {
        free_feed(f);
        return INT64_MAX;
    }
    if (f->over.code != CODE_OK)
        return INT64_MAX;
    if (f->due_ns > clock_monotonic_ns())
        return f->due_ns;
    f->began_ns = clock_monotonic_ns();
    ask(f);
    return INT64_MAX;
}

static void *run(void *arg)
{
    struct roster *r = arg;
    int64_t next_ns = INT64_MAX;
    bool stopping = false, is_empty = true;

    pthread_setname_np(pthread_self(), "roster");
    while (!stopping || !is_empty) {
        struct task *task = wait_until(r, next_ns, &stopping);

        while (task != NULL) {
            struct task *following = task->next;

            task->run(task);
            task = following;
        }
        next_ns = INT64_MAX;
        pthread_mutex_lock(&r->lock);
        LIST_FOR_EACH_SAFE (node, &r->feeds) {
            int64_t at_ns = look_after(container_of(node, struct roster_feed, node));

            next_ns = at_ns < next_ns ? at_ns : next_ns;
        }
        is_empty = list_is_empty(&r->feeds);
        pthread_mutex_unlock(&r->lock);
    }
    return NULL;
}

/* --- watchers --- */

static void on_watcher(struct task *task)
{
    struct roster_watcher *w = container_of(task, struct roster_watcher, task);
    struct roster *r = w->roster;

    /* What is told from here on is posted anew: nothing is missed by looking after this. */
    pthread_mutex_lock(&r->lock);
    w->posted = false;
    pthread_mutex_unlock(&r->lock);
    if (w->leaving)
        w->left(w);
    else
        w->changed(w);
}

bool roster_look(struct roster_watcher *w, struct roster_list **ret, bool *ret_failing,
                 struct status *st)
{
    struct roster_feed *f = w->feed;
    struct roster *r = w->roster;
    bool goes_on;

    pthread_mutex_lock(&r->lock);
    goes_on = f->over.code == CODE_OK;
    *ret_failing = f->failing;
    *ret = goes_on && f->latest != NULL ? roster_list_ref(f->latest) : NULL;
    if (!goes_on)
        *st = f->over;
    pthread_mutex_unlock(&r->lock);
    return goes_on;
}

void roster_join(struct roster *r, struct roster_watcher *w, const struct e2b_caller *caller)
{
    w->roster = r;
    w->task.run = on_watcher;
    pthread_mutex_lock(&r->lock);
    w->feed = find_feed(r, caller);
    if (w->feed == NULL)
        w->feed = new_feed(r, caller);
    list_append(&w->feed->watchers, &w->node);
    if (w->feed->latest != NULL) {
        w->posted = true;
        executor_post(w->executor, &w->task);
    }
    pthread_mutex_unlock(&r->lock);
    kick(r);
}

void roster_leave(struct roster_watcher *w)
{
    struct roster *r = w->roster;
    bool comes;

    pthread_mutex_lock(&r->lock);
    list_unlink(&w->node);
    w->leaving = true;
    comes = w->posted;
    pthread_mutex_unlock(&r->lock);
    kick(r);
    if (!comes)
        w->left(w);
}

/* --- the whole --- */

bool roster_new(const struct roster_config *config, struct roster **ret, struct status *st)
{
    struct roster *r = xcalloc(1, sizeof(*r));
    pthread_condattr_t attr;
    int error;

    r->config = *config;
    r->executor.post = post;
    r->inbox_end = &r->inbox;
    list_init(&r->feeds);
    pthread_mutex_init(&r->lock, NULL);
    pthread_mutex_init(&r->inbox_lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&r->wake, &attr);
    pthread_condattr_destroy(&attr);
    error = pthread_create(&r->thread, NULL, run, r);
    if (error == 0) {
        *ret = r;
        return true;
    }
    free(r);
    return status_set(st, CODE_INTERNAL, 0, "cannot start a thread: %s", strerror(error));
}

void roster_free(struct roster *r)
{
    if (r == NULL)
        return;
    pthread_mutex_lock(&r->inbox_lock);
    r->stopping = r->kicked = true;
    pthread_cond_signal(&r->wake);
    pthread_mutex_unlock(&r->inbox_lock);
    pthread_join(r->thread, NULL);
    /* Whoever posted last may still be about to leave the lock. */
    pthread_mutex_lock(&r->inbox_lock);
    pthread_mutex_unlock(&r->inbox_lock);
    pthread_cond_destroy(&r->wake);
    pthread_mutex_destroy(&r->inbox_lock);
    pthread_mutex_destroy(&r->lock);
    free(r);
}
