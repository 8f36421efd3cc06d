/* See network.h. */
#include "runtime/local/egress/network.h"

#include "common/base/mem.h"

#include <json-c/json_tokener.h>
#include <stdlib.h>
#include <string.h>

enum {
    PORT_HOLE_LEN = sizeof("${PORT}") - 1,
    TEXT_MAX = 256 << 10, /* it is kept with everything else that is known of a sandbox */
};

static const char *const outward[] = {"allowOut", "denyOut", "rules"};
static const char *const inward[] = {"allowPublicTraffic", "maskRequestHost"};

static struct json_object *field(const struct json_object *o, const char *key)
{
    struct json_object *v = NULL;

    json_object_object_get_ex(o, key, &v);
    return v;
}

static void copy_fields(struct json_object *to, const struct json_object *from,
                        const char *const *keys, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct json_object *v = field(from, keys[i]);

        if (v != NULL)
            json_object_object_add(to, keys[i], json_object_get(v));
    }
}

/* "host", "host:port" or "host:${PORT}". */
static bool is_host(const char *text)
{
    size_t host = strcspn(text, ":");
    const char *port = text + host;

    for (size_t i = 0; i < host; i++) {
        char c = text[i];

        if (strncmp(text + i, "${PORT}", PORT_HOLE_LEN) == 0)
            i += PORT_HOLE_LEN - 1;
        else if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                   c == '-' || c == '.' || c == '_'))
            return false;
    }
    if (host == 0 || *port == '\0')
        return host > 0;
    return strcmp(port + 1, "${PORT}") == 0 ||
           (port[1] != '\0' && strspn(port + 1, "0123456789") == strlen(port + 1));
}

static bool read_mask(struct network *n, const struct json_object *object, struct status *st)
{
    struct json_object *v = field(object, "maskRequestHost");
    const char *text;

    if (v == NULL)
        return true;
    if (!json_object_is_type(v, json_type_string))
        return status_set(st, CODE_INVALID_ARGUMENT, 0,
                          "validation error: maskRequestHost must be a string");
    text = json_object_get_string(v);
    for (const char *c = text; *c != '\0'; c++) {
        if ((unsigned char)*c >= 0x80)
            return status_set(st, CODE_INVALID_ARGUMENT, 0,
                              "mask request host '%s' is not ASCII. Please use ASCII characters "
                              "only.",
                              text);
    }
    if (strlen(text) > 255 || !is_host(text))
        return status_set(st, CODE_INVALID_ARGUMENT, 0, "mask request host is not valid: %s", text);
    n->mask_host = xstrdup(text);
    return true;
}

static bool read_inward(struct network *n, const struct json_object *object, struct status *st)
{
    struct json_object *open = field(object, "allowPublicTraffic");
    struct json_object *https = field(object, "httpsPorts");

    n->public_traffic = open == NULL || json_object_get_boolean(open);
    if (open != NULL && !json_object_is_type(open, json_type_boolean))
        return status_set(st, CODE_INVALID_ARGUMENT, 0,
                          "validation error: allowPublicTraffic must be true or false");
    if (https != NULL &&
        !(json_object_is_type(https, json_type_array) && json_object_array_length(https) == 0))
        return status_set(st, CODE_INVALID_ARGUMENT, 0,
                          "The local runtime does not support network.httpsPorts yet");
    return read_mask(n, object, st);
}

bool network_parse(struct network *n, const struct json_object *object, bool internet,
                   struct status *st)
{
    struct json_object *known;

    *n = (struct network){.public_traffic = true};
    if (!egress_policy_parse(&n->policy, object, internet, st))
        return false;
    if (object == NULL)
        return true;
    if (!json_object_is_type(object, json_type_object))
        return status_set(st, CODE_INVALID_ARGUMENT, 0,
                          "validation error: network must be an object");
    if (!read_inward(n, object, st))
        return false;
    known = json_object_new_object();
    copy_fields(known, object, inward, sizeof(inward) / sizeof(inward[0]));
    copy_fields(known, object, outward, sizeof(outward) / sizeof(outward[0]));
    n->text = xstrdup(json_object_to_json_string_ext(known, JSON_C_TO_STRING_PLAIN |
                                                                JSON_C_TO_STRING_NOSLASHESCAPE));
    json_object_put(known);
    if (strlen(n->text) > TEXT_MAX)
        return status_set(st, CODE_INVALID_ARGUMENT, 0,
                          "validation error: network is over %d bytes long", TEXT_MAX);
    return true;
}

bool network_parse_text(struct network *n, const char *text, bool internet, struct status *st)
{
    struct json_object *object = text != NULL ? json_tokener_parse(text) : NULL;
    bool parsed = network_parse(n, object, internet, st);

    json_object_put(object);
    return parsed;
}

bool network_update(struct network *n, const char *text, const struct json_object *update,
                    bool internet, struct status *st)
{
    static const char *const taken[] = {"allowOut", "denyOut", "rules", "egressProxy"};
    struct json_object *old = text != NULL ? json_tokener_parse(text) : NULL;
    struct json_object *merged = json_object_new_object();
    bool parsed;

    copy_fields(merged, old, inward, sizeof(inward) / sizeof(inward[0]));
    copy_fields(merged, update, taken, sizeof(taken) / sizeof(taken[0]));
    parsed = network_parse(n, merged, internet, st);
    json_object_put(merged);
    json_object_put(old);
    return parsed;
}

void network_deinit(struct network *n)
{
    egress_policy_deinit(&n->policy);
    free(n->mask_host);
    free(n->text);
    *n = (struct network){.public_traffic = true};
}
