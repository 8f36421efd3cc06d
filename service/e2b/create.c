/*
 * e2b_create. Without request_id and reuse_key: create, then read what was made.
 *
 * With one of them, one sandbox whatever is retried and whoever asks at the same time: look for it;
 * if there is none create. Whoever found or made a young one looks twice, a moment apart, for
 * others that were made meanwhile: E2B stamps a sandbox with its time of start when it is ready and
 * lists it right after, so by the second look all have seen the oldest, and agree that it stays.
 * Each deletes only its own.
 *
 * An attempt whose outcome is not known is hunted (hunt.c), and so is one of which it could not be
 * found out whether it stays.
 */
#include "service/e2b/create.h"

#include "common/base/cleanup.h"
#include "common/base/clock.h"
#include "common/base/mem.h"
#include "service/e2b/idle.h"
#include "service/e2b/network.h"
#include "service/e2b/sandbox.h"
#include "service/e2b/url.h"

#include <stdlib.h>
#include <string.h>

enum {
    CREATE_TIMEOUT_MS = 75000, /* E2B itself gives up after 70 s */
    SETTLE_LOOKS = 2,
    SETTLE_PATIENCE = 3, /* looks that may fail, each after twice the wait */
    YOUNG_S = 60,        /* far longer than settling takes: clocks differ */
    LOOK_LIMIT = 100,
};

struct create {
    struct request request;
    struct exchange exchange;
    struct transfer_piece piece;
    struct json_object *body; /* owned */
    struct loop_timer timer;
    struct retry retry;
    const struct e2b_create_args *args; /* the caller's, like the next two */
    struct e2b_sandbox *ret;
    bool *ret_reused;
    char nonce[33];
    bool forbidden; /* the template is not the caller's to use */
    bool in_doubt;  /* a POST is on its way */
    bool looking_for_reuse;
    bool found_before; /* a young one, by the look before */
    int settle_looks, settle_failures;
    struct e2b_sandbox made;
};

static void look_first(struct create *c);
static void post(struct create *c);

static struct create *create_of(struct exchange *x)
{
    return container_of(x, struct create, exchange);
}

/* --- lists, shared with hunt.c --- */

void create_list_by_label(struct exchange *x, struct request *r, const char *key, const char *value)
{
    struct e2b_pair pair = {(char *)key, (char *)value};
    struct e2b_list_args args = {.metadata = &pair, .n_metadata = 1, .limit = LOOK_LIMIT};
    AUTO_FREE char *path = sandbox_list_path(&args, r->scope->tenant);

    exchange_deinit(x);
    *x = (struct exchange){
        .request = r,
        .method = "GET",
        .path = xasprintf("%s&order=asc", path),
        .source = SOURCE_API,
        .timeout_ms = r->e2b->config.request_timeout_ms,
        .max_response = E2B_LIST_MAX,
        .safe = true,
    };
}

static struct json_object *answer(const struct exchange *x)
{
    return json_parse(buf_data(&x->transfer.body), buf_len(&x->transfer.body));
}

bool create_read_list(struct exchange *x, struct e2b_list *ret, struct verdict *v)
{
    AUTO_JSON struct json_object *o = answer(x);

    if (sandbox_list_from_json(o, ret)) {
        scope_filter(x->request->scope, ret);
        return true;
    }
    errors_garbage(SOURCE_API, "no list of sandboxes in it", v);
    return false;
}

static bool is_before(const struct e2b_sandbox *a, const struct e2b_sandbox *b)
{
    return a->start_ns != b->start_ns ? a->start_ns < b->start_ns : strcmp(a->id, b->id) < 0;
}

struct e2b_sandbox *create_winner(const struct e2b_list *l)
{
    struct e2b_sandbox *winner = NULL;

    for (size_t i = 0; i < l->n_items; i++) {
        if (winner == NULL || is_before(&l->items[i], winner))
            winner = &l->items[i];
    }
    return winner;
}

/* --- ends --- */

static bool is_keyed(const struct create *c)
{
    return c->args->request_id != NULL || c->args->reuse_key != NULL;
}

/* The label by which callers of the same sandbox meet. */
static const char *meeting_key(const struct create *c)
{
    if (!is_keyed(c))
        return NULL;
    return c->args->reuse_key != NULL ? CREATE_REUSE_KEY : CREATE_REQUEST_ID;
}

static const char *meeting_value(const struct create *c)
{
    return c->args->reuse_key != NULL ? c->args->reuse_key : c->args->request_id;
}

static void finish(struct create *c, const struct status *st)
{
    loop_timer_stop(c->request.loop, &c->timer);
    request_finish(&c->request, st);
}

static void succeed(struct create *c, struct e2b_sandbox *take, bool reused)
{
    *c->ret = *take;
    *take = (struct e2b_sandbox){0};
    *c->ret_reused = reused;
    finish(c, &STATUS_INIT);
}

static bool aborted(struct request *r, const struct status *st)
{
    struct create *c = container_of(r, struct create, request);

    /* Made or maybe made, and the caller will not hear of it. */
    if (c->in_doubt || c->made.id != NULL)
        hunt_start(r, c->nonce, meeting_key(c), meeting_value(c));
    finish(c, st);
    return true;
}

static void destroy(struct request *r)
{
    struct create *c = container_of(r, struct create, request);

    exchange_deinit(&c->exchange);
    json_object_put(c->body);
    e2b_sandbox_deinit(&c->made);
    free(c);
}

/* --- after it was made: has somebody else made one too? --- */

static void look_settled(struct create *c);

static void run_settle(struct loop_timer *timer)
{
    look_settled(container_of(timer, struct create, timer));
}

static void look_later(struct create *c, void (*run)(struct loop_timer *timer), int64_t wait_ms)
{
    c->timer.run = run;
    loop_timer_start(c->request.loop, &c->timer, clock_monotonic_ns() + wait_ms * NS_PER_MS);
}

/* Whether it stays is not known, so nobody may be told of it. The caller's next try finds the one
 * that does. */
static void give_up_settling(struct create *c, const struct status *st)
{
    hunt_start(&c->request, c->nonce, meeting_key(c), meeting_value(c));
    finish(c, st);
}

static void done_settled(struct exchange *x)
{
    struct create *c = create_of(x);
    struct verdict v = x->verdict;
    struct e2b_list list = {0};
    struct e2b_sandbox *winner;

    if (v.st.code != CODE_OK || !create_read_list(x, &list, &v)) {
        if (++c->settle_failures > SETTLE_PATIENCE)
            give_up_settling(c, &v.st);
        else
            look_later(c, run_settle, CREATE_SETTLE_MS << c->settle_failures);
        return;
    }
    /* Not even who is older is told by the first look: that one may have to give way itself. */
    if (++c->settle_looks < SETTLE_LOOKS) {
        e2b_list_deinit(&list);
        look_later(c, run_settle, CREATE_SETTLE_MS);
        return;
    }
    winner = create_winner(&list);
    if (winner != NULL && strcmp(winner->id, c->made.id) != 0 && is_before(winner, &c->made)) {
        struct e2b_sandbox other = *winner;

        *winner = (struct e2b_sandbox){0};
        e2b_list_deinit(&list);
        hunt_delete(&c->request, c->made.id);
        succeed(c, &other, true);
        return;
    }
    e2b_list_deinit(&list);
    succeed(c, &c->made, false);
}

static void look_settled(struct create *c)
{
    create_list_by_label(&c->exchange, &c->request, meeting_key(c), meeting_value(c));
    c->exchange.done = done_settled;
    exchange_start(&c->exchange);
}

/* --- after it was made: what is it like? --- */

static void guess_detail(struct create *c)
{
    struct e2b_sandbox *s = &c->made;

    s->start_ns = clock_wall_ns();
    s->end_ns = s->start_ns + idle_first_timeout_s(c->args->timeout_s, c->args->idle_s) * NS_PER_S;
    s->auto_resume = c->args->auto_resume;
    s->idle_s = c->args->idle_s;
    s->lifetime_s = c->args->idle_s > 0 ? c->args->timeout_s : 0;
    s->metadata = xcalloc(c->args->n_metadata + 1, sizeof *s->metadata);
    for (size_t i = 0; i < c->args->n_metadata; i++) {
        s->metadata[i].key = xstrdup(c->args->metadata[i].key);
        s->metadata[i].value = xstrdup(c->args->metadata[i].value);
    }
    s->n_metadata = c->args->n_metadata;
}

static void done_detail(struct exchange *x)
{
    struct create *c = create_of(x);
    AUTO_JSON struct json_object *o = x->verdict.st.code == CODE_OK ? answer(x) : NULL;
    struct e2b_sandbox detail;

    if (sandbox_from_json(o, &detail)) {
        detail.traffic_token = TAKE(c->made.traffic_token);
        e2b_sandbox_deinit(&c->made);
        c->made = detail;
    } else {
        guess_detail(c);
    }
    idle_remember(&c->request, &c->made);
    if (is_keyed(c))
        look_settled(c);
    else
        succeed(c, &c->made, false);
}

static void look_at_detail(struct create *c)
{
    struct exchange *x = &c->exchange;

    exchange_deinit(x);
    *x = (struct exchange){
        .request = &c->request,
        .method = "GET",
        .path = url_sandbox_path(c->made.id, ""),
        .source = SOURCE_API,
        .timeout_ms = c->request.e2b->config.request_timeout_ms,
        .safe = true,
        .done = done_detail,
    };
    exchange_start(x);
}

/* --- making it --- */

static bool judge_post(struct exchange *x, struct verdict *v)
{
    struct create *c = create_of(x);
    AUTO_JSON struct json_object *o = answer(x);
    const char *token = json_text(o, "envdAccessToken", 1024);

    if (!sandbox_from_created(o, &c->made) || (token != NULL && !json_is_token(token))) {
        e2b_sandbox_deinit(&c->made);
        errors_garbage(SOURCE_CREATE, "no sandbox in it", v);
        return false;
    }
    address_store(c->request.e2b->addresses, c->request.scope->name, c->made.id, c->made.domain,
                  token, clock_monotonic_ns());
    return true;
}

static void run_look_first(struct loop_timer *timer)
{
    look_first(container_of(timer, struct create, timer));
}

static void done_post(struct exchange *x)
{
    struct create *c = create_of(x);
    const struct verdict *v = &x->verdict;
    int64_t at_ns;

    c->in_doubt = false;
    if (v->st.code == CODE_OK) {
        look_at_detail(c);
        return;
    }
    if (v->again == AGAIN_IF_SAFE) {
        hunt_start(&c->request, c->nonce, meeting_key(c), meeting_value(c));
        if (is_keyed(c) &&
            retry_next(&c->retry, v->again, true, v->told_ms, clock_monotonic_ns(),
                       c->request.deadline_ns, loop_random(c->request.loop), &at_ns)) {
            c->timer.run = run_look_first;
            loop_timer_start(c->request.loop, &c->timer, at_ns);
            return;
        }
    }
    finish(c, &v->st);
}

static struct json_object *text(const char *s)
{
    return json_object_new_string(s);
}

static struct json_object *map(const struct e2b_pair *pairs, size_t n)
{
    struct json_object *o = json_object_new_object();

    for (size_t i = 0; i < n; i++)
        json_object_object_add(o, pairs[i].key, text(pairs[i].value));
    return o;
}

static void add_seconds(struct json_object *labels, const char *label, int64_t seconds)
{
    AUTO_FREE char *value = xasprintf("%lld", (long long)seconds);

    json_object_object_add(labels, label, text(value));
}

static struct json_object *enabled(void)
{
    struct json_object *o = json_object_new_object();

    json_object_object_add(o, "enabled", json_object_new_boolean(true));
    return o;
}

static const char *template_of(const struct e2b *e, const struct e2b_create_args *a)
{
    return a->template != NULL ? a->template : e->config.template;
}

static struct json_object *make_body(const struct create *c)
{
    const struct e2b_create_args *a = c->args;
    struct json_object *o = json_object_new_object();
    struct json_object *labels = map(a->metadata, a->n_metadata);

    json_object_object_add(labels, CREATE_ATTEMPT, text(c->nonce));
    if (c->request.scope->tenant != NULL)
        json_object_object_add(labels, SCOPE_TENANT, text(c->request.scope->tenant));
    if (a->request_id != NULL)
        json_object_object_add(labels, CREATE_REQUEST_ID, text(a->request_id));
    if (a->reuse_key != NULL)
        json_object_object_add(labels, CREATE_REUSE_KEY, text(a->reuse_key));
    if (a->idle_s > 0) {
        add_seconds(labels, IDLE_TIMEOUT, a->idle_s);
        add_seconds(labels, IDLE_LIFETIME, a->timeout_s);
    }
    json_object_object_add(o, "templateID", text(template_of(c->request.e2b, a)));
    json_object_object_add(o, "timeout",
                           json_object_new_int64(idle_first_timeout_s(a->timeout_s, a->idle_s)));
    json_object_object_add(o, "secure", json_object_new_boolean(true));
    json_object_object_add(o, "metadata", labels);
    if (a->n_envs > 0)
        json_object_object_add(o, "envVars", map(a->envs, a->n_envs));
    if (a->pause_on_timeout)
        json_object_object_add(o, "autoPause", json_object_new_boolean(true));
    if (a->auto_resume)
        json_object_object_add(o, "autoResume", enabled());
    if (a->network != NULL)
        network_to_create(o, a->network);
    return o;
}

static void post(struct create *c)
{
    struct exchange *x = &c->exchange;
    const char *body;

    e2b_nonce(c->request.loop, c->nonce);
    json_object_put(c->body);
    c->body = make_body(c);
    body = json_object_to_json_string_ext(c->body, JSON_C_TO_STRING_PLAIN);
    c->piece = (struct transfer_piece){(const uint8_t *)body, strlen(body)};
    exchange_deinit(x);
    *x = (struct exchange){
        .request = &c->request,
        .method = "POST",
        .path = xstrdup("/sandboxes"),
        .source = SOURCE_CREATE,
        .pieces = &c->piece,
        .n_pieces = 1,
        .content_type = "application/json",
        .timeout_ms = CREATE_TIMEOUT_MS,
        .safe = false,
        .judge = judge_post,
        .done = done_post,
    };
    c->in_doubt = true;
    exchange_start(x);
}

/* --- is it there already? --- */

static void look_for(struct create *c, bool reuse);

static void run_look_again(struct loop_timer *timer)
{
    struct create *c = container_of(timer, struct create, timer);

    look_for(c, c->looking_for_reuse);
}

/* Its maker may still give it up for an older one that is not listed yet. */
static bool is_young(const struct e2b_sandbox *s)
{
    return clock_wall_ns() - s->start_ns < YOUNG_S * NS_PER_S;
}

static void take_found(struct create *c, struct e2b_list *l)
{
    struct e2b_sandbox *winner = create_winner(l);
    struct e2b_sandbox found;

    if (is_young(winner) && !c->found_before) {
        c->found_before = true;
        e2b_list_deinit(l);
        look_later(c, run_look_again, CREATE_SETTLE_MS);
        return;
    }
    found = *winner;
    *winner = (struct e2b_sandbox){0};
    e2b_list_deinit(l);
    succeed(c, &found, true);
}

static void done_first(struct exchange *x)
{
    struct create *c = create_of(x);
    struct verdict v = x->verdict;
    struct e2b_list list = {0};

    if (v.st.code != CODE_OK || !create_read_list(x, &list, &v)) {
        finish(c, &v.st);
        return;
    }
    if (list.n_items > 0) {
        take_found(c, &list);
        return;
    }
    c->found_before = false;
    e2b_list_deinit(&list);
    if (!c->looking_for_reuse && c->args->reuse_key != NULL)
        look_for(c, true);
    else
        post(c);
}

static void look_for(struct create *c, bool reuse)
{
    c->looking_for_reuse = reuse;
    if (reuse)
        create_list_by_label(&c->exchange, &c->request, CREATE_REUSE_KEY, c->args->reuse_key);
    else
        create_list_by_label(&c->exchange, &c->request, CREATE_REQUEST_ID, c->args->request_id);
    c->exchange.done = done_first;
    exchange_start(&c->exchange);
}

static void look_first(struct create *c)
{
    look_for(c, c->args->request_id == NULL);
}

static void refuse_template(struct create *c)
{
    struct status st;

    scope_no_template(&st);
    finish(c, &st);
}

static void start(struct request *r)
{
    struct create *c = container_of(r, struct create, request);

    if (c->forbidden)
        refuse_template(c);
    else if (is_keyed(c))
        look_first(c);
    else
        post(c);
}

void e2b_create(struct e2b *e, struct e2b_op *op, const struct e2b_create_args *args,
                struct e2b_sandbox *ret, bool *ret_reused)
{
    struct create *c = xcalloc(1, sizeof *c);

    c->args = args;
    c->ret = ret;
    c->ret_reused = ret_reused;
    c->forbidden = op->caller != NULL && !scope_may_use_template(op->caller, template_of(e, args));
    c->request.start = start;
    c->request.aborted = aborted;
    c->request.destroy = destroy;
    request_submit(&c->request, e, op, NULL);
}
