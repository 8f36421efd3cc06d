/*
 * The front of the control plane: which handler, whose key, what body; and the answers they share.
 * A request is matched twice, when its head and when its body is there, so nothing is kept between.
 */
#include "runtime/local/api/api.h"

#include "common/base/cleanup.h"
#include "common/base/mem.h"
#include "common/base/version.h"
#include "common/http/body.h"
#include "common/http/url.h"
#include "runtime/local/api/front.h"
#include "runtime/local/edge/route.h"

#include <errno.h>
#include <json-c/json_tokener.h>
#include <openssl/crypto.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

enum { BODY_MAX = 16 << 20 }; /* E2B's */

static const char content_type[] = "application/json; charset=utf-8";

struct endpoint {
    const char *method;
    const char *path; /* {id} stands for one segment, '*' for all that follows */
    bool v2;          /* also, or only, below /v2: see there */
    bool v1;
    api_handler *handle;
};

static const struct endpoint endpoints[] = {
    {"POST", "/sandboxes", true, true, api_create},
    {"GET", "/sandboxes", false, true, api_list_v1},
    {"GET", "/sandboxes", true, false, api_list},
    {"GET", "/sandboxes/metrics", false, true, api_metrics_of_many},
    {"GET", "/sandboxes/{id}", false, true, api_get},
    {"DELETE", "/sandboxes/{id}", false, true, api_delete},
    {"POST", "/sandboxes/{id}/connect", true, true, api_connect},
    {"POST", "/sandboxes/{id}/timeout", false, true, api_timeout},
    {"POST", "/sandboxes/{id}/refreshes", false, true, api_refresh},
    {"POST", "/sandboxes/{id}/pause", false, true, api_pause},
    {"POST", "/sandboxes/{id}/resume", false, true, api_resume},
    {"POST", "/sandboxes/{id}/fork", false, true, api_fork},
    {"POST", "/sandboxes/{id}/snapshots", false, true, api_snapshot},
    {"GET", "/snapshots", false, true, api_list_snapshots},
    {"GET", "/templates", false, true, api_list_templates_v1},
    {"GET", "/templates", true, false, api_list_templates},
    {"DELETE", "/templates/{id}", false, true, api_delete_template},
    {"PUT", "/sandboxes/{id}/network", false, true, api_network},
    {"GET", "/sandboxes/{id}/metrics", false, true, api_metrics},
    {"GET", "/sandboxes/{id}/logs", false, true, api_logs_v1},
    {"GET", "/sandboxes/{id}/logs", true, false, api_logs},
    {"GET", "/templates/aliases/{id}", false, true, api_template_alias},
};

_Static_assert(sizeof(endpoints) / sizeof(endpoints[0]) <= API_ROUTES_MAX, "rates are by route");

/* Whether the path fits; *id is set to the segment of {id}. */
static bool path_fits(const char *pattern, const char *path, size_t len, const char **id,
                      size_t *id_len)
{
    const char *hole = strstr(pattern, "{id}");
    size_t before = hole != NULL ? (size_t)(hole - pattern) : strlen(pattern);

    *id_len = 0;
    if (hole == NULL)
        return len == before && memcmp(path, pattern, len) == 0;
    if (len < before || memcmp(path, pattern, before) != 0)
        return false;
    *id = path + before;
    while (before + *id_len < len && (*id)[*id_len] != '/')
        ++*id_len;

    size_t after = strlen(hole + 4);

    return before + *id_len + after == len && memcmp(path + len - after, hole + 4, after) == 0 &&
           *id_len > 0;
}

enum match { MATCH, MATCH_OTHER_METHOD, MATCH_NONE };

static enum match find(const struct http_head *h, struct api_call *call, api_handler **ret_handle)
{
    const char *path = h->path, *id = "";
    size_t len = h->path_len, id_len;
    enum match result = MATCH_NONE;

    call->v2 = len > 3 && memcmp(path, "/v2/", 4) == 0;
    if (call->v2)
        path += 3, len -= 3;
    for (size_t i = 0; i < sizeof(endpoints) / sizeof(endpoints[0]); i++) {
        const struct endpoint *e = &endpoints[i];

        if (!(call->v2 ? e->v2 : e->v1) || !path_fits(e->path, path, len, &id, &id_len))
            continue;
        result = MATCH_OTHER_METHOD;
        if (strcmp(h->method, e->method) != 0)
            continue;
        if (id_len >= sizeof(call->id))
            id_len = sizeof(call->id) - 1;
        memcpy(call->id, id, id_len);
        call->id[id_len] = '\0';
        /* Old clients append a client id. */
        call->id[strcspn(call->id, "-")] = '\0';
        *ret_handle = e->handle;
        call->route = i;
        return MATCH;
    }
    return result;
}

void api_json(struct http_exchange *x, int status, struct json_object *take)
{
    size_t len;
    const char *text = json_object_to_json_string_length(
        take, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE, &len);

    http_reply(x, status, content_type, text, len);
    json_object_put(take);
}

void api_page(struct http_exchange *x, struct json_object *take, const char *next_token)
{
    size_t len;
    const char *text = json_object_to_json_string_length(
        take, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE, &len);

    http_begin(x, 200);
    http_field(x, "Content-Type", content_type);
    if (next_token != NULL)
        http_field(x, "X-Next-Token", next_token);
    http_start(x, (int64_t)len);
    http_write(x, text, len);
    http_end(x);
    json_object_put(take);
}

void api_error_code(struct http_exchange *x, int status, const char *error_code,
                    const char *message)
{
    struct json_object *o = json_object_new_object();

    json_object_object_add(o, "code", json_object_new_int(status));
    json_object_object_add(o, "message", json_object_new_string(message));
    if (error_code != NULL)
        json_object_object_add(o, "error_code", json_object_new_string(error_code));
    api_json(x, status, o);
}

static void error_text(struct http_exchange *x, int status, const char *message)
{
    api_error_code(x, status, NULL, message);
}

void api_error(struct http_exchange *x, int status, const char *fmt, ...)
{
    AUTO(buf_deinit) struct buf message = BUF_INIT(4096);
    va_list args;

    va_start(args, fmt);
    buf_vprintf(&message, fmt, args);
    va_end(args);
    error_text(x, status, buf_str(&message));
}

void api_status(struct http_exchange *x, const struct status *st)
{
    switch (st->code) {
    case CODE_INVALID_ARGUMENT:
        error_text(x, 400, st->message);
        break;
    case CODE_NOT_FOUND:
        error_text(x, 404, st->message);
        break;
    case CODE_PERMISSION_DENIED:
        error_text(x, 403, st->message);
        break;
    case CODE_RESOURCE_EXHAUSTED:
        error_text(x, 429, st->message);
        break;
    case CODE_UNIMPLEMENTED:
        error_text(x, 501, st->message);
        break;
    default:
        error_text(x, 500, st->message);
        break;
    }
}

bool api_check_id(const struct api_call *call)
{
    if (sandbox_id_is_valid(call->id, strlen(call->id)))
        return true;
    api_error(call->x, 400, "Invalid sandbox ID");
    return false;
}

bool api_query_number(const struct api_call *call, const char *name, int64_t min, int64_t max,
                      int64_t missing, int64_t *ret)
{
    AUTO(buf_deinit) struct buf value = BUF_INIT(32);
    enum url_query found = url_query_get(http_request(call->x)->query, name, &value);
    const char *text = buf_str(&value);
    char *end;

    *ret = missing;
    if (found == URL_QUERY_ABSENT)
        return true;
    errno = 0;
    *ret = strtoll(text, &end, 10);
    if (found == URL_QUERY_FOUND && (*text == '-' || (*text >= '0' && *text <= '9')) &&
        *end == '\0' && errno == 0 && *ret >= min && *ret <= max)
        return true;
    api_error(call->x, 400, "validation error: %s must be a whole number from %lld to %lld", name,
              (long long)min, (long long)max);
    return false;
}

struct sandbox *api_sandbox(const struct api_call *call)
{
    struct sandbox *s;

    if (!api_check_id(call))
        return NULL;
    s = registry_find(&call->daemon->registry, call->id);
    if (s == NULL)
        api_error(call->x, 404, "Sandbox \"%s\" doesn't exist or you don't have access to it",
                  call->id);
    return s;
}

/* An answer that waits for the zygote. */
struct later {
    struct task task;
    struct http_exchange *x; /* borrowed; NULL once the client has left */
    int status;
    struct json_object *body; /* owned; NULL: none */
};

static void on_later_gone(struct http_exchange *x)
{
    ((struct later *)http_user(x))->x = NULL;
}

static void reply_later(struct task *task)
{
    struct later *l = container_of(task, struct later, task);

    if (l->x == NULL)
        json_object_put(l->body);
    else if (l->body != NULL)
        api_json(l->x, l->status, l->body);
    else
        http_reply(l->x, l->status, NULL, NULL, 0);
    free(l);
}

struct task *api_later(const struct api_call *call, int status, struct json_object *take)
{
    static const struct http_exchange_ops ops = {.gone = on_later_gone};
    struct later *l = xcalloc(1, sizeof(*l));

    *l = (struct later){{.run = reply_later}, call->x, status, take};
    http_attach(call->x, &ops, l);
    return &l->task;
}

void api_reply_kept(const struct api_call *call, int status, struct json_object *take)
{
    daemon_then(call->daemon, api_later(call, status, take));
}

static bool key_has_format(const char *key)
{
    return strncmp(key, "e2b_", 4) == 0 && key[4] != '\0' &&
           key[4 + strspn(key + 4, "0123456789abcdef")] == '\0';
}

/* Answers 401 and returns false when the request may not go on. */
static bool check_key(const struct daemon *d, struct http_exchange *x)
{
    const char *key = http_header(http_request(x), "x-api-key");
    const char *want = d->config.api_key;

    if (key == NULL) {
        api_error(x, 401, "The header X-API-Key is missing: set E2B_API_KEY");
        return false;
    }
    if (want == NULL && !key_has_format(key)) {
        api_error(x, 401, "Invalid API key\nit is not of the form e2b_ and hexadecimal digits");
        return false;
    }
    if (want != NULL &&
        (strlen(key) != strlen(want) || CRYPTO_memcmp(key, want, strlen(want)) != 0)) {
        api_error(x, 401, "Invalid API key\nit is not the one this server was started with");
        return false;
    }
    if (want == NULL && !route_host_is_local(http_request(x), d->config.domain)) {
        api_error(x, 403,
                  "This server takes any key, so it answers only to local names: start it with "
                  "--api-key or --domain to reach it by this one");
        return false;
    }
    return true;
}

static void on_body(struct http_exchange *x, void *ctx, const uint8_t *data, size_t len)
{
    struct api_call call = {.daemon = ctx, .x = x};
    struct json_tokener *tokener = json_tokener_new();
    struct json_object *body = NULL;
    api_handler *handle = NULL;

    json_tokener_set_flags(tokener, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
    if (len > 0)
        body = json_tokener_parse_ex(tokener, (const char *)data, (int)len);
    if (len > 0 && !json_object_is_type(body, json_type_object)) {
        api_error(x, 400, "validation error: the body must be a JSON object");
    } else if (find(http_request(x), &call, &handle) == MATCH) {
        call.body = body;
        handle(&call);
    }
    json_object_put(body);
    json_tokener_free(tokener);
}

static void add_text(struct json_object *o, const char *key, const char *value)
{
    json_object_object_add(o, key, value != NULL ? json_object_new_string(value) : NULL);
}

/* What `e2b-local env` and `status` need to know: for this machine alone. */
static void add_whereabouts(const struct daemon *d, struct json_object *o)
{
    add_text(o, "version", SANDBOXD_VERSION);
    add_text(o, "domain", d->config.domain);
    add_text(o, "dataDir", d->config.data_dir);
    json_object_object_add(o, "anyKey", json_object_new_boolean(d->config.api_key == NULL));
    json_object_object_add(o, "tls", json_object_new_boolean(d->tls != NULL));
}

static void health(struct daemon *d, struct http_exchange *x)
{
    struct json_object *o = json_object_new_object();
    const char *tier = zygote_tier(d->zygote) == ZYGOTE_TIER_A ? "A" : "B";

    json_object_object_add(o, "status", json_object_new_string("ok"));
    json_object_object_add(o, "tier", json_object_new_string(tier));
    json_object_object_add(o, "isolation", json_object_new_string(zygote_summary(d->zygote)));
    json_object_object_add(o, "sandboxes", json_object_new_int64((int64_t)d->registry.n_sandboxes));
    if (route_host_is_local(http_request(x), d->config.domain))
        add_whereabouts(d, o);
    api_json(x, 200, o);
}

/* What E2B's cloud serves besides, as a sentence; NULL when the path is none of that. */
static const char *absent(const struct http_head *h)
{
    static const struct {
        const char *path; /* and all below it, of any version */
        const char *sentence;
    } services[] = {
        {"/templates", "Templates are not built here: the local runtime takes them from folders"},
        {"/volumes", "The local runtime has no volumes: they are a service of E2B's cloud"},
        {"/volumecontent", "The local runtime has no volumes: they are a service of E2B's cloud"},
        {"/secrets", "The local runtime has no secrets: they are a service of E2B's cloud"},
        {"/teams", "The local runtime has no teams: they are a service of E2B's cloud"},
    };
    const char *path = h->path;
    size_t len = h->path_len;

    if (len > 4 && memcmp(path, "/v", 2) == 0 && path[3] == '/')
        path += 3, len -= 3;
    for (size_t i = 0; i < sizeof(services) / sizeof(services[0]); i++) {
        size_t n = strlen(services[i].path);

        if (len >= n && memcmp(path, services[i].path, n) == 0 && (len == n || path[n] == '/'))
            return services[i].sentence;
    }
    return NULL;
}

/* The request fits no handler. */
static void refuse(struct http_exchange *x, enum match match)
{
    const char *sentence = absent(http_request(x));

    if (sentence != NULL)
        api_error(x, 501, "%s", sentence);
    else if (match == MATCH_NONE)
        api_error(x, 404, "validation error: no matching operation was found");
    else
        api_error(x, 405, "validation error: method not allowed");
}

void api_request(struct daemon *d, struct http_exchange *x)
{
    const struct http_head *h = http_request(x);
    struct api_call call = {.daemon = d, .x = x};
    api_handler *handle = NULL;
    enum match match;

    if (http_path_is(h, "/health") && strcmp(h->method, "GET") == 0) {
        health(d, x);
        return;
    }
    api_allow_origin(d, x);
    if (strcmp(h->method, "OPTIONS") == 0 && http_header(h, "origin") != NULL) {
        api_preflight(x);
        return;
    }
    match = find(h, &call, &handle);
    if (match != MATCH) {
        refuse(x, match);
        return;
    }
    if (!check_key(d, x) || !api_within_rate(d, x, call.route))
        return;
    if (strcmp(h->method, "POST") == 0 || strcmp(h->method, "PUT") == 0)
        http_collect(x, BODY_MAX, on_body, d);
    else
        handle(&call);
}
