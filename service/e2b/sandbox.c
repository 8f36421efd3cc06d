/* See sandbox.h. Whatever does not have the documented form makes the whole answer invalid. */
#include "service/e2b/sandbox.h"

#include "common/base/buf.h"
#include "common/base/cleanup.h"
#include "common/base/mem.h"
#include "service/e2b/idle.h"
#include "service/e2b/network.h"
#include "service/e2b/private.h"
#include "service/e2b/scope.h"
#include "service/e2b/url.h"

#include <stdlib.h>
#include <string.h>

enum {
    METADATA_MAX = 1024, /* pairs */
    TEXT_MAX = 8192,
};

static void free_pairs(struct e2b_pair *pairs, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        free(pairs[i].key);
        free(pairs[i].value);
    }
    free(pairs);
}

void e2b_sandbox_deinit(struct e2b_sandbox *s)
{
    free(s->id);
    free(s->template_id);
    free(s->domain);
    free(s->traffic_token);
    free_pairs(s->metadata, s->n_metadata);
    e2b_network_deinit(&s->network);
    *s = (struct e2b_sandbox){0};
}

static char *copy_or_null(const char *s)
{
    return s != NULL ? xstrdup(s) : NULL;
}

static bool read_metadata(struct json_object *o, struct e2b_sandbox *s)
{
    struct json_object *map;
    size_t n;

    if (!json_object_object_get_ex(o, "metadata", &map) || map == NULL)
        return true;
    if (!json_object_is_type(map, json_type_object))
        return false;
    n = (size_t)json_object_object_length(map);
    if (n > METADATA_MAX)
        return false;
    s->metadata = xcalloc(n ? n : 1, sizeof *s->metadata);
    json_object_object_foreach(map, key, value)
    {
        const char *text = json_text_value(value, TEXT_MAX);

        if (text == NULL || strlen(key) > TEXT_MAX)
            return false;
        s->metadata[s->n_metadata].key = xstrdup(key);
        s->metadata[s->n_metadata++].value = xstrdup(text);
    }
    return true;
}

static bool read_common(struct json_object *o, struct e2b_sandbox *s)
{
    const char *id = json_text(o, "sandboxID", E2B_ID_MAX);
    const char *template = json_text(o, "templateID", TEXT_MAX);
    const char *domain = json_text(o, "domain", 255);
    const char *traffic_token = json_text(o, "trafficAccessToken", 1024);

    if (id == NULL || !json_is_token(id) || template == NULL)
        return false;
    if (domain != NULL && !json_is_token(domain))
        return false;
    if (traffic_token != NULL && !json_is_token(traffic_token))
        return false;
    s->id = xstrdup(id);
    s->template_id = xstrdup(template);
    s->domain = copy_or_null(domain);
    s->traffic_token = copy_or_null(traffic_token);
    s->public_traffic = true;
    return true;
}

static bool read_state(struct json_object *o, struct e2b_sandbox *s)
{
    const char *state = json_text(o, "state", 32);

    if (state == NULL)
        return false;
    s->state = strcmp(state, "paused") == 0 ? E2B_PAUSED : E2B_RUNNING;
    return s->state == E2B_PAUSED || strcmp(state, "running") == 0;
}

static bool read_detail(struct json_object *o, struct e2b_sandbox *s)
{
    struct json_object *network, *lifecycle;
    int64_t n;

    if (!read_common(o, s) || !read_state(o, s) || !read_metadata(o, s))
        return false;
    if (!json_time(o, "startedAt", &s->start_ns) || !json_time(o, "endAt", &s->end_ns))
        return false;
    if (json_int(o, "cpuCount", &n) && n >= 0 && n <= INT32_MAX)
        s->cpu_count = (int32_t)n;
    if (json_int(o, "memoryMB", &n) && n >= 0)
        s->memory_mib = n;
    if (json_object_object_get_ex(o, "network", &network))
        json_flag(network, "allowPublicTraffic", &s->public_traffic);
    if (json_object_object_get_ex(o, "lifecycle", &lifecycle))
        json_flag(lifecycle, "autoResume", &s->auto_resume);
    idle_read_labels(s);
    return network_from_detail(o, &s->network);
}

bool sandbox_from_json(struct json_object *o, struct e2b_sandbox *ret)
{
    *ret = (struct e2b_sandbox){0};
    if (read_detail(o, ret))
        return true;
    e2b_sandbox_deinit(ret);
    return false;
}

bool sandbox_from_created(struct json_object *o, struct e2b_sandbox *ret)
{
    *ret = (struct e2b_sandbox){0};
    if (read_common(o, ret))
        return true;
    e2b_sandbox_deinit(ret);
    return false;
}

const char *sandbox_label(const struct e2b_sandbox *s, const char *key)
{
    for (size_t i = 0; i < s->n_metadata; i++) {
        if (strcmp(s->metadata[i].key, key) == 0)
            return s->metadata[i].value;
    }
    return NULL;
}

void e2b_list_deinit(struct e2b_list *l)
{
    for (size_t i = 0; i < l->n_items; i++)
        e2b_sandbox_deinit(&l->items[i]);
    free(l->items);
    free(l->next_page_token);
    *l = (struct e2b_list){0};
}

bool sandbox_list_from_json(struct json_object *o, struct e2b_list *ret)
{
    size_t n;

    *ret = (struct e2b_list){0};
    if (!json_object_is_type(o, json_type_array))
        return false;
    n = json_object_array_length(o);
    ret->items = xcalloc(n ? n : 1, sizeof *ret->items);
    for (size_t i = 0; i < n; i++) {
        if (!sandbox_from_json(json_object_array_get_idx(o, i), &ret->items[i])) {
            e2b_list_deinit(ret);
            return false;
        }
        ret->n_items++;
    }
    return true;
}

/* Those asked for, and whose they must be; owned by the caller, its strings are not. */
static struct e2b_pair *labels(const struct e2b_list_args *a, const char *tenant, size_t *ret_n)
{
    struct e2b_pair *all = xcalloc(a->n_metadata + 1, sizeof *all);

    *ret_n = a->n_metadata;
    if (a->n_metadata > 0)
        memcpy(all, a->metadata, a->n_metadata * sizeof *all);
    if (tenant != NULL)
        all[(*ret_n)++] = (struct e2b_pair){(char *)SCOPE_TENANT, (char *)tenant};
    return all;
}

char *sandbox_list_path(const struct e2b_list_args *a, const char *tenant)
{
    size_t n;
    AUTO_FREE struct e2b_pair *pairs = labels(a, tenant, &n);
    AUTO(buf_deinit) struct buf b = BUF_INIT(SIZE_MAX / 2);

    buf_printf(&b, "/v2/sandboxes?limit=%d", a->limit);
    if (a->running != a->paused)
        buf_printf(&b, "&state=%s", a->running ? "running" : "paused");
    if (n > 0) {
        AUTO_FREE char *metadata = url_metadata(pairs, n);

        buf_printf(&b, "&metadata=%s", metadata);
    }
    if (a->page_token != NULL && a->page_token[0] != '\0') {
        AUTO_FREE char *token = url_escape(a->page_token);

        buf_printf(&b, "&nextToken=%s", token);
    }
    return buf_take_str(&b);
}
