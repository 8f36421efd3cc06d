/* See otlp.h. Names of attributes are those of OpenTelemetry's semantic conventions where there are
 * any; ours begin with "sandboxd.". */
#include "service/trace/otlp.h"

#include "common/base/buf.h"
#include "common/base/cleanup.h"
#include "common/base/mem.h"
#include "common/base/version.h"
#include "common/http/url.h"

#include <inttypes.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { VALUE_MAX = 1024 };

static struct json_object *text(const char *s)
{
    return json_object_new_string(s);
}

/* 64 bits are texts in OTLP's JSON. */
static struct json_object *wide(int64_t n)
{
    char digits[24];

    snprintf(digits, sizeof(digits), "%" PRId64, n);
    return text(digits);
}

static struct json_object *hex(const uint8_t *bytes, size_t len)
{
    char digits[2 * TRACE_ID_LEN + 1];

    for (size_t i = 0; i < len; i++)
        snprintf(digits + 2 * i, 3, "%02x", bytes[i]);
    return text(digits);
}

/* Takes value. */
static void add_attribute(struct json_object *list, const char *key, const char *type,
                          struct json_object *value)
{
    struct json_object *attribute = json_object_new_object(), *typed = json_object_new_object();

    json_object_object_add(typed, type, value);
    json_object_object_add(attribute, "key", text(key));
    json_object_object_add(attribute, "value", typed);
    json_object_array_add(list, attribute);
}

static void add_text(struct json_object *list, const char *key, const char *value)
{
    if (value[0] != '\0')
        add_attribute(list, key, "stringValue", text(value));
}

static struct json_object *attributes(const struct span *s)
{
    struct json_object *list = json_object_new_array();

    if (s->kind == SPAN_SERVER) {
        add_text(list, "rpc.system", "grpc");
        add_text(list, "rpc.service", s->service);
        add_text(list, "rpc.method", s->name);
        add_attribute(list, "rpc.grpc.status_code", "intValue", wide(s->code));
    } else if (s->http_status != 0) {
        add_attribute(list, "http.response.status_code", "intValue", wide(s->http_status));
    }
    add_text(list, "sandboxd.sandbox_id", s->sandbox_id);
    add_text(list, "sandboxd.request_id", s->request_id);
    add_text(list, "sandboxd.tenant", s->tenant);
    return list;
}

static struct json_object *pack_span(const struct span *s)
{
    static const uint8_t none[TRACE_SPAN_LEN];
    struct json_object *o = json_object_new_object(), *status = json_object_new_object();
    AUTO_FREE char *full = xasprintf("%s/%s", s->service, s->name);

    json_object_object_add(o, "traceId", hex(s->trace->id, TRACE_ID_LEN));
    json_object_object_add(o, "spanId", hex(s->id, TRACE_SPAN_LEN));
    if (memcmp(s->parent, none, sizeof(none)) != 0)
        json_object_object_add(o, "parentSpanId", hex(s->parent, TRACE_SPAN_LEN));
    if (s->trace->state[0] != '\0')
        json_object_object_add(o, "traceState", text(s->trace->state));
    json_object_object_add(o, "flags", json_object_new_int(s->trace->flags));
    json_object_object_add(o, "name", text(s->service[0] != '\0' ? full : s->name));
    json_object_object_add(o, "kind", json_object_new_int(s->kind));
    json_object_object_add(o, "startTimeUnixNano", wide(s->start_ns));
    json_object_object_add(o, "endTimeUnixNano", wide(s->end_ns));
    json_object_object_add(o, "attributes", attributes(s));
    if (s->failed) {
        json_object_object_add(status, "code", json_object_new_int(2));
        json_object_object_add(status, "message", text(code_name(s->code)));
    }
    json_object_object_add(o, "status", status);
    return o;
}

/* "key=value,…" with %XX as OTEL_RESOURCE_ATTRIBUTES has it; what is no such pair is left out. */
static void add_pairs(struct json_object *list, const char *pairs)
{
    AUTO_FREE char *copy = xstrdup(pairs != NULL ? pairs : "");
    char *rest = copy, *pair;

    while ((pair = strsep(&rest, ",")) != NULL) {
        char *equals = strchr(pair, '=');

        if (equals == NULL || equals == pair)
            continue;
        AUTO(buf_deinit) struct buf value = BUF_INIT(VALUE_MAX);

        *equals = '\0';
        if (url_decode(&value, equals + 1, strlen(equals + 1), false))
            add_text(list, pair + strspn(pair, " "), buf_str(&value));
    }
}

char *otlp_pack(const char *service_name, const char *resource, const struct span *spans, size_t n)
{
    struct json_object *root = json_object_new_object(), *by_resource = json_object_new_array(),
                       *one = json_object_new_object(), *res = json_object_new_object(),
                       *res_list = json_object_new_array(), *by_scope = json_object_new_array(),
                       *scoped = json_object_new_object(), *scope = json_object_new_object(),
                       *list = json_object_new_array();
    char *body;

    add_text(res_list, "service.name", service_name);
    add_text(res_list, "service.version", SANDBOXD_VERSION);
    add_pairs(res_list, resource);
    json_object_object_add(res, "attributes", res_list);
    json_object_object_add(scope, "name", text("sandboxd"));
    json_object_object_add(scope, "version", text(SANDBOXD_VERSION));
    for (size_t i = 0; i < n; i++)
        json_object_array_add(list, pack_span(&spans[i]));
    json_object_object_add(scoped, "scope", scope);
    json_object_object_add(scoped, "spans", list);
    json_object_array_add(by_scope, scoped);
    json_object_object_add(one, "resource", res);
    json_object_object_add(one, "scopeSpans", by_scope);
    json_object_array_add(by_resource, one);
    json_object_object_add(root, "resourceSpans", by_resource);
    body = xstrdup(json_object_to_json_string_ext(root, JSON_C_TO_STRING_PLAIN |
                                                            JSON_C_TO_STRING_NOSLASHESCAPE));
    json_object_put(root);
    return body;
}
