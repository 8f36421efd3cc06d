/*
 * See template.h: reading them. Everything is checked when it is read, so that a mistake shows when
 * the server starts and not when somebody makes a sandbox.
 */
#include "common/base/buf.h"
#include "common/base/cleanup.h"
#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/base/sha256.h"
#include "runtime/local/daemon/template.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <json-c/json_object.h>
#include <json-c/json_tokener.h>
#include <json-c/linkhash.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_NAME "template.json"

enum { FILE_MAX = 1 << 20, CPUS_MAX = 1000 };

static const char name_chars[] = "abcdefghijklmnopqrstuvwxyz0123456789-_";

/* What is being read. */
struct reading {
    const char *dir;           /* borrowed; of all templates */
    struct template *it;       /* borrowed */
    const char *key;           /* borrowed; the one at hand; NULL: none */
    struct json_object *value; /* borrowed; its value */
    struct status *st;
};

static bool bad(const struct reading *r, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

static bool bad(const struct reading *r, const char *fmt, ...)
{
    char what[256];
    va_list args;

    va_start(args, fmt);
    vsnprintf(what, sizeof(what), fmt, args);
    va_end(args);
    return status_set(r->st, CODE_INVALID_ARGUMENT, 0, "template %s/" FILE_NAME ": %s%s%s",
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

static bool take_text(struct reading *r, char **ret)
{
    const char *text = text_of(r->value);

    if (text == NULL)
        return bad(r, "must be a string that is not empty");
    *ret = xstrdup(text);
    return true;
}

static bool take_rootfs(struct reading *r)
{
    const char *text = text_of(r->value);
    AUTO_FREE char *path = NULL;
    struct stat info;

    if (text == NULL)
        return bad(r, "must be the path of a directory");
    path = text[0] == '/' ? xstrdup(text) : xasprintf("%s/%s/%s", r->dir, r->it->id, text);
    r->it->blueprint.rootfs = realpath(path, NULL);
    if (r->it->blueprint.rootfs == NULL || stat(r->it->blueprint.rootfs, &info) < 0)
        return bad(r, "%s: %s", path, strerror(errno));
    if (!S_ISDIR(info.st_mode))
        return bad(r, "%s: it is no directory", path);
    if (strcmp(r->it->blueprint.rootfs, "/") == 0)
        return bad(r, "is the host's own root: without this key its system directories serve");
    return true;
}

static bool take_start(struct reading *r)
{
    return take_text(r, &r->it->blueprint.start);
}

static bool take_ready(struct reading *r)
{
    return take_text(r, &r->it->blueprint.ready);
}

static bool take_user(struct reading *r)
{
    return take_text(r, &r->it->blueprint.user);
}

static bool take_workdir(struct reading *r)
{
    return take_text(r, &r->it->blueprint.workdir) &&
           (r->it->blueprint.workdir[0] == '/' || bad(r, "must be an absolute path"));
}

static bool take_envs(struct reading *r)
{
    if (!json_object_is_type(r->value, json_type_object))
        return bad(r, "must be an object of strings");
    json_object_object_foreach(r->value, name, value)
    {
        if (!json_object_is_type(value, json_type_string) ||
            strlen(json_object_get_string(value)) != (size_t)json_object_get_string_len(value))
            return bad(r, "must be an object of strings");
        if (*name == '\0' || strchr(name, '=') != NULL)
            return bad(r, "must have names that are not empty and hold no '='");
        pairs_add(&r->it->blueprint.envs, name, json_object_get_string(value));
    }
    return true;
}

static bool is_name(const char *text)
{
    size_t len = strspn(text, name_chars);

    return len > 0 && len <= TEMPLATE_NAME_MAX && text[len] == '\0';
}

static bool take_aliases(struct reading *r)
{
    struct template *it = r->it;
    size_t n;

    if (!json_object_is_type(r->value, json_type_array))
        return bad(r, "must be a list of names");
    n = json_object_array_length(r->value);
    it->aliases = xcalloc(n + 1, sizeof(*it->aliases));
    for (size_t i = 0; i < n; i++) {
        const char *alias = text_of(json_object_array_get_idx(r->value, i));

        if (alias == NULL || !is_name(alias))
            return bad(r, "must be names of 1 to %d of a-z, 0-9, '-' and '_'", TEMPLATE_NAME_MAX);
        it->aliases[it->n_aliases++] = xstrdup(alias);
    }
    return true;
}

static bool take_disk(struct reading *r)
{
    const char *text = text_of(r->value);
    bool on_disk = text != NULL && strcmp(text, "disk") == 0;

    if (!on_disk && (text == NULL || strcmp(text, "memory") != 0))
        return bad(r, "must be \"memory\" or \"disk\"");
    r->it->blueprint.limits.on_disk = on_disk;
    return true;
}

static bool take_cpus(struct reading *r)
{
    double cpus = json_object_get_double(r->value);

    if (!(json_object_is_type(r->value, json_type_int) ||
          json_object_is_type(r->value, json_type_double)) ||
        !(cpus >= 0.01 && cpus <= CPUS_MAX))
        return bad(r, "must be a number from 0.01 to %d", CPUS_MAX);
    r->it->blueprint.limits.cpu_millis = (int64_t)(cpus * 1000 + 0.5);
    return true;
}

static bool take_number(struct reading *r, int64_t min, int64_t max, int64_t unit, int64_t *ret)
{
    int64_t n = json_object_get_int64(r->value);

    if (!json_object_is_type(r->value, json_type_int) || n < min || n > max)
        return bad(r, "must be a whole number from %lld to %lld", (long long)min, (long long)max);
    *ret = n * unit;
    return true;
}

/* The bounds are those of the options. */
static bool take_memory(struct reading *r)
{
    return take_number(r, 16, 1 << 30, 1 << 20, &r->it->blueprint.limits.memory_bytes);
}

static bool take_disk_size(struct reading *r)
{
    return take_number(r, 1, 1 << 30, 1 << 20, &r->it->blueprint.limits.disk_bytes);
}

static bool take_inodes(struct reading *r)
{
    return take_number(r, 1000, INT64_C(1) << 40, 1, &r->it->blueprint.limits.files);
}

static bool take_pids(struct reading *r)
{
    return take_number(r, 16, 4 << 20, 1, &r->it->blueprint.limits.pids);
}

static bool take_open_files(struct reading *r)
{
    return take_number(r, 64, 1 << 30, 1, &r->it->blueprint.limits.open_files);
}

static const struct {
    const char *key;
    bool (*take)(struct reading *r);
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

static bool take_key(struct reading *r)
{
    for (size_t i = 0; i < sizeof(keys) / sizeof(*keys); i++) {
        if (strcmp(keys[i].key, r->key) == 0)
            return keys[i].take(r);
    }
    return bad(r, "is not a key of a template");
}

static bool read_file(struct reading *r, int fd, struct buf *text)
{
    ssize_t n = 1;

    while (n > 0) {
        uint8_t *room = buf_reserve(text, 4096);

        n = room != NULL ? read(fd, room, 4096) : -1;
        if (room == NULL)
            return bad(r, "is larger than %d bytes", FILE_MAX);
        buf_commit(text, n > 0 ? (size_t)n : 0);
    }
    return n == 0 || bad(r, "cannot be read: %s", strerror(errno));
}

/* Owned by the caller; NULL: st says why. */
static struct json_object *parse(const struct reading *r, const struct buf *text)
{
    struct json_tokener *tokener = json_tokener_new();
    enum json_tokener_error error;
    struct json_object *o;

    json_tokener_set_flags(tokener, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
    o = json_tokener_parse_ex(tokener, (const char *)buf_data(text), (int)buf_len(text));
    error = json_tokener_get_error(tokener);
    if (error == json_tokener_continue)
        bad(r, "is no JSON object: it ends too early");
    else if (error != json_tokener_success)
        bad(r, "is no JSON: %s at byte %zu", json_tokener_error_desc(error),
            json_tokener_get_parse_end(tokener));
    else if (!json_object_is_type(o, json_type_object))
        bad(r, "must be an object");
    json_tokener_free(tokener);
    if (r->st->code == CODE_OK)
        return o;
    json_object_put(o);
    return NULL;
}

/* What it says, as a UUID. */
static void make_build_id(struct template *it, const struct buf *text)
{
    uint8_t digest[SHA256_LEN];
    struct sha256 hash;
    char *to = it->build_id;

    sha256_init(&hash);
    sha256_update(&hash, it->id, strlen(it->id) + 1);
    if (buf_len(text) > 0)
        sha256_update(&hash, buf_data(text), buf_len(text));
    sha256_final(&hash, digest);
    digest[6] = (digest[6] & 0x0f) | 0x80;
    digest[8] = (digest[8] & 0x3f) | 0x80;
    for (int i = 0; i < 16; i++)
        to += sprintf(to, i == 4 || i == 6 || i == 8 || i == 10 ? "-%02x" : "%02x", digest[i]);
}

static bool take_keys(struct reading *r, const struct buf *text)
{
    struct json_object *o = parse(r, text);
    bool good = o != NULL;

    if (o == NULL)
        return false;
    json_object_object_foreach(o, key, value)
    {
        r->key = key;
        r->value = value;
        good = good && take_key(r);
    }
    r->key = NULL;
    json_object_put(o);
    return good;
}

static bool read_template(struct reading *r, int dir_fd)
{
    AUTO_FREE char *path = xasprintf("%s/" FILE_NAME, r->it->id);
    AUTO_CLOSE int fd = openat(dir_fd, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    AUTO(buf_deinit) struct buf text = BUF_INIT(FILE_MAX);
    struct stat info;

    if (fd < 0 || fstat(fd, &info) < 0)
        return bad(r, "cannot be read: %s", strerror(errno));
    r->it->changed_ns = info.st_mtim.tv_sec * NS_PER_S + info.st_mtim.tv_nsec;
    if (!read_file(r, fd, &text) || !take_keys(r, &text))
        return false;
    r->it->blueprint.limits = zygote_limits(&r->it->blueprint.limits);
    make_build_id(r->it, &text);
    return true;
}

static struct template *add(struct templates *t, const char *id)
{
    t->items = xrealloc(t->items, (t->n + 1) * sizeof(*t->items));
    t->items[t->n] = (struct template){.id = ""};
    snprintf(t->items[t->n].id, sizeof(t->items[t->n].id), "%s", id);
    return &t->items[t->n++];
}

/* Files, and what is hidden, are no templates. */
static bool read_entry(struct templates *t, const char *dir, int dir_fd, const char *name,
                       const struct zygote_limits *limits, struct status *st)
{
    struct reading r = {.dir = dir, .st = st};
    struct stat info;

    if (*name == '.' || fstatat(dir_fd, name, &info, 0) < 0 || !S_ISDIR(info.st_mode))
        return true;
    if (!is_name(name))
        return status_set(st, CODE_INVALID_ARGUMENT, 0,
                          "template %s: its folder's name must be 1 to %d of a-z, 0-9, '-' and '_'",
                          name, TEMPLATE_NAME_MAX);
    if (t->n == TEMPLATES_MAX)
        return status_set(st, CODE_INVALID_ARGUMENT, 0, "there are more than %d templates",
                          TEMPLATES_MAX);
    r.it = add(t, name);
    r.it->blueprint.limits = *limits;
    return read_template(&r, dir_fd);
}

static bool read_all(struct templates *t, const char *path, const struct zygote_limits *limits,
                     struct status *st)
{
    DIR *dir = opendir(path);
    struct dirent *entry;
    bool good = true;

    if (dir == NULL)
        return status_set(st, CODE_INVALID_ARGUMENT, 0, "the templates in %s cannot be read: %s",
                          path, strerror(errno));
    while (good && (entry = readdir(dir)) != NULL)
        good = read_entry(t, path, dirfd(dir), entry->d_name, limits, st);
    closedir(dir);
    return good;
}

static int by_id(const void *a, const void *b)
{
    return strcmp(((const struct template *)a)->id, ((const struct template *)b)->id);
}

/* Whether a name in front of the nth alias of `of` is the same. */
static bool is_taken(const struct templates *t, const struct template *of, size_t nth)
{
    for (const struct template *it = t->items; it < t->items + t->n; it++) {
        size_t n = it == of ? nth : it < of ? it->n_aliases : 0;

        if (strcmp(it->id, of->aliases[nth]) == 0)
            return true;
        for (size_t i = 0; i < n; i++) {
            if (strcmp(it->aliases[i], of->aliases[nth]) == 0)
                return true;
        }
    }
    return false;
}

static bool check_names(const struct templates *t, struct status *st)
{
    for (struct template *it = t->items; it < t->items + t->n; it++) {
        struct reading r = {.it = it, .key = "aliases", .st = st};

        for (size_t i = 0; i < it->n_aliases; i++) {
            if (is_taken(t, it, i))
                return bad(&r, "has '%s', which is a template's name already", it->aliases[i]);
        }
    }
    return true;
}

bool templates_read(struct templates *ret, const char *dir, int64_t now_ns,
                    const struct zygote_limits *limits, struct status *st)
{
    AUTO(buf_deinit) struct buf nothing = BUF_INIT(1);
    struct template *base;

    *ret = (struct templates){NULL, 0};
    if (dir != NULL && !read_all(ret, dir, limits, st)) {
        templates_deinit(ret);
        return false;
    }
    if (templates_get(ret, TEMPLATE_ID) == NULL) {
        base = add(ret, TEMPLATE_ID);
        base->blueprint.limits = zygote_limits(limits);
        base->changed_ns = now_ns;
        make_build_id(base, &nothing);
    }
    qsort(ret->items, ret->n, sizeof(*ret->items), by_id);
    if (check_names(ret, st))
        return true;
    templates_deinit(ret);
    return false;
}
