/*
 * Snapshots: made from a sandbox, listed, removed. To E2B a snapshot is a template of its own kind
 * and is deleted like any template; so that nobody deletes a template in its place, it is looked
 * for among the snapshots first.
 */
#include "service/e2b/control.h"

#include "common/base/cleanup.h"
#include "common/base/mem.h"
#include "sandbox/v1/errors.pb-c.h"
#include "service/e2b/json.h"
#include "service/e2b/url.h"

#include <stdlib.h>
#include <string.h>

#define REASON(name) SANDBOX__V1__ERROR_REASON__ERROR_REASON_##name

enum {
    NAMES_MAX = 64,
    NAME_MAX_BYTES = 512,
    LOOK_LIMIT = 100,
    LOOK_PAGES_MAX = 100,
};

struct verb {
    struct control control;
    char *text; /* owned: a name, a page's token, or a snapshot's id */
    int limit;
    int pages;
    struct e2b_snapshot *ret; /* the caller's, as the next */
    struct e2b_snapshots *ret_list;
};

static struct verb *verb_of(struct exchange *x)
{
    return container_of(x, struct verb, control.exchange);
}

static void destroy(struct request *r)
{
    struct verb *v = container_of(r, struct verb, control.request);

    control_deinit(&v->control);
    free(v->text);
    free(v);
}

static struct verb *new_verb(const char *sandbox_id, const char *text,
                             void (*start)(struct request *r))
{
    struct verb *v = xcalloc(1, sizeof *v);

    control_init(&v->control, sandbox_id, start, destroy);
    v->text = text != NULL ? xstrdup(text) : NULL;
    return v;
}

void e2b_snapshot_deinit(struct e2b_snapshot *s)
{
    free_strings(s->names, s->n_names);
    free(s->id);
    *s = (struct e2b_snapshot){0};
}

void e2b_snapshots_deinit(struct e2b_snapshots *l)
{
    for (size_t i = 0; i < l->n_items; i++)
        e2b_snapshot_deinit(&l->items[i]);
    free(l->items);
    free(l->next_page_token);
    *l = (struct e2b_snapshots){0};
}

static bool read_names(struct json_object *array, struct e2b_snapshot *ret)
{
    size_t n = json_object_array_length(array);

    if (n > NAMES_MAX)
        return false;
    ret->names = xcalloc(n ? n : 1, sizeof ret->names[0]);
    for (size_t i = 0; i < n; i++) {
        const char *name = json_text_value(json_object_array_get_idx(array, i), NAME_MAX_BYTES);

        if (name == NULL)
            return false;
        ret->names[ret->n_names++] = xstrdup(name);
    }
    return true;
}

static bool read_snapshot(struct json_object *o, struct e2b_snapshot *ret)
{
    const char *id = json_text(o, "snapshotID", NAME_MAX_BYTES);
    struct json_object *names;

    *ret = (struct e2b_snapshot){0};
    if (id == NULL || !json_is_token(id))
        return false;
    ret->id = xstrdup(id);
    if (!json_object_object_get_ex(o, "names", &names) ||
        !json_object_is_type(names, json_type_array))
        return true;
    if (read_names(names, ret))
        return true;
    e2b_snapshot_deinit(ret);
    return false;
}

static bool read_page(const struct exchange *x, struct e2b_snapshots *ret)
{
    AUTO_JSON struct json_object *array = control_answer(x);
    const char *next = transfer_response_header(&x->transfer, "X-Next-Token");
    size_t n;

    *ret = (struct e2b_snapshots){0};
    if (!json_object_is_type(array, json_type_array))
        return false;
    n = json_object_array_length(array);
    ret->items = xcalloc(n ? n : 1, sizeof ret->items[0]);
    for (size_t i = 0; i < n; i++) {
        if (!read_snapshot(json_object_array_get_idx(array, i), &ret->items[i])) {
            e2b_snapshots_deinit(ret);
            return false;
        }
        ret->n_items++;
    }
    if (next != NULL && next[0] != '\0')
        ret->next_page_token = xstrdup(next);
    return true;
}

/* --- create --- */

static bool judge_created(struct exchange *x, struct verdict *verdict)
{
    AUTO_JSON struct json_object *o = control_answer(x);

    if (read_snapshot(o, verb_of(x)->ret))
        return true;
    errors_garbage(SOURCE_API, "no snapshot in it", verdict);
    return false;
}

static bool judge_busy(struct exchange *x, struct verdict *verdict)
{
    struct e2b_sandbox s;

    if (control_read_sandbox(x, &s, verdict)) {
        control_explain_busy(&s, verdict);
        e2b_sandbox_deinit(&s);
    }
    return false;
}

static void done_create(struct exchange *x)
{
    if (x->verdict.st.reason != REASON(SANDBOX_BUSY)) {
        control_done(x);
        return;
    }
    x = control_look(CONTROL_OF(x));
    x->judge = judge_busy;
    exchange_start(x);
}

/* A tenant's snapshot is known by its name, so it always has one. */
static void stamp_name(struct verb *v)
{
    const struct request *r = &v->control.request;
    char nonce[33];
    char *name;

    e2b_nonce(r->loop, nonce);
    name = scope_snapshot_name(r->scope, v->text != NULL ? v->text : nonce);
    free(v->text);
    v->text = name;
}

static void start_create(struct request *r)
{
    struct verb *v = container_of(r, struct verb, control.request);
    AUTO_JSON struct json_object *o = json_object_new_object();
    struct exchange *x = control_begin_at(&v->control, "POST", "/snapshots");

    if (r->scope->tenant != NULL)
        stamp_name(v);
    if (v->text != NULL)
        json_object_object_add(o, "name", json_object_new_string(v->text));
    control_send(&v->control, xstrdup(json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN)));
    x->safe = false; /* a second one would be another snapshot */
    x->judge = judge_created;
    x->done = done_create;
    exchange_start(x);
}

void e2b_snapshot_create(struct e2b *e, struct e2b_op *op, const char *sandbox_id, const char *name,
                         struct e2b_snapshot *ret)
{
    struct verb *v = new_verb(sandbox_id, name, start_create);

    v->ret = ret;
    *ret = (struct e2b_snapshot){0};
    request_submit(&v->control.request, e, op, sandbox_id);
}

/* --- list --- */

static char *list_path(const char *sandbox_id, int limit, const char *page_token)
{
    struct buf path;

    buf_init(&path, SIZE_MAX / 2);
    buf_printf(&path, "/snapshots?limit=%d", limit);
    if (sandbox_id != NULL) {
        AUTO_FREE char *id = url_escape(sandbox_id);

        buf_printf(&path, "&sandboxID=%s", id);
    }
    if (page_token != NULL) {
        AUTO_FREE char *token = url_escape(page_token);

        buf_printf(&path, "&nextToken=%s", token);
    }
    return buf_take_str(&path);
}

static bool is_own(const struct scope *scope, const struct e2b_snapshot *s)
{
    bool own = scope_may_use_snapshot(scope, s->id);

    for (size_t i = 0; i < s->n_names && !own; i++)
        own = scope_may_use_snapshot(scope, s->names[i]);
    return own;
}

static void keep_own(const struct scope *scope, struct e2b_snapshots *l)
{
    size_t kept = 0;

    if (scope->tenant == NULL)
        return;
    for (size_t i = 0; i < l->n_items; i++) {
        if (is_own(scope, &l->items[i]))
            l->items[kept++] = l->items[i];
        else
            e2b_snapshot_deinit(&l->items[i]);
    }
    l->n_items = kept;
}

static bool judge_list(struct exchange *x, struct verdict *verdict)
{
    if (read_page(x, verb_of(x)->ret_list)) {
        keep_own(x->request->scope, verb_of(x)->ret_list);
        return true;
    }
    errors_garbage(SOURCE_API, "no list of snapshots in it", verdict);
    return false;
}

static void start_list(struct request *r)
{
    struct verb *v = container_of(r, struct verb, control.request);
    struct exchange *x =
        control_begin(&v->control, "GET", list_path(v->control.sandbox_id, v->limit, v->text));

    x->judge = judge_list;
    x->max_response = E2B_LIST_MAX;
    exchange_start(x);
}

void e2b_snapshot_list(struct e2b *e, struct e2b_op *op, const char *sandbox_id, int limit,
                       const char *page_token, struct e2b_snapshots *ret)
{
    struct verb *v = new_verb(sandbox_id, page_token, start_list);

    v->limit = limit;
    v->ret_list = ret;
    *ret = (struct e2b_snapshots){0};
    request_submit(&v->control.request, e, op, sandbox_id);
}

/* --- delete: find it, page by page, then delete it --- */

static bool is_named(const struct e2b_snapshot *s, const char *id)
{
    for (size_t i = 0; i < s->n_names; i++) {
        if (strcmp(s->names[i], id) == 0)
            return true;
    }
    return strcmp(s->id, id) == 0;
}

static bool is_among(const struct e2b_snapshots *l, const char *id)
{
    for (size_t i = 0; i < l->n_items; i++) {
        if (is_named(&l->items[i], id))
            return true;
    }
    return false;
}

/* It was there a moment ago: an attempt whose answer was lost has deleted it, or somebody else. */
static void done_delete(struct exchange *x)
{
    if (x->verdict.st.code == CODE_NOT_FOUND)
        x->verdict.st = STATUS_INIT;
    control_done(x);
}

static void delete_found(struct verb *v)
{
    AUTO_FREE char *id = url_escape(v->text);
    struct exchange *x = control_begin(&v->control, "DELETE", xasprintf("/templates/%s", id));

    x->source = SOURCE_SNAPSHOT;
    x->done = done_delete;
    exchange_start(x);
}

static void look(struct verb *v, const char *page_token);

static void finish_not_found(struct verb *v)
{
    struct status st;

    status_set(&st, CODE_NOT_FOUND, REASON(SNAPSHOT_NOT_FOUND),
               "there is no such snapshot: ListSnapshots tells their ids and names");
    request_finish(&v->control.request, &st);
}

static void done_look(struct exchange *x)
{
    struct verb *v = verb_of(x);
    struct verdict verdict = x->verdict;
    AUTO(e2b_snapshots_deinit) struct e2b_snapshots page = {0};

    if (verdict.st.code == CODE_OK && !read_page(x, &page))
        errors_garbage(SOURCE_API, "no list of snapshots in it", &verdict);
    if (verdict.st.code != CODE_OK) {
        request_finish(&v->control.request, &verdict.st);
        return;
    }
    if (is_among(&page, v->text)) {
        delete_found(v);
        return;
    }
    if (page.next_page_token != NULL && ++v->pages < LOOK_PAGES_MAX) {
        look(v, page.next_page_token);
        return;
    }
    finish_not_found(v);
}

static void look(struct verb *v, const char *page_token)
{
    struct exchange *x = control_begin(&v->control, "GET", list_path(NULL, LOOK_LIMIT, page_token));

    x->max_response = E2B_LIST_MAX;
    x->done = done_look;
    exchange_start(x);
}

static void start_delete(struct request *r)
{
    struct verb *v = container_of(r, struct verb, control.request);

    if (r->scope->tenant != NULL && !scope_may_use_snapshot(r->scope, v->text))
        finish_not_found(v);
    else
        look(v, NULL);
}

void e2b_snapshot_delete(struct e2b *e, struct e2b_op *op, const char *snapshot_id)
{
    request_submit(&new_verb(NULL, snapshot_id, start_delete)->control.request, e, op, NULL);
}
