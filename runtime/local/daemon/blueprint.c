/* See blueprint.h. */
#include "runtime/local/daemon/blueprint.h"

#include "common/base/mem.h"

#include <json-c/json_object.h>
#include <json-c/linkhash.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *key;
    size_t at;
} texts[] = {
    {"rootfs", offsetof(struct blueprint, rootfs)},   {"start", offsetof(struct blueprint, start)},
    {"ready", offsetof(struct blueprint, ready)},     {"user", offsetof(struct blueprint, user)},
    {"workdir", offsetof(struct blueprint, workdir)},
};

static const struct {
    const char *key;
    size_t at;
} numbers[] = {
    {"memory_bytes", offsetof(struct zygote_limits, memory_bytes)},
    {"disk_bytes", offsetof(struct zygote_limits, disk_bytes)},
    {"files", offsetof(struct zygote_limits, files)},
    {"pids", offsetof(struct zygote_limits, pids)},
    {"cpu_millis", offsetof(struct zygote_limits, cpu_millis)},
    {"open_files", offsetof(struct zygote_limits, open_files)},
};

static char **text_at(const struct blueprint *b, size_t i)
{
    return (char **)((char *)b + texts[i].at);
}

static int64_t *number_at(const struct blueprint *b, size_t i)
{
    return (int64_t *)((char *)&b->limits + numbers[i].at);
}

void blueprint_deinit(struct blueprint *b)
{
    for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++)
        free(*text_at(b, i));
    pairs_deinit(&b->envs);
    *b = (struct blueprint){NULL};
}

struct blueprint blueprint_copy(const struct blueprint *b)
{
    struct blueprint copy = {.limits = b->limits};

    for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++) {
        if (*text_at(b, i) != NULL)
            *text_at(&copy, i) = xstrdup(*text_at(b, i));
    }
    pairs_add_missing(&copy.envs, &b->envs);
    return copy;
}

struct json_object *blueprint_write(const struct blueprint *b)
{
    struct json_object *o = json_object_new_object();
    struct json_object *envs = json_object_new_object();

    for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++) {
        if (*text_at(b, i) != NULL)
            json_object_object_add(o, texts[i].key, json_object_new_string(*text_at(b, i)));
    }
    for (size_t i = 0; i < sizeof(numbers) / sizeof(*numbers); i++) {
        if (*number_at(b, i) != 0)
            json_object_object_add(o, numbers[i].key, json_object_new_int64(*number_at(b, i)));
    }
    for (size_t i = 0; i < b->envs.n; i++)
        json_object_object_add(envs, b->envs.items[i].name,
                               json_object_new_string(b->envs.items[i].value));
    json_object_object_add(o, "envs", envs);
    json_object_object_add(o, "on_disk", json_object_new_boolean(b->limits.on_disk));
    return o;
}

struct blueprint blueprint_read(const struct json_object *o)
{
    struct blueprint b = {NULL};
    struct json_object *v = NULL;

    for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++) {
        if (json_object_object_get_ex(o, texts[i].key, &v) &&
            json_object_is_type(v, json_type_string))
            *text_at(&b, i) = xstrdup(json_object_get_string(v));
    }
    for (size_t i = 0; i < sizeof(numbers) / sizeof(*numbers); i++) {
        if (json_object_object_get_ex(o, numbers[i].key, &v))
            *number_at(&b, i) = json_object_get_int64(v);
    }
    if (json_object_object_get_ex(o, "on_disk", &v))
        b.limits.on_disk = json_object_get_boolean(v);
    if (json_object_object_get_ex(o, "envs", &v) && json_object_is_type(v, json_type_object)) {
        json_object_object_foreach(v, name, value)
            pairs_add(&b.envs, name, json_object_get_string(value));
    }
    return b;
}
