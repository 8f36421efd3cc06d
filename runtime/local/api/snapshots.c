/* Snapshots and forks: copies of a sandbox's files, to keep and to start with. */
#include "runtime/local/api/api.h"

#include "common/base/buf.h"
#include "common/base/cleanup.h"
#include "common/base/mem.h"
#include "common/http/url.h"
#include "runtime/local/daemon/pause.h"

#include <json-c/json_object.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FORK_DEFAULT_S = 15, FORKS_MAX = 100, PAGE_MAX = 100, ID_MAX = SNAPSHOT_LABEL_MAX * 2 + 2 };

static struct json_object *snapshot_json(const struct snapshot *s)
{
    struct json_object *o = json_object_new_object();
    struct json_object *names = json_object_new_array();
    char id[ID_MAX];

    snapshot_id(s, id, sizeof(id));
    json_object_object_add(o, "snapshotID", json_object_new_string(id));
    if (s->label[0] != '\0')
        json_object_array_add(names, json_object_new_string(id));
    json_object_object_add(o, "names", names);
    return o;
}

/* --- taking one --- */

struct taking {
    struct daemon *daemon;   /* borrowed */
    struct http_exchange *x; /* borrowed; NULL once the client has left */
    char name[SNAPSHOT_NAME_MAX + 1];
    char id[SANDBOX_ID_LEN + 1];
    char *label; /* owned; NULL: none */
    /* A fork's. */
    int64_t timeout_s;
    size_t wanted;
    struct json_object *forks; /* owned */
};

static void on_gone(struct http_exchange *x)
{
    ((struct taking *)http_user(x))->x = NULL;
}

static void taking_free(struct taking *t)
{
    json_object_put(t->forks);
    free(t->label);
    free(t);
}

static struct taking *take_from(const struct api_call *call, const struct sandbox *s)
{
    static const struct http_exchange_ops ops = {.gone = on_gone};
    struct taking *t = xcalloc(1, sizeof(*t));
    struct status st = STATUS_INIT;

    *t = (struct taking){.daemon = call->daemon, .x = call->x};
    strcpy(t->id, s->id);
    if (!snapshots_make_name(t->name, &st)) {
        api_status(call->x, &st);
        taking_free(t);
        return NULL;
    }
    http_attach(call->x, &ops, t);
    return t;
}

static void on_taken(void *ctx, struct sandbox *s, const struct status *st)
{
    struct taking *t = ctx;
    struct status result = *st;
    const struct snapshot *made = NULL;

    if (st->code == CODE_OK && s != NULL)
        made = snapshots_add(&t->daemon->snapshots, t->name, t->label, s, &result);
    else
        snapshots_drop_files(&t->daemon->snapshots, t->name);
    if (t->x != NULL && made != NULL)
        api_json(t->x, 201, snapshot_json(made));
    else if (t->x != NULL)
        api_status(t->x, &result);
    taking_free(t);
}

/* Answered with 400 when it is no name. */
static bool body_label(const struct api_call *call, const char **ret)
{
    struct json_object *v = NULL;
    struct template *template;

    *ret = NULL;
    if (call->body == NULL || !json_object_object_get_ex(call->body, "name", &v) || v == NULL)
        return true;
    *ret = json_object_get_string(v);
    if (json_object_is_type(v, json_type_string) &&
        templates_find(&call->daemon->templates, *ret, &template) == TEMPLATE_FOUND) {
        api_error(call->x, 400, "Invalid snapshot name: '%s' is a template", *ret);
        return false;
    }
    if (json_object_is_type(v, json_type_string) &&
        strlen(*ret) == (size_t)json_object_get_string_len(v) && snapshots_label_is_valid(*ret))
        return true;
    api_error(call->x, 400,
              "Invalid snapshot name: it is NAME or NAME:TAG of letters, digits, - and _");
    return false;
}

void api_snapshot(const struct api_call *call)
{
    struct sandbox *s = api_sandbox(call);
    const char *label;
    struct taking *t;

    if (s == NULL || !body_label(call, &label) || !api_is_running(call, s) ||
        !api_is_idle(call, s) || (t = take_from(call, s)) == NULL)
        return;
    if (label != NULL)
        t->label = xstrdup(label);
    daemon_save(call->daemon, s, t->name, on_taken, t);
}

/* --- forks --- */

/* All are made, or have failed. */
static void reply_forks(struct taking *t)
{
    snapshots_drop_files(&t->daemon->snapshots, t->name);
    if (t->x != NULL)
        api_json(t->x, 201, TAKE(t->forks));
    taking_free(t);
}

static void on_forked(void *ctx, struct sandbox *s, const struct status *st)
{
    struct taking *t = ctx;
    struct json_object *o = json_object_new_object();
    struct json_object *error;

    if (s != NULL) {
        json_object_object_add(o, "sandbox", api_sandbox_json(t->daemon, s));
    } else {
        error = json_object_new_object();
        json_object_object_add(
            error, "code", json_object_new_int(st->code == CODE_RESOURCE_EXHAUSTED ? 429 : 500));
        json_object_object_add(error, "message", json_object_new_string(st->message));
        json_object_object_add(o, "error", error);
    }
    json_object_array_add(t->forks, o);
    if (json_object_array_length(t->forks) == t->wanted)
        reply_forks(t);
}

static void on_saved_for_forks(void *ctx, struct sandbox *s, const struct status *st)
{
    struct taking *t = ctx;
    size_t wanted = t->wanted;

    if (st->code != CODE_OK) {
        snapshots_drop_files(&t->daemon->snapshots, t->name);
        if (t->x != NULL)
            api_status(t->x, st);
        taking_free(t);
        return;
    }
    /* t may be gone with the last one. */
    for (size_t i = 0; i < wanted; i++)
        daemon_create_like(t->daemon, s, NULL, t->name, t->timeout_s, on_forked, t);
}

void api_fork(const struct api_call *call)
{
    struct sandbox *s = api_sandbox(call);
    int64_t timeout_s, count;
    struct taking *t;

    if (s == NULL || !api_body_number(call, "timeout", false, 1, FORK_DEFAULT_S, &timeout_s) ||
        !api_timeout_fits(call, timeout_s) || !api_body_number(call, "count", false, 1, 1, &count))
        return;
    if (count > FORKS_MAX || count >= call->daemon->config.max_sandboxes) {
        api_error(call->x, 400,
                  "validation error: count must be at most %d, and less than the %lld "
                  "sandboxes there may be",
                  FORKS_MAX, (long long)call->daemon->config.max_sandboxes);
        return;
    }
    if (!api_is_running(call, s) || !api_is_idle(call, s) || (t = take_from(call, s)) == NULL)
        return;
    t->timeout_s = timeout_s;
    t->wanted = (size_t)count;
    t->forks = json_object_new_array();
    daemon_save(call->daemon, s, t->name, on_saved_for_forks, t);
}

/* --- those that are kept --- */

/* Text of the query; empty: it is not there. */
static void query_text(const struct api_call *call, const char *name, struct buf *ret)
{
    if (url_query_get(http_request(call->x)->query, name, ret) != URL_QUERY_FOUND)
        buf_clear(ret);
}

static bool is_wanted(const struct snapshot *s, const char *sandbox_id, const char *name)
{
    const char *own = strchr(s->label, '/');

    if (*sandbox_id != '\0' && strcmp(s->sandbox_id, sandbox_id) != 0)
        return false;
    return *name == '\0' || strcmp(s->label, name) == 0 ||
           (own != NULL && strcmp(own + 1, name) == 0);
}

/* Newest first; a page begins behind the snapshot that its token names. */
static void reply_snapshots(const struct api_call *call, const char *sandbox_id, const char *name,
                            const char *token, int64_t limit)
{
    const struct list *all = &call->daemon->snapshots.all;
    struct json_object *page = json_object_new_array();
    const struct snapshot *last = NULL;
    bool begun = *token == '\0', more = false;

    for (const struct list *node = all->prev; node != all && !more; node = node->prev) {
        const struct snapshot *s = container_of(node, struct snapshot, node);

        if (begun && is_wanted(s, sandbox_id, name)) {
            more = (int64_t)json_object_array_length(page) == limit;
            if (!more) {
                json_object_array_add(page, snapshot_json(s));
                last = s;
            }
        }
        begun = begun || strcmp(s->name, token) == 0;
    }
    api_page(call->x, page, more ? last->name : NULL);
}

void api_list_snapshots(const struct api_call *call)
{
    AUTO(buf_deinit) struct buf sandbox_id = BUF_INIT(256);
    AUTO(buf_deinit) struct buf name = BUF_INIT(256);
    AUTO(buf_deinit) struct buf token = BUF_INIT(256);
    int64_t limit;

    if (!api_query_number(call, "limit", 1, PAGE_MAX, PAGE_MAX, &limit))
        return;
    query_text(call, "sandboxID", &sandbox_id);
    query_text(call, "name", &name);
    query_text(call, "nextToken", &token);
    reply_snapshots(call, buf_str(&sandbox_id), buf_str(&name), buf_str(&token), limit);
}

static bool is_used(const struct daemon *d, const struct snapshot *which)
{
    LIST_FOR_EACH (node, &d->registry.by_start) {
        const struct sandbox *s = container_of(node, struct sandbox, by_start);

        if (strcmp(s->template_id, which->label[0] != '\0' ? which->label : which->name) == 0)
            return true;
    }
    return false;
}

/* Snapshots are templates, to those who delete them. */
void api_delete_template(const struct api_call *call)
{
    const struct http_head *h = http_request(call->x);
    const char *encoded = h->path + strlen("/templates/");
    AUTO(buf_deinit) struct buf id = BUF_INIT(ID_MAX);
    const struct snapshot *s = NULL;
    struct template *template;

    if (url_decode(&id, encoded, h->path_len - strlen("/templates/"), false) &&
        memchr(buf_data(&id), '\0', buf_len(&id)) == NULL)
        s = snapshots_find(&call->daemon->snapshots, buf_str(&id));
    if (s == NULL &&
        templates_find(&call->daemon->templates, buf_str(&id), &template) == TEMPLATE_FOUND) {
        api_error(call->x, 400, "Template '%s' is not deleted here: it goes with its folder",
                  template->id);
        return;
    }
    if (s == NULL) {
        api_error(call->x, 404, "Template not found");
        return;
    }
    if (is_used(call->daemon, s)) {
        api_error(call->x, 400, "Template is used by sandboxes that run or are paused");
        return;
    }
    snapshots_remove(&call->daemon->snapshots, s);
    http_reply(call->x, 204, NULL, NULL, 0);
}
