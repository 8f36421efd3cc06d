/* See template_keys.h. A function for each key, and the table of them. */
#include "runtime/local/daemon/template_keys.h"

#include "common/base/cleanup.h"
#include "common/base/mem.h"

#include <errno.h>
#include <json-c/linkhash.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { CPUS_MAX = 1000 };

static const char name_chars[] = "abcdefghijklmnopqrstuvwxyz0123456789-_";

bool template_bad(const struct template_reading *r, const char *fmt, ...)
{
    char what[256];
    va_list args;

    va_start(args, fmt);
    vsnprintf(what, sizeof(what), fmt, args);
    va_end(args);
    return status_set(r->st, CODE_INVALID_ARGUMENT, 0, "template %s/" TEMPLATE_FILE ": %s%s%s",
                      r->it->id, r->key != NULL ? r->key : "", r->key != NULL ? " " : "", what);
}

/* NULL: it is none, or none that a program can be given. */
static const char *text_of(struct json_object *v)
{
    const char *text;

    if (!json_object_is_type(v, json_type_string))
        return NULL;
    text = json_object_get_string(v);
    return *text != '\0' && strlen(text) == (size_t)json_object_get_string_len(v) ? text : NULL;
}

static bool take_text(struct template_reading *r, char **ret)
{
    const char *text = text_of(r->value);

    if (text == NULL)
        return template_bad(r, "must be a string that is not empty");
    *ret = xstrdup(text);
    return true;
}

static bool take_rootfs(struct template_reading *r)
{
    const char *text = text_of(r->value);
    AUTO_FREE char *path = NULL;
    struct stat info;

    if (text == NULL)
        return template_bad(r, "must be the path of a directory");
    path = text[0] == '/' ? xstrdup(text) : xasprintf("%s/%s/%s", r->dir, r->it->id, text);
    r->it->blueprint.rootfs = realpath(path, NULL);
    if (r->it->blueprint.rootfs == NULL || stat(r->it->blueprint.rootfs, &info) < 0)
        return template_bad(r, "%s: %s", path, strerror(errno));
    if (!S_ISDIR(info.st_mode))
        return template_bad(r, "%s: it is no directory", path);
    if (strcmp(r->it->blueprint.rootfs, "/") == 0)
        return template_bad(
            r, "is the host's own root: without this key its system directories serve");
    return true;
}

static bool take_start(struct template_reading *r)
{
    return take_text(r, &r->it->blueprint.start);
}

static bool take_ready(struct template_reading *r)
{
    return take_text(r, &r->it->blueprint.ready);
}

static bool take_user(struct template_reading *r)
{
    return take_text(r, &r->it->blueprint.user);
}

static bool take_workdir(struct template_reading *r)
{
    return take_text(r, &r->it->blueprint.workdir) &&
           (r->it->blueprint.workdir[0] == '/' || template_bad(r, "must be an absolute path"));
}

static bool take_envs(struct template_reading *r)
{
    if (!json_object_is_type(r->value, json_type_object))
        return template_bad(r, "must be an object of strings");
    json_object_object_foreach(r->value, name, value)
    {
        if (!json_object_is_type(value, json_type_string) ||
            strlen(json_object_get_string(value)) != (size_t)json_object_get_string_len(value))
            return template_bad(r, "must be an object of strings");
        if (*name == '\0' || strchr(name, '=') != NULL)
            return template_bad(r, "must have names that are not empty and hold no '='");
        pairs_add(&r->it->blueprint.envs, name, json_object_get_string(value));
    }
    return true;
}

bool template_is_name(const char *text)
{
    size_t len = strspn(text, name_chars);

    return len > 0 && len <= TEMPLATE_NAME_MAX && text[len] == '\0';
}

static bool take_aliases(struct template_reading *r)
{
    struct template *it = r->it;
    size_t n;

    if (!json_object_is_type(r->value, json_type_array))
        return template_bad(r, "must be a list of names");
    n = json_object_array_length(r->value);
    it->aliases = xcalloc(n + 1, sizeof(*it->aliases));
    for (size_t i = 0; i < n; i++) {
        const char *alias = text_of(json_object_array_get_idx(r->value, i));

        if (alias == NULL || !template_is_name(alias))
            return template_bad(r, "must be names of 1 to %d of a-z, 0-9, '-' and '_'",
                                TEMPLATE_NAME_MAX);
        it->aliases[it->n_aliases++] = xstrdup(alias);
    }
    return true;
}

static bool take_disk(struct template_reading *r)
{
    const char *text = text_of(r->value);
    bool on_disk = text != NULL && strcmp(text, "disk") == 0;

    if (!on_disk && (text == NULL || strcmp(text, "memory") != 0))
        return template_bad(r, "must be \"memory\" or \"disk\"");
    r->it->blueprint.limits.on_disk = on_disk;
    return true;
}

static bool take_cpus(struct template_reading *r)
{
    double cpus = json_object_get_double(r->value);

    if (!(json_object_is_type(r->value, json_type_int) ||
          json_object_is_type(r->value, json_type_double)) ||
        !(cpus >= 0.01 && cpus <= CPUS_MAX))
        return template_bad(r, "must be a number from 0.01 to %d", CPUS_MAX);
    r->it->blueprint.limits.cpu_millis = (int64_t)(cpus * 1000 + 0.5);
    return true;
}

static bool take_number(struct template_reading *r, int64_t min, int64_t max, int64_t unit,
                        int64_t *ret)
{
    int64_t n = json_object_get_int64(r->value);

    if (!json_object_is_type(r->value, json_type_int) || n < min || n > max)
        return template_bad(r, "must be a whole number from %lld to %lld", (long long)min,
                            (long long)max);
    *ret = n * unit;
    return true;
}

/* The bounds are those of the options. */
static bool take_memory(struct template_reading *r)
{
    return take_number(r, 16, 1 << 30, 1 << 20, &r->it->blueprint.limits.memory_bytes);
}

static bool take_disk_size(struct template_reading *r)
{
    return take_number(r, 1, 1 << 30, 1 << 20, &r->it->blueprint.limits.disk_bytes);
}

static bool take_inodes(struct template_reading *r)
{
    return take_number(r, 1000, INT64_C(1) << 40, 1, &r->it->blueprint.limits.files);
}

static bool take_pids(struct template_reading *r)
{
    return take_number(r, 16, 4 << 20, 1, &r->it->blueprint.limits.pids);
}

static bool take_open_files(struct template_reading *r)
{
    return take_number(r, 64, 1 << 30, 1, &r->it->blueprint.limits.open_files);
}

static const struct {
    const char *key;
    bool (*take)(struct template_reading *r);
} keys[] = {
    {"rootfs", take_rootfs},
    {"startCmd", take_start},
    {"readyCmd", take_ready},
    {"envs", take_envs},
    {"user", take_user},
    {"workdir", take_workdir},
    {"aliases", take_aliases},
    {"disk", take_disk},
    {"memoryMB", take_memory},
    {"cpuCount", take_cpus},
    {"diskSizeMB", take_disk_size},
    {"inodes", take_inodes},
    {"pids", take_pids},
    {"openFiles", take_open_files},
};

bool template_take_key(struct template_reading *r)
{
    for (size_t i = 0; i < sizeof(keys) / sizeof(*keys); i++) {
        if (strcmp(keys[i].key, r->key) == 0)
            return keys[i].take(r);
    }
    return template_bad(r, "is not a key of a template");
}
