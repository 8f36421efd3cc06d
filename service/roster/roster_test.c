/*
 * The roster against an E2B made by hand, which answers at once with what the test says, or errs.
 * The roster's thread is the real one; watchers live on the test's, whose executor it pumps.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "sandbox/v1/errors.pb-c.h"
#include "service/roster/roster.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REASON(name) SANDBOX__V1__ERROR_REASON__ERROR_REASON_##name

/* --- E2B --- */

enum mode { ANSWERS, ERRS, HALF, SILENT, ENDLESS, FULL };

static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    enum mode mode;
    struct status error;
    int sandboxes; /* in pages of two, but where it is FULL */
    int lists, pages, cancels;
    struct e2b_op *silent;
    char tenant[16];
} fake = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

void e2b_sandbox_deinit(struct e2b_sandbox *s)
{
    free(s->id);
    free(s->template_id);
    *s = (struct e2b_sandbox){0};
}

void e2b_list_deinit(struct e2b_list *l)
{
    for (size_t i = 0; i < l->n_items; i++)
        e2b_sandbox_deinit(&l->items[i]);
    free(l->items);
    free(l->next_page_token);
    *l = (struct e2b_list){0};
}

static void run_done(struct task *task)
{
    struct e2b_op *op = container_of(task, struct e2b_op, task);

    op->done(op);
}

static void end_op(struct e2b_op *op)
{
    op->task.run = run_done;
    executor_post(op->executor, &op->task);
}

static void fill(struct e2b_list *ret, int from, int n)
{
    ret->items = xcalloc((size_t)n + 1, sizeof(ret->items[0]));
    for (; n > 0; n--, from++) {
        ret->items[ret->n_items].id = xasprintf("i%04d", from);
        ret->items[ret->n_items++].template_id = xstrdup("base");
    }
}

static void answer(struct e2b_op *op, const struct e2b_list_args *args, struct e2b_list *ret)
{
    int from = args->page_token != NULL ? atoi(args->page_token) : 0;
    int left = fake.sandboxes > from ? fake.sandboxes - from : 0; /* fewer may be left by now */
    int n = fake.mode != FULL && left > 2 ? 2 : left;

    op->st = STATUS_INIT;
    if (fake.mode == ERRS || (fake.mode == HALF && from > 0)) {
        op->st = fake.error;
        return;
    }
    fill(ret, from, n);
    if (fake.mode == ENDLESS)
        ret->next_page_token = xstrdup("0");
    else if (n < left)
        ret->next_page_token = xasprintf("%d", from + n);
}

void e2b_list(struct e2b *e, struct e2b_op *op, const struct e2b_list_args *args,
              struct e2b_list *ret)
{
    pthread_mutex_lock(&fake.lock);
    fake.pages++;
    fake.lists += args->page_token == NULL;
    snprintf(fake.tenant, sizeof(fake.tenant), "%s",
             op->caller->tenant != NULL ? op->caller->tenant : "");
    if (fake.mode == SILENT) {
        fake.silent = op;
    } else {
        answer(op, args, ret);
        end_op(op);
    }
    pthread_cond_broadcast(&fake.changed);
    pthread_mutex_unlock(&fake.lock);
}

void e2b_cancel(struct e2b_op *op)
{
    pthread_mutex_lock(&fake.lock);
    fake.cancels++;
    status_set(&op->st, CODE_CANCELLED, 0, "cancelled");
    end_op(op);
    pthread_cond_broadcast(&fake.changed);
    pthread_mutex_unlock(&fake.lock);
}

static void set(enum mode mode, int sandboxes)
{
    pthread_mutex_lock(&fake.lock);
    fake.mode = mode;
    fake.sandboxes = sandboxes;
    pthread_mutex_unlock(&fake.lock);
}

static int wait_for(const int *what, int at_least)
{
    int is;

    pthread_mutex_lock(&fake.lock);
    while (*what < at_least)
        pthread_cond_wait(&fake.changed, &fake.lock);
    is = *what;
    pthread_mutex_unlock(&fake.lock);
    return is;
}

/* --- the watchers' thread --- */

static pthread_mutex_t inbox_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t inbox_some = PTHREAD_COND_INITIALIZER;
static struct task *inbox;

static void post(struct executor *e, struct task *task)
{
    pthread_mutex_lock(&inbox_lock);
    task->next = inbox;
    inbox = task;
    pthread_cond_signal(&inbox_some);
    pthread_mutex_unlock(&inbox_lock);
}

static struct executor executor = {.post = post};

static void pump_once(void)
{
    struct task *task;

    pthread_mutex_lock(&inbox_lock);
    while (inbox == NULL)
        pthread_cond_wait(&inbox_some, &inbox_lock);
    task = inbox;
    inbox = task->next;
    pthread_mutex_unlock(&inbox_lock);
    task->run(task);
}

static bool is_quiet(void)
{
    bool quiet;

    pthread_mutex_lock(&inbox_lock);
    quiet = inbox == NULL;
    pthread_mutex_unlock(&inbox_lock);
    return quiet;
}

struct watcher {
    struct roster_watcher w;
    int changes;
    bool left;
};

static void on_changed(struct roster_watcher *w)
{
    assert_false(container_of(w, struct watcher, w)->left);
    container_of(w, struct watcher, w)->changes++;
}

static void on_left(struct roster_watcher *w)
{
    assert_false(container_of(w, struct watcher, w)->left);
    container_of(w, struct watcher, w)->left = true;
}

static void join(struct roster *r, struct watcher *w, const char *tenant, const char *key)
{
    char *tenant_copy = tenant != NULL ? xstrdup(tenant) : NULL;
    struct e2b_caller caller = {.tenant = tenant_copy, .api_key = key};

    *w = (struct watcher){.w = {.executor = &executor, .changed = on_changed, .left = on_left}};
    roster_join(r, &w->w, &caller);
    free(tenant_copy); /* what the caller had is its own */
}

static void leave(struct watcher *w)
{
    roster_leave(&w->w);
    while (!w->left)
        pump_once();
}

/* How many sandboxes it sees; -1: no list yet. */
static int sees(struct watcher *w, bool *ret_failing)
{
    struct roster_list *l;
    struct status st;
    int n;

    assert_true(roster_look(&w->w, &l, ret_failing, &st));
    n = l != NULL ? (int)l->n : -1;
    roster_list_unref(l);
    return n;
}

static void wait_to_see(struct watcher *w, int n)
{
    bool failing;

    while (sees(w, &failing) != n)
        pump_once();
}

static struct status wait_for_end(struct watcher *w)
{
    struct roster_list *l;
    struct status st;
    bool failing;

    while (roster_look(&w->w, &l, &failing, &st)) {
        roster_list_unref(l);
        pump_once();
    }
    assert_null(l);
    return st;
}

static struct roster *open_roster(int64_t period_ms, int64_t give_up_ms)
{
    const struct roster_config config = {
        .period_ms = period_ms, .give_up_ms = give_up_ms, .sandboxes_max = 50, .bytes_max = 10000};
    struct roster *r;

    fake.lists = fake.pages = fake.cancels = 0;
    status_set(&fake.error, CODE_UNAVAILABLE, REASON(E2B_UNAVAILABLE), "E2B errs");
    assert_true(roster_new(&config, &r, &STATUS_INIT));
    return r;
}

enum { NEVER_MS = 3600 * 1000 };

static void test_nobody_watches(void **state)
{
    struct roster *r = open_roster(1, NEVER_MS);
    struct watcher w;

    set(ANSWERS, 3);
    join(r, &w, NULL, NULL);
    wait_to_see(&w, 3);
    leave(&w);
    roster_free(r); /* waits for what is under way */
    r = open_roster(1, NEVER_MS);
    roster_free(r);
    assert_int_equal(fake.lists, 0);
}

static void test_one_list_for_all_of_a_tenant(void **state)
{
    struct roster *r = open_roster(NEVER_MS, NEVER_MS);
    struct watcher w[20], other, keyed;

    set(ANSWERS, 5);
    for (int i = 0; i < 20; i++)
        join(r, &w[i], "a", NULL);
    for (int i = 0; i < 20; i++)
        wait_to_see(&w[i], 5);
    assert_int_equal(fake.lists, 1);
    assert_int_equal(fake.pages, 3);
    assert_string_equal(fake.tenant, "a");
    set(ANSWERS, 2);
    join(r, &other, "b", NULL);
    wait_to_see(&other, 2);
    assert_string_equal(fake.tenant, "b");
    join(r, &keyed, "a", "another key");
    wait_to_see(&keyed, 2);
    wait_to_see(&w[0], 5);
    assert_int_equal(fake.lists, 3);
    for (int i = 0; i < 20; i++)
        leave(&w[i]);
    leave(&other);
    leave(&keyed);
    roster_free(r);
}

static void test_changes_come_by_themselves(void **state)
{
    struct roster *r = open_roster(1, NEVER_MS);
    struct watcher w;
    int lists;

    set(ANSWERS, 5);
    join(r, &w, NULL, NULL);
    wait_to_see(&w, 5);
    while (w.changes == 0)
        pump_once();
    lists = wait_for(&fake.lists, 5);
    assert_true(is_quiet()); /* lists that are the same are not told of */
    set(ANSWERS, 0);
    wait_to_see(&w, 0);
    assert_true(fake.lists > lists);
    leave(&w);
    roster_free(r);
}

/* Whatever goes wrong, and wherever in the list, nothing is gone by that. */
static void test_failures_are_not_told_as_removals(void **state)
{
    static const enum mode modes[] = {ERRS, HALF, ENDLESS};

    for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
        struct roster *r = open_roster(1, NEVER_MS);
        struct watcher w;
        bool failing = false;

        set(ANSWERS, 5);
        join(r, &w, NULL, NULL);
        wait_to_see(&w, 5);
        while (w.changes == 0)
            pump_once();
        set(modes[i], modes[i] == ENDLESS ? 0 : 4);
        while (!failing)
            assert_int_equal(sees(&w, &failing), 5);
        wait_for(&fake.lists, fake.lists + 3);
        assert_int_equal(sees(&w, &failing), 5);
        assert_true(is_quiet());
        set(ANSWERS, 4);
        wait_to_see(&w, 4);
        sees(&w, &failing);
        assert_false(failing);
        leave(&w);
        roster_free(r);
    }
}

static void test_e2b_says_when_to_come_again(void **state)
{
    struct roster *r = open_roster(1, NEVER_MS);
    struct watcher w;
    bool failing = false;
    int64_t began_ns = clock_monotonic_ns();

    fake.error.code = CODE_RESOURCE_EXHAUSTED;
    fake.error.retry_ms = 300;
    set(ERRS, 0);
    join(r, &w, NULL, NULL);
    while (!failing)
        assert_int_equal(sees(&w, &failing), -1);
    wait_for(&fake.lists, 2);
    assert_true(clock_monotonic_ns() - began_ns >= 300 * NS_PER_MS);
    leave(&w);
    roster_free(r);
}

static void test_it_gives_up(void **state)
{
    struct roster *r = open_roster(1, 200);
    struct watcher w, next;
    struct status st;

    set(ERRS, 0);
    join(r, &w, NULL, NULL);
    st = wait_for_end(&w);
    assert_int_equal(st.code, CODE_UNAVAILABLE);
    assert_int_equal(st.reason, REASON(E2B_UNAVAILABLE));
    assert_true(fake.lists > 2);
    /* Whoever comes now has another try. */
    set(ANSWERS, 1);
    join(r, &next, NULL, NULL);
    wait_to_see(&next, 1);
    leave(&w);
    leave(&next);
    roster_free(r);
}

/* Nobody is kept waiting for what cannot come in time. */
static void test_e2b_wants_to_be_left_alone(void **state)
{
    struct roster *r = open_roster(1, NEVER_MS);
    struct watcher w;
    struct status st;

    fake.error.code = CODE_RESOURCE_EXHAUSTED;
    fake.error.retry_ms = NEVER_MS + 1;
    set(ERRS, 0);
    join(r, &w, NULL, NULL);
    st = wait_for_end(&w);
    assert_int_equal(st.code, CODE_UNAVAILABLE);
    assert_int_equal(st.retry_ms, NEVER_MS + 1);
    assert_int_equal(fake.lists, 1);
    leave(&w);
    roster_free(r);
}

static void test_some_ends_come_at_once(void **state)
{
    static const struct {
        enum mode mode;
        int sandboxes;
        enum code code;
        int reason;
    } cases[] = {
        {ERRS, 0, CODE_FAILED_PRECONDITION, REASON(E2B_UNAUTHENTICATED)},
        {ERRS, 0, CODE_UNAUTHENTICATED, REASON(UNAUTHENTICATED)},
        {ANSWERS, 51, CODE_RESOURCE_EXHAUSTED, REASON(TENANT_QUOTA)},
        {FULL, 10000, CODE_RESOURCE_EXHAUSTED, REASON(TENANT_QUOTA)},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct roster *r = open_roster(NEVER_MS, NEVER_MS);
        struct watcher w;
        struct status st;

        fake.error.code = cases[i].code;
        fake.error.reason = cases[i].reason;
        set(cases[i].mode, cases[i].sandboxes);
        join(r, &w, NULL, NULL);
        st = wait_for_end(&w);
        assert_int_equal(st.code, cases[i].code);
        assert_int_equal(st.reason, cases[i].reason);
        leave(&w);
        roster_free(r);
    }
}

/* Who leaves while E2B is silent does not leave it asked; who comes then gets a list. */
static void test_leaving_while_it_is_asked(void **state)
{
    struct roster *r = open_roster(NEVER_MS, NEVER_MS);
    struct watcher w;

    set(SILENT, 0);
    join(r, &w, NULL, NULL);
    wait_for(&fake.lists, 1);
    leave(&w);
    wait_for(&fake.cancels, 1);
    set(ANSWERS, 3);
    join(r, &w, NULL, NULL);
    wait_to_see(&w, 3);
    leave(&w);
    roster_free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nobody_watches),
        cmocka_unit_test(test_one_list_for_all_of_a_tenant),
        cmocka_unit_test(test_changes_come_by_themselves),
        cmocka_unit_test(test_failures_are_not_told_as_removals),
        cmocka_unit_test(test_e2b_says_when_to_come_again),
        cmocka_unit_test(test_it_gives_up),
        cmocka_unit_test(test_e2b_wants_to_be_left_alone),
        cmocka_unit_test(test_some_ends_come_at_once),
        cmocka_unit_test(test_leaving_while_it_is_asked),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
