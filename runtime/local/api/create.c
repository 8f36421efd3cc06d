/* POST /sandboxes and /v2/sandboxes: check everything, then make it. */
#include "runtime/local/api/api.h"

#include "common/base/cleanup.h"
#include "common/base/mem.h"

#include <json-c/linkhash.h>
#include <stdlib.h>
#include <string.h>

enum { TIMEOUT_V1_S = 15, TIMEOUT_V2_S = 300 };

static bool bad(struct status *st, const char *field, const char *what)
{
    return status_set(st, CODE_INVALID_ARGUMENT, 0, "validation error: %s %s", field, what);
}

static bool unsupported(struct status *st, const char *what)
{
    return status_set(st, CODE_INVALID_ARGUMENT, 0, "The local runtime does not support %s yet",
                      what);
}

/* The field; NULL when it is absent or null. */
static struct json_object *field(const struct json_object *o, const char *key)
{
    struct json_object *v = NULL;

    json_object_object_get_ex(o, key, &v);
    return v;
}

static bool has_nul(struct json_object *text)
{
    return strlen(json_object_get_string(text)) != (size_t)json_object_get_string_len(text);
}

static bool read_bool(const struct json_object *body, const char *key, bool missing, bool *ret,
                      struct status *st)
{
    struct json_object *v = field(body, key);

    *ret = v != NULL ? json_object_get_boolean(v) : missing;
    if (v != NULL && !json_object_is_type(v, json_type_boolean))
        return bad(st, key, "must be true or false");
    return true;
}

static bool read_pairs(const struct json_object *body, const char *key, struct pairs *ret,
                       struct status *st)
{
    struct json_object *v = field(body, key);

    if (v == NULL)
        return true;
    if (!json_object_is_type(v, json_type_object))
        return bad(st, key, "must be an object of strings");
    json_object_object_foreach(v, name, value)
    {
        if (!json_object_is_type(value, json_type_string))
            return bad(st, key, "must be an object of strings");
        if (has_nul(value))
            return bad(st, key, "must not hold a NUL character");
        pairs_add(ret, name, json_object_get_string(value));
    }
    return true;
}

static bool read_envs(const struct json_object *body, struct pairs *ret, struct status *st)
{
    if (!read_pairs(body, "envVars", ret, st))
        return false;
    for (size_t i = 0; i < ret->n; i++) {
        const char *name = ret->items[i].name;

        if (*name == '\0' || strchr(name, '=') != NULL)
            return bad(st, "envVars", "must have names that are not empty and hold no '='");
    }
    return true;
}

/* A snapshot may be named as a template. */
static bool is_snapshot(const struct api_call *call, const char *reference,
                        struct sandbox_request *r)
{
    const struct snapshot *s = snapshots_find(&call->daemon->snapshots, reference);

    if (s == NULL)
        return false;
    r->from = xstrdup(s->name);
    r->blueprint = blueprint_copy(&s->blueprint);
    r->template_id = xstrdup(s->label[0] != '\0' ? s->label : s->name);
    return true;
}

static bool check_template(const struct api_call *call, struct sandbox_request *r,
                           struct status *st)
{
    struct json_object *v = field(call->body, "templateID");
    struct template *template;

    if (v == NULL || !json_object_is_type(v, json_type_string) || has_nul(v))
        return bad(st, "templateID", "is required and must be a string");
    if (is_snapshot(call, json_object_get_string(v), r))
        return true;
    switch (templates_find(&call->daemon->templates, json_object_get_string(v), &template)) {
    case TEMPLATE_FOUND:
        r->template_id = xstrdup(template->id);
        r->blueprint = blueprint_copy(&template->blueprint);
        return true;
    case TEMPLATE_UNKNOWN:
        return status_set(st, CODE_NOT_FOUND, 0,
                          "template '%s' not found: the local runtime has '" TEMPLATE_ID
                          "' and those in the folder of --template-dir",
                          json_object_get_string(v));
    case TEMPLATE_MALFORMED:
        break;
    }
    return bad(st, "templateID", "is malformed");
}

static bool read_timeout(const struct api_call *call, int64_t *ret, struct status *st)
{
    struct json_object *v = field(call->body, "timeout");
    int64_t max_ms = call->daemon->config.max_lifetime_ms;

    *ret = call->v2 ? TIMEOUT_V2_S : TIMEOUT_V1_S;
    if (v == NULL)
        return true;
    *ret = json_object_get_int64(v);
    if (!json_object_is_type(v, json_type_int) || *ret <= 0 || *ret > INT32_MAX)
        return bad(st, "timeout", "must be a whole number of seconds, more than 0");
    if (*ret * 1000 > max_ms)
        return status_set(st, CODE_INVALID_ARGUMENT, 0, "Timeout cannot be greater than %lld hours",
                          (long long)(max_ms / 3600000));
    return true;
}

static bool is_empty(struct json_object *v)
{
    if (json_object_is_type(v, json_type_array))
        return json_object_array_length(v) == 0;
    if (json_object_is_type(v, json_type_object))
        return json_object_object_length(v) == 0;
    return v == NULL;
}

static bool read_network(const struct json_object *body, struct sandbox_request *r,
                         struct status *st)
{
    if (!network_parse(&r->network, field(body, "network"), r->internet, st))
        return false;
    if (!r->network.public_traffic && !r->secure)
        return status_set(st, CODE_INVALID_ARGUMENT, 0,
                          "You cannot create a sandbox without public access unless you enable "
                          "secure envd access via 'secure' flag.");
    return true;
}

static bool read_lifecycle(const struct json_object *body, struct sandbox_request *r,
                           struct status *st)
{
    struct json_object *resume = field(body, "autoResume");

    if (!read_bool(body, "autoPause", false, &r->auto_pause, st) ||
        !read_bool(body, "autoPauseMemory", true, &r->keeps_memory, st))
        return false;
    if (resume != NULL && !json_object_is_type(resume, json_type_object))
        return bad(st, "autoResume", "must be an object");
    if (resume != NULL && !read_bool(resume, "enabled", false, &r->auto_resume, st))
        return false;
    if (!r->keeps_memory && r->auto_resume)
        return bad(st, "autoPauseMemory",
                   "must be true with autoResume: what has only files left is resumed by connect");
    return true;
}

/* What is not looked at here: mcp, whose gateway SDKs start with a command. */
static bool check_supported(const struct json_object *body, struct status *st)
{
    if (!is_empty(field(body, "iam")))
        return unsupported(st, "iam");
    if (!is_empty(field(body, "volumeMounts")))
        return unsupported(st, "volumeMounts");
    return true;
}

static bool read_request(const struct api_call *call, struct sandbox_request *r, struct status *st)
{
    if (call->body == NULL)
        return status_set(st, CODE_INVALID_ARGUMENT, 0,
                          "validation error: the body must be a JSON object");
    if (!check_template(call, r, st) || !read_timeout(call, &r->timeout_s, st) ||
        !read_pairs(call->body, "metadata", &r->metadata, st) ||
        !read_envs(call->body, &r->envs, st) ||
        !read_bool(call->body, "secure", false, &r->secure, st) ||
        !read_bool(call->body, "allow_internet_access", true, &r->internet, st) ||
        !read_lifecycle(call->body, r, st) || !check_supported(call->body, st))
        return false;
    r->secure = r->secure || call->v2;
    return read_network(call->body, r, st);
}

/* A creation somebody waits for. */
struct waiting {
    struct daemon *daemon;   /* borrowed */
    struct http_exchange *x; /* borrowed; NULL once the client has left */
    struct list keyed;       /* among the daemon's, if it has a key */
    struct creation_key key;
};

static void on_gone(struct http_exchange *x)
{
    ((struct waiting *)http_user(x))->x = NULL;
}

static void on_created(void *ctx, struct sandbox *s, const struct status *st)
{
    struct waiting *w = ctx;

    if (w->x != NULL && s != NULL)
        api_json(w->x, 201, api_sandbox_json(w->daemon, s));
    else if (w->x != NULL)
        api_status(w->x, st);
    else if (s != NULL)
        daemon_end(w->daemon, s, "nobody knows of it", NULL);
    list_unlink(&w->keyed);
    creation_key_deinit(&w->key);
    free(w);
}

/* Whether the key has been used, and the call is answered. */
static bool answer_again(const struct api_call *call, const struct creation_key *key)
{
    const struct creation_key *known = NULL;
    const struct sandbox *made = NULL;

    LIST_FOR_EACH (node, &call->daemon->keyed) {
        const struct waiting *w = container_of(node, struct waiting, keyed);

        if (creation_key_is(&w->key, key))
            known = &w->key;
    }
    LIST_FOR_EACH (node, &call->daemon->registry.by_start) {
        const struct sandbox *s = container_of(node, struct sandbox, by_start);

        if (creation_key_is(&s->creation, key))
            made = s, known = &s->creation;
    }
    if (known == NULL)
        return false;
    if (!creation_key_asked_the_same(known, key))
        api_error_code(call->x, 422, "idempotency_request_mismatch",
                       "The Idempotency-Key was used for another request");
    else if (made == NULL)
        api_error_code(call->x, 409, "idempotency_in_progress",
                       "The request with this Idempotency-Key is still being carried out");
    else
        api_json(call->x, 201, api_sandbox_json(call->daemon, made));
    return true;
}

static bool read_key(const struct api_call *call, struct creation_key *ret, struct status *st)
{
    /* Only printing changes the object. */
    const char *request = json_object_to_json_string((struct json_object *)call->body);

    return creation_key_set(ret, http_header(http_request(call->x), "idempotency-key"), request,
                            strlen(request), st);
}

void api_create(const struct api_call *call)
{
    static const struct http_exchange_ops ops = {.gone = on_gone};
    AUTO(sandbox_request_deinit) struct sandbox_request request = {.timeout_s = 0};
    struct status st = STATUS_INIT;
    struct waiting *w;

    if (!read_request(call, &request, &st) || !read_key(call, &request.key, &st)) {
        api_status(call->x, &st);
        return;
    }
    if (request.key.text != NULL && answer_again(call, &request.key))
        return;
    w = xcalloc(1, sizeof(*w));
    *w = (struct waiting){
        .daemon = call->daemon, .x = call->x, .key = creation_key_copy(&request.key)};
    list_init(&w->keyed);
    if (w->key.text != NULL)
        list_append(&call->daemon->keyed, &w->keyed);
    http_attach(call->x, &ops, w);
    daemon_create(call->daemon, &request, on_created, w);
}
