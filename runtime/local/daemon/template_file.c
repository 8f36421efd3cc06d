/*
 * See template.h: reading them. Everything is checked when it is read, so that a mistake shows when
 * the server starts and not when somebody makes a sandbox. What a file may say: template_keys.c.
 */
#include "common/base/buf.h"
#include "common/base/cleanup.h"
#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/base/sha256.h"
#include "runtime/local/daemon/template_keys.h"

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

enum { FILE_MAX = 1 << 20 };

static bool read_file(struct template_reading *r, int fd, struct buf *text)
{
    ssize_t n = 1;

    while (n > 0) {
        uint8_t *room = buf_reserve(text, 4096);

        n = room != NULL ? read(fd, room, 4096) : -1;
        if (room == NULL)
            return template_bad(r, "is larger than %d bytes", FILE_MAX);
        buf_commit(text, n > 0 ? (size_t)n : 0);
    }
    return n == 0 || template_bad(r, "cannot be read: %s", strerror(errno));
}

/* Owned by the caller; NULL: st says why. */
static struct json_object *parse(const struct template_reading *r, const struct buf *text)
{
    struct json_tokener *tokener = json_tokener_new();
    enum json_tokener_error error;
    struct json_object *o;

    json_tokener_set_flags(tokener, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
    o = json_tokener_parse_ex(tokener, (const char *)buf_data(text), (int)buf_len(text));
    error = json_tokener_get_error(tokener);
    if (error == json_tokener_continue)
        template_bad(r, "is no JSON object: it ends too early");
    else if (error != json_tokener_success)
        template_bad(r, "is no JSON: %s at byte %zu", json_tokener_error_desc(error),
                     json_tokener_get_parse_end(tokener));
    else if (!json_object_is_type(o, json_type_object))
        template_bad(r, "must be an object");
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

static bool take_keys(struct template_reading *r, const struct buf *text)
{
    struct json_object *o = parse(r, text);
    bool good = o != NULL;

    if (o == NULL)
        return false;
    json_object_object_foreach(o, key, value)
    {
        r->key = key;
        r->value = value;
        good = good && template_take_key(r);
    }
    r->key = NULL;
    json_object_put(o);
    return good;
}

static bool read_template(struct template_reading *r, int dir_fd)
{
    AUTO_FREE char *path = xasprintf("%s/" TEMPLATE_FILE, r->it->id);
    AUTO_CLOSE int fd = openat(dir_fd, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    AUTO(buf_deinit) struct buf text = BUF_INIT(FILE_MAX);
    struct stat info;

    if (fd < 0 || fstat(fd, &info) < 0)
        return template_bad(r, "cannot be read: %s", strerror(errno));
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
    struct template_reading r = {.dir = dir, .st = st};
    struct stat info;

    if (*name == '.' || fstatat(dir_fd, name, &info, 0) < 0 || !S_ISDIR(info.st_mode))
        return true;
    if (!template_is_name(name))
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
        struct template_reading r = {.it = it, .key = "aliases", .st = st};

        for (size_t i = 0; i < it->n_aliases; i++) {
            if (is_taken(t, it, i))
                return template_bad(&r, "has '%s', which is a template's name already",
                                    it->aliases[i]);
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
