/* Get, list, connect, delete and the two ways to change a sandbox's end. */
#include "runtime/local/api/api.h"

#include "common/base/cleanup.h"
#include "common/base/clock.h"
#include "runtime/local/agent/handover.h"
#include "runtime/local/api/listing.h"
#include "runtime/local/timestamp.h"

#include <json-c/json_tokener.h>
#include <string.h>

#define CLIENT_ID "6532622b" /* E2B's own constant */

enum { REFRESH_MIN_S = 15, REFRESH_MAX_S = 3600 };
enum { MB = 1 << 20 };

static void add_text(struct json_object *o, const char *key, const char *value)
{
    json_object_object_add(o, key, value != NULL ? json_object_new_string(value) : NULL);
}

static void add_time(struct json_object *o, const char *key, int64_t ns)
{
    char text[TIMESTAMP_SIZE];

    timestamp_format(ns, text);
    add_text(o, key, text);
}

static void add_identity(struct json_object *o, const struct sandbox *s)
{
    const struct template *template = templates_get(&s->daemon->templates, s->template_id);

    add_text(o, "templateID", s->template_id);
    if (template != NULL)
        add_text(o, "alias", template->n_aliases > 0 ? template->aliases[0] : template->id);
    add_text(o, "sandboxID", s->id);
    add_text(o, "clientID", CLIENT_ID);
    add_text(o, "envdVersion", AGENT_ENVD_VERSION);
}

static void add_access(struct json_object *o, const struct daemon *d, const struct sandbox *s)
{
    if (s->access_token[0] != '\0')
        add_text(o, "envdAccessToken", s->access_token);
    add_text(o, "domain", s->paused ? NULL : d->config.domain);
}

struct json_object *api_sandbox_json(const struct daemon *d, const struct sandbox *s)
{
    struct json_object *o = json_object_new_object();

    add_identity(o, s);
    add_access(o, d, s);
    add_text(o, "trafficAccessToken", s->traffic_token[0] != '\0' ? s->traffic_token : NULL);
    return o;
}

/* As E2B, also one on its way into a pause: nobody watches it any more. */
static bool is_shown_paused(const struct sandbox *s)
{
    return s->paused || (s->busy && s->observer == NULL);
}

/* The ListedSandbox schema, which the detailed one extends. No tokens. */
static struct json_object *listed_json(const struct sandbox *s)
{
    struct json_object *o = json_object_new_object();
    struct json_object *metadata = json_object_new_object();
    const struct zygote_limits limits = zygote_limits(&s->blueprint.limits);

    add_identity(o, s);
    add_time(o, "startedAt", s->start_ns);
    add_time(o, "endAt", s->end_ns);
    add_text(o, "state", is_shown_paused(s) ? "paused" : "running");
    json_object_object_add(o, "cpuCount", json_object_new_int64((limits.cpu_millis + 999) / 1000));
    json_object_object_add(o, "memoryMB", json_object_new_int64(limits.memory_bytes / MB));
    json_object_object_add(o, "diskSizeMB", json_object_new_int64(limits.disk_bytes / MB));
    for (size_t i = 0; i < s->metadata.n; i++)
        add_text(metadata, s->metadata.items[i].name, s->metadata.items[i].value);
    json_object_object_add(o, "metadata", metadata);
    return o;
}

void api_get(const struct api_call *call)
{
    const struct sandbox *s = api_sandbox(call);
    struct json_object *o, *lifecycle;

    if (s == NULL)
        return;
    o = listed_json(s);
    add_access(o, call->daemon, s);
    json_object_object_add(o, "allowInternetAccess", json_object_new_boolean(s->internet));
    if (s->network != NULL)
        json_object_object_add(o, "network", json_tokener_parse(s->network));
    lifecycle = json_object_new_object();
    json_object_object_add(lifecycle, "autoResume", json_object_new_boolean(s->auto_resume));
    add_text(lifecycle, "onTimeout", s->auto_pause ? "pause" : "kill");
    json_object_object_add(o, "lifecycle", lifecycle);
    api_json(call->x, 200, o);
}

/* Ends the exchange with the page, and what stands in its headers. */
static void reply_page(const struct api_call *call, const struct listing *l, bool with_headers)
{
    const struct sandbox *page[LISTING_MAX];
    AUTO(buf_deinit) struct buf token = BUF_INIT(256);
    struct json_object *array = json_object_new_array();
    size_t n, total = 0, len;
    const char *text;
    bool more;

    n = listing_page(l, &call->daemon->registry, page, &more);
    for (size_t i = 0; i < n; i++)
        json_object_array_add(array, listed_json(page[i]));
    LIST_FOR_EACH (node, &call->daemon->registry.by_start) {
        const struct sandbox *s = container_of(node, struct sandbox, by_start);

        total += !s->paused && listing_matches(l, s);
    }

    http_begin(call->x, 200);
    http_field(call->x, "Content-Type", "application/json; charset=utf-8");
    if (with_headers && l->running)
        http_fieldf(call->x, "X-Total-Running", "%zu", total);
    if (with_headers && more && listing_token(l, page[n - 1], &token))
        http_field(call->x, "X-Next-Token", buf_str(&token));
    text = json_object_to_json_string_length(
        array, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE, &len);
    http_start(call->x, (int64_t)len);
    http_write(call->x, text, len);
    http_end(call->x);
    json_object_put(array);
}

void api_list(const struct api_call *call)
{
    AUTO(listing_deinit) struct listing l = {.limit = 0};
    struct status st = STATUS_INIT;

    if (!listing_parse(&l, http_request(call->x)->query, &call->daemon->templates, &st)) {
        api_status(call->x, &st);
        return;
    }
    reply_page(call, &l, true);
}

/* The old list has no pages: everything that runs and fits the metadata, newest first. */
void api_list_v1(const struct api_call *call)
{
    struct registry *r = &call->daemon->registry;
    AUTO(listing_deinit) struct listing l = {.limit = 0};
    struct status st = STATUS_INIT;
    struct json_object *array;

    if (!listing_parse(&l, http_request(call->x)->query, &call->daemon->templates, &st)) {
        api_status(call->x, &st);
        return;
    }
    array = json_object_new_array();
    for (struct list *node = r->by_start.prev; node != &r->by_start; node = node->prev) {
        const struct sandbox *s = container_of(node, struct sandbox, by_start);

        if (!s->paused && listing_matches(&l, s))
            json_object_array_add(array, listed_json(s));
    }
    api_json(call->x, 200, array);
}

void api_delete(const struct api_call *call)
{
    struct sandbox *s = api_sandbox(call);

    if (s == NULL)
        return;
    daemon_end(call->daemon, s, "deleted", api_later(call, 204, NULL));
}

bool api_body_number(const struct api_call *call, const char *key, bool required, int64_t min,
                     int64_t missing, int64_t *ret)
{
    struct json_object *v = NULL;

    *ret = missing;
    if (call->body == NULL || !json_object_object_get_ex(call->body, key, &v) || v == NULL) {
        if (required)
            api_error(call->x, 400, "validation error: %s is required", key);
        return !required;
    }
    *ret = json_object_get_int64(v);
    if (json_object_is_type(v, json_type_int) && *ret >= min && *ret <= INT32_MAX)
        return true;
    api_error(call->x, 400, "validation error: %s must be a whole number of seconds, %s", key,
              min > 0 ? "more than 0" : "0 or more");
    return false;
}

bool api_is_running(const struct api_call *call, const struct sandbox *s)
{
    if (!s->paused)
        return true;
    api_error(call->x, 409, "Sandbox \"%s\" is paused", s->id);
    return false;
}

void api_timeout(const struct api_call *call)
{
    struct sandbox *s = api_sandbox(call);
    int64_t timeout_s, left_ms;

    if (s == NULL || !api_body_number(call, "timeout", true, 0, 0, &timeout_s) ||
        !api_is_running(call, s))
        return;
    left_ms = daemon_max_left_ms(call->daemon, s);
    if (left_ms == 0) {
        api_error(call->x, 400, "The sandbox has reached its maximum lifetime");
        return;
    }
    if (timeout_s == 0 && !s->auto_pause)
        daemon_end(call->daemon, s, "its timeout was set to 0", NULL);
    else
        daemon_set_timeout(call->daemon, s,
                           timeout_s * 1000 < left_ms ? timeout_s * 1000 : left_ms);
    api_reply_kept(call, 204, NULL);
}

void api_refresh(const struct api_call *call)
{
    struct sandbox *s = api_sandbox(call);
    int64_t duration_s, left_ms;

    if (s == NULL || !api_body_number(call, "duration", false, 0, REFRESH_MIN_S, &duration_s) ||
        !api_is_running(call, s))
        return;
    if (duration_s > REFRESH_MAX_S) {
        api_error(call->x, 400, "validation error: duration must be at most %d", REFRESH_MAX_S);
        return;
    }
    if (duration_s < REFRESH_MIN_S)
        duration_s = REFRESH_MIN_S;
    left_ms = daemon_max_left_ms(call->daemon, s);
    if (left_ms > duration_s * 1000)
        left_ms = duration_s * 1000;
    if (clock_boottime_ns() + left_ms * NS_PER_MS > s->end_at_ns)
        daemon_set_timeout(call->daemon, s, left_ms);
    api_reply_kept(call, 204, NULL);
}
