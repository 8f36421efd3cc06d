/* The templates there are, and what they are called. */
#include "runtime/local/api/api.h"

#include "common/base/cleanup.h"
#include "common/http/url.h"
#include "runtime/local/agent/handover.h"
#include "runtime/local/timestamp.h"

#include <json-c/json_object.h>
#include <string.h>

enum { ALIAS_MAX = 256, PAGE_MAX = 100, MB = 1 << 20 };

static void add_text(struct json_object *o, const char *key, const char *value)
{
    json_object_object_add(o, key, value != NULL ? json_object_new_string(value) : NULL);
}

static void add_number(struct json_object *o, const char *key, int64_t value)
{
    json_object_object_add(o, key, json_object_new_int64(value));
}

/* 0: it has not come yet. */
static void add_time(struct json_object *o, const char *key, int64_t ns)
{
    char text[TIMESTAMP_SIZE];

    if (ns > 0)
        timestamp_format(ns, text);
    add_text(o, key, ns > 0 ? text : NULL);
}

/* Its own name is one of them. */
static void add_names(struct json_object *o, const char *key, const struct template *t)
{
    struct json_object *names = json_object_new_array();

    json_object_array_add(names, json_object_new_string(t->id));
    for (size_t i = 0; i < t->n_aliases; i++)
        json_object_array_add(names, json_object_new_string(t->aliases[i]));
    json_object_object_add(o, key, names);
}

/* The Template schema. What is built in E2B's cloud is ready here once its file is read. */
static struct json_object *template_json(const struct template *t)
{
    const struct zygote_limits *limits = &t->blueprint.limits;
    struct json_object *o = json_object_new_object();

    add_text(o, "templateID", t->id);
    add_text(o, "buildID", t->build_id);
    add_number(o, "cpuCount", (limits->cpu_millis + 999) / 1000);
    add_number(o, "memoryMB", limits->memory_bytes / MB);
    add_number(o, "diskSizeMB", limits->disk_bytes / MB);
    json_object_object_add(o, "public", json_object_new_boolean(true));
    add_names(o, "aliases", t);
    add_names(o, "names", t);
    add_time(o, "createdAt", t->changed_ns);
    add_time(o, "updatedAt", t->changed_ns);
    add_text(o, "createdBy", NULL);
    add_time(o, "lastSpawnedAt", t->spawned_ns);
    add_number(o, "spawnCount", t->n_spawned);
    add_number(o, "buildCount", 1);
    add_text(o, "envdVersion", AGENT_ENVD_VERSION);
    add_text(o, "buildStatus", "ready");
    return o;
}

void api_list_templates_v1(const struct api_call *call)
{
    const struct templates *all = &call->daemon->templates;
    struct json_object *array = json_object_new_array();

    for (size_t i = 0; i < all->n; i++)
        json_object_array_add(array, template_json(&all->items[i]));
    api_json(call->x, 200, array);
}

/* Ordered by id; a page begins behind the template that its token names, if that is gone too. */
void api_list_templates(const struct api_call *call)
{
    const struct templates *all = &call->daemon->templates;
    AUTO(buf_deinit) struct buf token = BUF_INIT(256);
    struct json_object *page;
    int64_t limit;
    size_t at = 0, end;

    if (!api_query_number(call, "limit", 1, PAGE_MAX, PAGE_MAX, &limit))
        return;
    if (url_query_get(http_request(call->x)->query, "nextToken", &token) != URL_QUERY_FOUND)
        buf_clear(&token);
    while (at < all->n && strcmp(all->items[at].id, buf_str(&token)) <= 0)
        at++;
    end = all->n - at > (size_t)limit ? at + (size_t)limit : all->n;
    page = json_object_new_array();
    for (; at < end; at++)
        json_object_array_add(page, template_json(&all->items[at]));
    api_page(call->x, page, end < all->n ? all->items[end - 1].id : NULL);
}

/* The path's last segment, decoded; it may hold '/' and ':' that way. */
static bool read_alias(const struct http_head *h, struct buf *out)
{
    size_t at = h->path_len;

    while (at > 0 && h->path[at - 1] != '/')
        at--;
    return url_decode(out, h->path + at, h->path_len - at, false) &&
           memchr(buf_data(out), '\0', buf_len(out)) == NULL;
}

void api_template_alias(const struct api_call *call)
{
    AUTO(buf_deinit) struct buf alias = BUF_INIT(ALIAS_MAX);
    struct template *template;
    struct json_object *o;

    if (!read_alias(http_request(call->x), &alias)) {
        api_error(call->x, 400, "validation error: the alias is malformed");
        return;
    }
    switch (templates_find(&call->daemon->templates, buf_str(&alias), &template)) {
    case TEMPLATE_FOUND:
        o = json_object_new_object();
        add_text(o, "templateID", template->id);
        json_object_object_add(o, "public", json_object_new_boolean(true));
        api_json(call->x, 200, o);
        break;
    case TEMPLATE_UNKNOWN:
        api_error(call->x, 404, "Template alias '%s' not found", buf_str(&alias));
        break;
    case TEMPLATE_MALFORMED:
        api_error(call->x, 400, "validation error: the alias is malformed");
        break;
    }
}
