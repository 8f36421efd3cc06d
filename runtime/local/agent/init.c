/*
 * POST /init: what a sandbox is given once it runs, and given anew when it was resumed or is
 * another one than the agent was started for. From outside of the sandbox only its daemon comes
 * here, from inside nobody.
 */
#include "runtime/local/agent/init.h"

#include "common/http/body.h"
#include "runtime/local/agent/agent.h"
#include "runtime/local/agent/body.h"
#include "runtime/local/agent/handover.h"
#include "runtime/local/agent/reply.h"
#include "runtime/local/timestamp.h"

#include <json-c/linkhash.h>
#include <string.h>

static void refuse(struct http_exchange *x, int status, const char *why)
{
    http_reply(x, status, "text/plain; charset=utf-8", why, strlen(why));
}

/* Who knows the token may do it, and anybody while there is none. */
static bool check_token(const struct config *config, json_object *body, struct http_exchange *x)
{
    const char *token = body ? body_string(body, "accessToken") : NULL;

    if (!config->token || (token && config_has_token(config, token)))
        return true;
    refuse(x, 401,
           token && *token ? "access token validation failed"
                           : "access token reset not authorized");
    return false;
}

static bool check_body(json_object *body, struct http_exchange *x)
{
    json_object *envs = body_object(body, "envVars");
    const char *bundle = body_string(body, "caBundle");
    json_object *volumes = body_array(body, "volumeMounts");

    if (envs) {
        json_object_object_foreach(envs, name, value)
        {
            if (!*name || strchr(name, '=') || !json_object_is_type(value, json_type_string)) {
                refuse(x, 400, "envVars has names with texts");
                return false;
            }
        }
    }
    if ((bundle && *bundle) || (volumes && json_object_array_length(volumes) > 0)) {
        refuse(x, 400, "certificates and volumes are not offered by this runtime");
        return false;
    }
    return true;
}

static void take(struct config *config, json_object *body)
{
    json_object *envs = body_object(body, "envVars");
    const char *token = body_string(body, "accessToken");
    const char *user = body_string(body, "defaultUser");
    const char *workdir = body_string(body, "defaultWorkdir");

    if (envs) {
        config_clear_envs(config);
        json_object_object_foreach(envs, name, value)
        {
            config_add_env(config, name, json_object_get_string(value));
        }
    }
    if (token && *token)
        config_set(&config->token, token);
    if (user && *user)
        config_set(&config->user, user);
    if (workdir && *workdir)
        config_set(&config->workdir, workdir);
}

/* False: what it says is older than what is known. */
static bool is_new(struct agent *a, json_object *body, bool *ret_malformed)
{
    const char *text = body_string(body, "timestamp");
    int64_t at_ns;

    *ret_malformed = text && !timestamp_parse(text, &at_ns);
    if (!text || *ret_malformed)
        return true;
    if (at_ns <= a->init_ns)
        return false;
    a->init_ns = at_ns;
    return true;
}

static void on_body(struct http_exchange *x, void *ctx, const uint8_t *data, size_t len)
{
    struct agent *a = ctx;
    json_object *body = body_parse(data, len);
    bool malformed = len > 0 && !body;

    if (malformed) {
        refuse(x, 400, "");
        return;
    }
    if (!check_token(&a->config, body, x) || (body && !check_body(body, x))) {
        json_object_put(body);
        return;
    }
    if (body && is_new(a, body, &malformed) && !malformed)
        take(&a->config, body);
    json_object_put(body);
    if (malformed) {
        refuse(x, 400, "timestamp is no time");
        return;
    }
    reply_begin(x, 204);
    http_field(x, "Cache-Control", "no-store");
    http_field(x, "X-Envd-Version", AGENT_ENVD_VERSION);
    http_start(x, 0);
    http_end(x);
}

void init_post(struct agent *a, struct http_exchange *x)
{
    http_collect(x, AGENT_CONFIG_MAX, on_body, a);
}
