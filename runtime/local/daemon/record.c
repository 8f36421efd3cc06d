/* See record.h. The end on the wall clock is kept as it was told to clients, to the microsecond. */
#include "runtime/local/daemon/record.h"

#include "common/base/mem.h"

#include <json-c/json_object.h>
#include <json-c/json_tokener.h>
#include <json-c/linkhash.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { VERSION = 1 };

static void add_text(struct json_object *o, const char *key, const char *value)
{
    if (value != NULL && *value != '\0')
        json_object_object_add(o, key, json_object_new_string(value));
}

static void add_number(struct json_object *o, const char *key, int64_t value)
{
    json_object_object_add(o, key, json_object_new_int64(value));
}

static void add_flag(struct json_object *o, const char *key, bool value)
{
    json_object_object_add(o, key, json_object_new_boolean(value));
}

static void add_pairs(struct json_object *o, const char *key, const struct pairs *p)
{
    struct json_object *pairs = json_object_new_object();

    for (size_t i = 0; i < p->n; i++)
        json_object_object_add(pairs, p->items[i].name, json_object_new_string(p->items[i].value));
    json_object_object_add(o, key, pairs);
}

static void add_creation(struct json_object *o, const struct creation_key *k)
{
    char digest[2 * sizeof(k->digest) + 1];

    if (k->text == NULL)
        return;
    for (size_t i = 0; i < sizeof(k->digest); i++)
        snprintf(digest + 2 * i, 3, "%02x", k->digest[i]);
    add_text(o, "creation_key", k->text);
    add_text(o, "creation_digest", digest);
}

bool record_write(const struct sandbox *s, struct buf *to, struct status *st)
{
    struct json_object *o = json_object_new_object();
    const char *text;
    bool fits;
    size_t len;

    add_number(o, "version", VERSION);
    add_text(o, "template", s->template_id);
    json_object_object_add(o, "blueprint", blueprint_write(&s->blueprint));
    add_text(o, "access_token", s->access_token);
    add_text(o, "traffic_token", s->traffic_token);
    add_pairs(o, "metadata", &s->metadata);
    add_pairs(o, "envs", &s->envs);
    add_creation(o, &s->creation);
    add_flag(o, "internet", s->internet);
    add_text(o, "network", s->network);
    add_number(o, "timeout_s", s->timeout_s);
    add_flag(o, "auto_pause", s->auto_pause);
    add_flag(o, "keeps_memory", s->keeps_memory);
    add_flag(o, "auto_resume", s->auto_resume);
    add_number(o, "start_ns", s->start_ns);
    add_number(o, "end_ns", s->end_ns);
    add_number(o, "start_at_ns", s->start_at_ns);
    text = json_object_to_json_string_length(o, JSON_C_TO_STRING_PLAIN, &len);
    fits = buf_append(to, text, len);
    json_object_put(o);
    return fits ||
           status_set(st, CODE_INVALID_ARGUMENT, 0,
                      "metadata and network are larger than a sandbox can have: %zu bytes", len);
}

/* NULL: it is not there. */
static const char *text_of(const struct json_object *o, const char *key)
{
    struct json_object *v = NULL;

    json_object_object_get_ex(o, key, &v);
    return json_object_is_type(v, json_type_string) ? json_object_get_string(v) : NULL;
}

static char *text_copy(const struct json_object *o, const char *key)
{
    const char *text = text_of(o, key);

    return text != NULL ? xstrdup(text) : NULL;
}

static int64_t number_of(const struct json_object *o, const char *key)
{
    struct json_object *v = NULL;

    json_object_object_get_ex(o, key, &v);
    return json_object_get_int64(v);
}

static bool flag_of(const struct json_object *o, const char *key)
{
    struct json_object *v = NULL;

    json_object_object_get_ex(o, key, &v);
    return json_object_get_boolean(v);
}

static void read_token(const struct json_object *o, const char *key,
                       char to[static SANDBOX_TOKEN_LEN + 1])
{
    const char *text = text_of(o, key);

    if (text != NULL && strlen(text) <= SANDBOX_TOKEN_LEN)
        strcpy(to, text);
}

static void read_pairs(const struct json_object *o, const char *key, struct pairs *ret)
{
    struct json_object *pairs = NULL;

    json_object_object_get_ex(o, key, &pairs);
    if (!json_object_is_type(pairs, json_type_object))
        return;
    json_object_object_foreach(pairs, name, value)
        pairs_add(ret, name, json_object_get_string(value));
}

static void read_creation(const struct json_object *o, struct creation_key *ret)
{
    const char *digest = text_of(o, "creation_digest");
    char byte[3] = "";

    ret->text = text_copy(o, "creation_key");
    if (digest == NULL || strlen(digest) != 2 * sizeof(ret->digest))
        return;
    for (size_t i = 0; i < sizeof(ret->digest); i++) {
        memcpy(byte, digest + 2 * i, 2);
        ret->digest[i] = (uint8_t)strtoul(byte, NULL, 16);
    }
}

static struct sandbox *read_sandbox(const char *id, const struct json_object *o)
{
    struct sandbox *s = registry_make(id);
    struct json_object *blueprint = NULL;

    s->template_id = text_copy(o, "template");
    if (json_object_object_get_ex(o, "blueprint", &blueprint))
        s->blueprint = blueprint_read(blueprint);
    read_token(o, "access_token", s->access_token);
    read_token(o, "traffic_token", s->traffic_token);
    read_pairs(o, "metadata", &s->metadata);
    read_pairs(o, "envs", &s->envs);
    read_creation(o, &s->creation);
    s->internet = flag_of(o, "internet");
    s->timeout_s = number_of(o, "timeout_s");
    s->auto_pause = flag_of(o, "auto_pause");
    s->keeps_memory = flag_of(o, "keeps_memory");
    s->auto_resume = flag_of(o, "auto_resume");
    s->network = text_copy(o, "network");
    s->start_ns = number_of(o, "start_ns");
    s->end_ns = number_of(o, "end_ns");
    s->start_at_ns = number_of(o, "start_at_ns");
    return s;
}

struct sandbox *record_read(const char *id, const uint8_t *data, size_t len, struct status *st)
{
    struct json_tokener *tokener = json_tokener_new();
    struct json_object *o = NULL;
    struct sandbox *s = NULL;

    if (len > 0)
        o = json_tokener_parse_ex(tokener, (const char *)data, (int)len);
    if (json_object_is_type(o, json_type_object) && text_of(o, "template") != NULL &&
        number_of(o, "version") == VERSION && strlen(id) <= SANDBOX_ID_LEN)
        s = read_sandbox(id, o);
    else
        status_set(st, CODE_DATA_LOSS, 0, "what is known of sandbox %s cannot be read", id);
    json_object_put(o);
    json_tokener_free(tokener);
    return s;
}
