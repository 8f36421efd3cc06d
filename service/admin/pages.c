/* See pages.h. */
#include "service/admin/pages.h"

#include "common/base/buf.h"
#include "common/base/cleanup.h"
#include "common/base/version.h"
#include "common/http/url.h"
#include "service/config.h"

#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>

enum { METRICS_PAGE_MAX = 16 << 20, VALUE_MAX = 64 << 10 };

static void reply_text(struct http_exchange *x, int status, const char *text)
{
    http_reply(x, status, "text/plain; charset=utf-8", text, strlen(text));
}

/* Takes the object. */
static void reply_json(struct http_exchange *x, struct json_object *o)
{
    const char *text = json_object_to_json_string_ext(
        o, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_SPACED | JSON_C_TO_STRING_NOSLASHESCAPE);

    http_reply(x, 200, "application/json", text, strlen(text));
    json_object_put(o);
}

void page_metrics(const struct admin_config *config, enum admin_state state,
                  struct http_exchange *x)
{
    AUTO(buf_deinit) struct buf page = BUF_INIT(METRICS_PAGE_MAX);

    if (metrics_write(config->metrics, &page))
        http_reply(x, 200, METRICS_CONTENT_TYPE, buf_data(&page), buf_len(&page));
    else
        reply_text(x, 500, "the page is too large\n");
}

/* That this thread answers is all that can be said: a process that is slow is not to be killed. */
void page_livez(const struct admin_config *config, enum admin_state state, struct http_exchange *x)
{
    reply_text(x, 200, "ok\n");
}

void page_readyz(const struct admin_config *config, enum admin_state state, struct http_exchange *x)
{
    static const struct {
        int status;
        const char *brief, *verbose;
    } says[] = {
        [ADMIN_STARTING] = {503, "starting\n", "[-] started\n[+] not draining\nstarting\n"},
        [ADMIN_READY] = {200, "ok\n", "[+] started\n[+] not draining\nok\n"},
        [ADMIN_DRAINING] = {503, "draining\n", "[+] started\n[-] not draining\ndraining\n"},
    };
    AUTO(buf_deinit) struct buf value = BUF_INIT(64);
    bool verbose = url_query_get(http_request(x)->query, "verbose", &value) != URL_QUERY_ABSENT;

    reply_text(x, says[state].status, verbose ? says[state].verbose : says[state].brief);
}

void page_version(const struct admin_config *config, enum admin_state state,
                  struct http_exchange *x)
{
    struct json_object *o = json_object_new_object();

    json_object_object_add(o, "program", json_object_new_string("sandboxd"));
    json_object_object_add(o, "version", json_object_new_string(SANDBOXD_VERSION));
    reply_json(x, o);
}

static struct json_object *describe(const struct option *o, enum option_source source)
{
    static const char *const sources[] = {
        [OPTION_DEFAULT] = "default",
        [OPTION_FROM_FILE] = "file",
        [OPTION_FROM_ENV] = "environment",
        [OPTION_FROM_FLAG] = "flag",
    };
    AUTO(buf_deinit) struct buf value = BUF_INIT(VALUE_MAX);
    struct json_object *row = json_object_new_object();

    options_value(o, &value);
    json_object_object_add(row, "value", json_object_new_string(buf_str(&value)));
    json_object_object_add(row, "source", json_object_new_string(sources[source]));
    return row;
}

void page_config(const struct admin_config *config, enum admin_state state, struct http_exchange *x)
{
    const struct config *c = config->config;
    struct json_object *o = json_object_new_object();

    for (size_t i = 0; c->options[i].name != NULL; i++)
        json_object_object_add(o, c->options[i].name, describe(&c->options[i], c->sources[i]));
    reply_json(x, o);
}

/* ?NAME=N; -1 when it is not asked for. */
static long number(struct http_exchange *x, const char *name)
{
    AUTO(buf_deinit) struct buf value = BUF_INIT(16);

    if (url_query_get(http_request(x)->query, name, &value) != URL_QUERY_FOUND)
        return -1;
    return strtol(buf_str(&value), NULL, 10);
}

void page_channelz(const struct admin_config *config, enum admin_state state,
                   struct http_exchange *x)
{
    static const char *const kinds[] = {"server", "socket"};
    const char *kind = "";
    long n = 0;

    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        long asked = number(x, kinds[i]);

        if (asked >= 0)
            kind = kinds[i], n = asked;
    }

    AUTO_FREE char *json = config->channelz(kind, n);

    if (json == NULL)
        reply_text(x, 404, "gRPC knows nothing of that number\n");
    else
        http_reply(x, 200, "application/json", json, strlen(json));
}
