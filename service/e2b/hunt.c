/*
 * See create.h: what is done about sandboxes that nobody was told of. Detached; if the pod dies
 * meanwhile, the sandbox's own timeout ends it.
 */
#include "service/e2b/create.h"

#include "common/base/cleanup.h"
#include "common/base/clock.h"
#include "common/base/mem.h"
#include "service/e2b/url.h"

#include <stdlib.h>
#include <string.h>

enum {
    HUNT_MS = 85000,        /* E2B may take 70 s to finish */
    HUNT_FIRST_MS = 1000,   /* between looks; doubled each time… */
    HUNT_LONGEST_MS = 8000, /* …up to this: what is left lives no longer unnoticed */
    DELETE_MS = 30000,      /* one attempt */
};

struct hunt {
    struct request request;
    struct exchange exchange;
    struct loop_timer timer;
    int64_t wait_ms;
    char nonce[33];
    char *key, *value; /* owned; NULL: none */
    char *found;       /* owned; the sandbox's id */
    bool won_before;   /* it was the one that stays, by the look before */
};

static void look(struct hunt *h);
static void look_for_winner(struct hunt *h);
static void delete_found(struct hunt *h);

static void destroy(struct request *r)
{
    struct hunt *h = container_of(r, struct hunt, request);

    exchange_deinit(&h->exchange);
    free(h->key);
    free(h->value);
    free(h->found);
    free(h);
}

static void finish(struct hunt *h, const struct status *st)
{
    loop_timer_stop(h->request.loop, &h->timer);
    request_finish(&h->request, st);
}

static bool aborted(struct request *r, const struct status *st)
{
    finish(container_of(r, struct hunt, request), st);
    return true;
}

/* --- deleting it --- */

static void run_delete(struct loop_timer *timer)
{
    delete_found(container_of(timer, struct hunt, timer));
}

static void wait_for(struct hunt *h, void (*run)(struct loop_timer *timer))
{
    h->timer.run = run;
    loop_timer_start(h->request.loop, &h->timer, clock_monotonic_ns() + h->wait_ms * NS_PER_MS);
    if (h->wait_ms < HUNT_LONGEST_MS)
        h->wait_ms *= 2;
}

static void done_delete(struct exchange *x)
{
    struct hunt *h = container_of(x, struct hunt, exchange);

    if (x->verdict.st.code == CODE_OK || x->verdict.st.code == CODE_NOT_FOUND)
        finish(h, &STATUS_INIT);
    else
        wait_for(h, run_delete);
}

static void delete_found(struct hunt *h)
{
    exchange_deinit(&h->exchange);
    h->exchange = (struct exchange){
        .request = &h->request,
        .method = "DELETE",
        .path = url_sandbox_path(h->found, ""),
        .source = SOURCE_API,
        .timeout_ms = DELETE_MS,
        .safe = true,
        .done = done_delete,
    };
    exchange_start(&h->exchange);
}

/* --- finding it --- */

static void run_look(struct loop_timer *timer)
{
    look(container_of(timer, struct hunt, timer));
}

static void look_again(struct hunt *h)
{
    h->won_before = false;
    wait_for(h, run_look);
}

static void run_look_for_winner(struct loop_timer *timer)
{
    look_for_winner(container_of(timer, struct hunt, timer));
}

/* Found it. Is it the one that others were given, or will be? As create.c: by two looks. */
static void done_winner(struct exchange *x)
{
    struct hunt *h = container_of(x, struct hunt, exchange);
    struct verdict v = x->verdict;
    struct e2b_list list = {0};
    const struct e2b_sandbox *winner;
    bool ours;

    if (v.st.code != CODE_OK || !create_read_list(x, &list, &v)) {
        look_again(h);
        return;
    }
    winner = create_winner(&list);
    ours = winner == NULL || strcmp(winner->id, h->found) == 0;
    e2b_list_deinit(&list);
    if (!ours) {
        delete_found(h);
    } else if (h->won_before) {
        finish(h, &STATUS_INIT);
    } else {
        h->won_before = true;
        h->timer.run = run_look_for_winner;
        loop_timer_start(h->request.loop, &h->timer,
                         clock_monotonic_ns() + CREATE_SETTLE_MS * NS_PER_MS);
    }
}

static void look_for_winner(struct hunt *h)
{
    create_list_by_label(&h->exchange, &h->request, h->key, h->value);
    h->exchange.done = done_winner;
    exchange_start(&h->exchange);
}

static void done_look(struct exchange *x)
{
    struct hunt *h = container_of(x, struct hunt, exchange);
    struct verdict v = x->verdict;
    struct e2b_list list = {0};

    if (v.st.code != CODE_OK || !create_read_list(x, &list, &v) || list.n_items == 0) {
        e2b_list_deinit(&list);
        look_again(h);
        return;
    }
    free(h->found);
    h->found = TAKE(list.items[0].id);
    e2b_list_deinit(&list);
    if (h->key == NULL)
        delete_found(h);
    else
        look_for_winner(h);
}

static void look(struct hunt *h)
{
    create_list_by_label(&h->exchange, &h->request, CREATE_ATTEMPT, h->nonce);
    h->exchange.done = done_look;
    exchange_start(&h->exchange);
}

static void start_hunt(struct request *r)
{
    struct hunt *h = container_of(r, struct hunt, request);

    if (h->found != NULL)
        delete_found(h);
    else
        look_again(h);
}

static struct hunt *new_hunt(void)
{
    struct hunt *h = xcalloc(1, sizeof *h);

    h->wait_ms = HUNT_FIRST_MS;
    h->request.start = start_hunt;
    h->request.aborted = aborted;
    h->request.destroy = destroy;
    return h;
}

void hunt_start(const struct request *like, const char *nonce, const char *key, const char *value)
{
    struct hunt *h = new_hunt();

    memcpy(h->nonce, nonce, sizeof h->nonce);
    if (key != NULL) {
        h->key = xstrdup(key);
        h->value = xstrdup(value);
    }
    request_detach(&h->request, like, HUNT_MS);
}

void hunt_delete(const struct request *like, const char *sandbox_id)
{
    struct hunt *h = new_hunt();

    h->found = xstrdup(sandbox_id);
    request_detach(&h->request, like, HUNT_MS);
}
