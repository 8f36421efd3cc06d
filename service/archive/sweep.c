/* See sweep.h. A thread of its own, and jobs. */
#include "service/archive/sweep.h"

#include "common/base/cleanup.h"
#include "common/base/clock.h"
#include "common/base/list.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "sandbox/v1/errors.pb-c.h"
#include "service/archive/private.h"

#include <stdlib.h>
#include <string.h>

enum {
    COPIES_MAX = 4,
    PAGE = 100,
    PAGES_MAX = 1000,
    ROUNDS = 4, /* while a sandbox is near its end */
    ROUND_MIN_MS = 500,
    ROUND_MAX_MS = 15 * 1000,
    FULL_MS = 50, /* before a copy is tried again where too many run */
    LIST_TIMEOUT_MS = 30 * 1000,
};

/* As service/e2b labels sandboxes. */
#define TENANT_KEY "sandboxd.tenant"

struct sweeper {
    struct archive *archive; /* borrowed */
    int64_t before_end_ms, round_ms;
    struct jobs copies;
    pthread_t thread;
    pthread_mutex_t lock; /* guards stopping, with the condition */
    pthread_cond_t stopped;
    bool stopping;
    struct mailbox mailbox;
    struct e2b_op op; /* of the list */
    bool listed;
};

struct sweep_copy {
    struct sweeper *sweeper;
    struct target target;
};

/* False: it is to stop. */
static bool wait_ms(struct sweeper *s, int64_t ms)
{
    int64_t until_ns = clock_wall_ns() + ms * NS_PER_MS;
    struct timespec until = {until_ns / NS_PER_S, until_ns % NS_PER_S};
    bool go_on;

    pthread_mutex_lock(&s->lock);
    while (!s->stopping && pthread_cond_timedwait(&s->stopped, &s->lock, &until) == 0)
        ;
    go_on = !s->stopping;
    pthread_mutex_unlock(&s->lock);
    return go_on;
}

/* --- copying --- */

static void copy_free(struct sweep_copy *c)
{
    target_deinit(&c->target);
    free(c);
}

static void run_copy(void *arg)
{
    struct sweep_copy *c = arg;
    struct sweeper *s = c->sweeper;
    struct status st = STATUS_INIT;

    /* What is gone meanwhile was not to be had any more; a pod that stops leaves it to others. */
    if (!archive_copy_now(s->archive, &c->target, INT64_MAX, &s->copies.stopping, &st) &&
        st.reason != SANDBOX__V1__ERROR_REASON__ERROR_REASON_SANDBOX_NOT_FOUND &&
        !atomic_load(&s->copies.stopping))
        log_warn("a sandbox near its end is not archived",
                 LOG_S("sandbox_id", c->target.sandbox_id), LOG_S("error", st.message));
    copy_free(c);
}

/* Whom it was made for; NULL: that was not said. */
static const char *tenant_of(const struct e2b_sandbox *sandbox)
{
    for (size_t i = 0; i < sandbox->n_metadata; i++)
        if (strcmp(sandbox->metadata[i].key, TENANT_KEY) == 0)
            return sandbox->metadata[i].value;
    return NULL;
}

/* False: it is to stop. */
static bool start_copy(struct sweeper *s, const struct e2b_sandbox *sandbox)
{
    struct sweep_copy *c;
    const struct e2b_caller owner = {.tenant = tenant_of(sandbox)};

    if (strlen(sandbox->id) > RECORD_ID_MAX)
        return true; /* none of ours */
    c = xcalloc(1, sizeof(*c));
    c->sweeper = s;
    if (!target_init(&c->target, &owner, sandbox->id, NULL)) {
        free(c);
        return true;
    }
    while (!jobs_start(&s->copies, run_copy, c)) {
        if (!wait_ms(s, FULL_MS)) {
            copy_free(c);
            return false;
        }
    }
    return true;
}

/* --- looking --- */

static void on_listed(struct e2b_op *op)
{
    container_of(op, struct sweeper, op)->listed = true;
}

static bool is_near_end(const struct sweeper *s, const struct e2b_sandbox *sandbox)
{
    return sandbox->state == E2B_RUNNING &&
           sandbox->end_ns - clock_wall_ns() <= s->before_end_ms * NS_PER_MS;
}

/* One page of the running sandboxes; *token: the next one's, NULL: it was the last. */
static bool sweep_page(struct sweeper *s, char **token)
{
    const struct e2b_list_args args = {.running = true, .limit = PAGE, .page_token = *token};
    const struct e2b_caller everyone = {.tenant = NULL};
    struct e2b_list list = {0};
    bool go_on = true;

    s->listed = false;
    s->op = (struct e2b_op){
        .caller = &everyone,
        .executor = &s->mailbox.executor,
        .done = on_listed,
        .deadline_ns = clock_monotonic_ns() + LIST_TIMEOUT_MS * NS_PER_MS,
    };
    e2b_list(s->archive->e2b, &s->op, &args, &list);
    if (!mailbox_run(&s->mailbox, &s->listed, &s->copies.stopping)) {
        e2b_cancel(&s->op);
        mailbox_run(&s->mailbox, &s->listed, NULL);
    }
    free(TAKE(*token));
    if (s->op.st.code == CODE_OK) {
        for (size_t i = 0; go_on && i < list.n_items; i++)
            if (is_near_end(s, &list.items[i]))
                go_on = start_copy(s, &list.items[i]);
        *token = TAKE(list.next_page_token);
    } else if (!atomic_load(&s->copies.stopping)) {
        log_warn("sandboxes near their end cannot be looked for", LOG_S("error", s->op.st.message));
    }
    e2b_list_deinit(&list);
    return go_on;
}

static bool sweep(struct sweeper *s)
{
    char *token = NULL;
    bool go_on;
    int n = 0;

    do {
        go_on = sweep_page(s, &token);
    } while (go_on && token != NULL && ++n < PAGES_MAX);
    free(token);
    return go_on;
}

static void *sweeper_main(void *arg)
{
    struct sweeper *s = arg;
    int64_t ms = arc4random_uniform((uint32_t)s->round_ms);

    while (wait_ms(s, ms) && sweep(s))
        ms = s->round_ms;
    return NULL;
}

/* --- its life --- */

struct sweeper *sweeper_new(struct archive *a, int64_t before_end_ms)
{
    struct sweeper *s = xcalloc(1, sizeof(*s));
    int64_t round_ms = before_end_ms / ROUNDS;

    s->archive = a;
    s->before_end_ms = before_end_ms;
    s->round_ms = round_ms < ROUND_MIN_MS   ? ROUND_MIN_MS
                  : round_ms > ROUND_MAX_MS ? ROUND_MAX_MS
                                            : round_ms;
    jobs_init(&s->copies, COPIES_MAX);
    mailbox_init(&s->mailbox);
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->stopped, NULL);
    if (pthread_create(&s->thread, NULL, sweeper_main, s) != 0)
        abort(); /* as when memory runs out */
    return s;
}

void sweeper_free(struct sweeper *s)
{
    if (s == NULL)
        return;
    pthread_mutex_lock(&s->lock);
    s->stopping = true;
    atomic_store(&s->copies.stopping, true);
    pthread_cond_signal(&s->stopped);
    pthread_mutex_unlock(&s->lock);
    pthread_join(s->thread, NULL);
    jobs_deinit(&s->copies);
    mailbox_deinit(&s->mailbox);
    pthread_cond_destroy(&s->stopped);
    pthread_mutex_destroy(&s->lock);
    free(s);
}
