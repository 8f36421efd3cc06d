/* See edge.h. */
#include "runtime/local/edge/edge.h"

#include "common/base/cleanup.h"

#include <json-c/json_object.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

static const char content_type[] = "application/json; charset=utf-8";

bool edge_is_forbidden_path(const struct http_head *h)
{
    /* /events is our own agent's, for the daemon. */
    static const char *const paths[] = {"/init",     "/freeze", "/unfreeze", "/collapse",
                                        "/fsfreeze", "/fsthaw", "/upgrade",  "/events"};

    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
        if (http_path_is(h, paths[i]))
            return true;
    }
    return false;
}

bool edge_is_browser(const struct http_head *h)
{
    static const char *const fetches[] = {"cors", "no-cors", "same-origin", "websocket"};
    const char *agent = http_header(h, "user-agent");
    const char *accept = http_header(h, "accept");
    const char *mode = http_header(h, "sec-fetch-mode");

    if (agent == NULL || strstr(agent, "Mozilla/") == NULL)
        return false;
    if (accept != NULL && strstr(accept, "application/json") != NULL &&
        strstr(accept, "text/html") == NULL)
        return false;
    for (size_t i = 0; mode != NULL && i < sizeof(fetches) / sizeof(fetches[0]); i++) {
        if (strcasecmp(mode, fetches[i]) == 0)
            return false;
    }
    return http_header(h, "x-requested-with") == NULL;
}

/* The id is [a-z0-9]: nothing of a request's is written into the page unescaped. */
static void reply_page(struct http_exchange *x, int status, const char *id, const char *message)
{
    AUTO(buf_deinit) struct buf page = BUF_INIT(4096);

    buf_printf(&page,
               "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>%d</title>"
               "<style>body{font:16px/1.5 system-ui,sans-serif;margin:20vh auto;max-width:32rem;"
               "padding:0 1rem}code{background:#8882;padding:.1em .3em}</style></head>"
               "<body><h1>%s</h1><p>Sandbox <code>%s</code></p></body></html>\n",
               status, message, id);
    http_reply(x, status, "text/html; charset=utf-8", buf_data(&page), buf_len(&page));
}

static void reply_json(struct http_exchange *x, int status, struct json_object *take)
{
    size_t len;
    const char *text = json_object_to_json_string_length(
        take, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE, &len);

    http_reply(x, status, content_type, text, len);
    json_object_put(take);
}

static void reply(struct http_exchange *x, int status, const char *id, int port,
                  const char *message)
{
    struct json_object *o;

    if (edge_is_browser(http_request(x))) {
        reply_page(x, status, id, message);
        return;
    }
    o = json_object_new_object();
    json_object_object_add(o, "sandboxId", json_object_new_string(id));
    json_object_object_add(o, "message", json_object_new_string(message));
    if (port > 0)
        json_object_object_add(o, "port", json_object_new_int(port));
    json_object_object_add(o, "code", json_object_new_int(status));
    reply_json(x, status, o);
}

void edge_not_found(struct http_exchange *x, const char *sandbox_id)
{
    reply(x, 502, sandbox_id, 0, "The sandbox was not found");
}

void edge_port_closed(struct http_exchange *x, const char *sandbox_id, uint16_t port)
{
    reply(x, 502, sandbox_id, port, "The sandbox is running but port is not open");
}

void edge_traffic_refused(struct http_exchange *x, const char *sandbox_id, bool given)
{
    if (given)
        reply(x, 403, sandbox_id, 0,
              "Sandbox is secured with traffic access token. Provided token in header "
              "'" EDGE_TRAFFIC_TOKEN "' is invalid");
    else
        reply(x, 403, sandbox_id, 0,
              "Sandbox is secured with traffic access token. Token header '" EDGE_TRAFFIC_TOKEN
              "' is missing");
}

void edge_forbidden_path(struct http_exchange *x)
{
    const struct http_head *h = http_request(x);
    struct json_object *o = json_object_new_object();

    json_object_object_add(o, "message", json_object_new_string("Not found"));
    json_object_object_add(o, "path", json_object_new_string_len(h->path, (int)h->path_len));
    json_object_object_add(o, "code", json_object_new_int(404));
    reply_json(x, 404, o);
}

void edge_bad_route(struct http_exchange *x, const char *why)
{
    http_reply(x, 400, "text/plain; charset=utf-8", why, strlen(why));
}
