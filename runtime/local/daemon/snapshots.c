/* See snapshots.h. What is said of files here was written by us, yet a restart may find anything.
 */
#include "runtime/local/daemon/snapshots.h"

#include "common/base/buf.h"
#include "common/base/cleanup.h"
#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "runtime/local/daemon/record.h"
#include "runtime/local/daemon/workdir.h"

#include <dirent.h>
#include <fcntl.h>
#include <json-c/json_object.h>
#include <json-c/json_tokener.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>
#include <unistd.h>

#define LABEL_SPACE "local"  /* the namespace of all labels here */
#define OWN_PREFIX "paused-" /* of the files that are left of paused sandboxes */
#define DEFAULT_TAG "default"

static const char label_chars[] =
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_";

static char *path_of(const struct snapshots *s, const char *name, const char *suffix)
{
    return xasprintf("%s/%s%s", s->dir, name, suffix);
}

void snapshots_drop_files(struct snapshots *s, const char *name)
{
    AUTO_FREE char *files = path_of(s, name, ".tar");
    AUTO_FREE char *words = path_of(s, name, ".json");

    unlink(words);
    unlink(files);
}

bool snapshots_make_name(char to[static SNAPSHOT_NAME_MAX + 1], struct status *st)
{
    uint8_t random[20];
    char id[SANDBOX_ID_LEN + 1];

    if (getrandom(random, sizeof(random), 0) != sizeof(random))
        return status_set(st, CODE_INTERNAL, 0, "no random numbers");
    sandbox_id_make(random, id);
    strcpy(to, id + 1); /* without the letter of sandboxes */
    return true;
}

void snapshots_own_name(const char *sandbox_id, char to[static SNAPSHOT_NAME_MAX + 1])
{
    snprintf(to, SNAPSHOT_NAME_MAX + 1, OWN_PREFIX "%s", sandbox_id);
}

void snapshot_id(const struct snapshot *s, char *to, size_t size)
{
    snprintf(to, size, "%s:%s", s->label[0] != '\0' ? s->label : s->name, s->tag);
}

/* --- names --- */

/* Splits [namespace/]name[:tag]. False: it is none, or too long. */
static bool split_label(const char *text, char *label, char *tag)
{
    const char *slash = strchr(text, '/');
    const char *name = slash != NULL ? slash + 1 : text;
    size_t space_len = slash != NULL ? (size_t)(slash - text) : strlen(LABEL_SPACE);
    size_t len = strspn(name, label_chars), tag_len;

    if (len == 0 || (slash != NULL && strspn(text, label_chars) != space_len) || space_len == 0)
        return false;
    tag_len = name[len] == ':' ? strspn(name + len + 1, label_chars) : 0;
    if (name[len] != '\0' && (tag_len == 0 || name[len + 1 + tag_len] != '\0'))
        return false;
    if (space_len + len + 2 > SNAPSHOT_LABEL_MAX || tag_len > SNAPSHOT_LABEL_MAX)
        return false;
    snprintf(label, SNAPSHOT_LABEL_MAX + 1, "%.*s/%.*s", (int)space_len,
             slash != NULL ? text : LABEL_SPACE, (int)len, name);
    snprintf(tag, SNAPSHOT_LABEL_MAX + 1, "%.*s",
             tag_len > 0 ? (int)tag_len : (int)strlen(DEFAULT_TAG),
             tag_len > 0 ? name + len + 1 : DEFAULT_TAG);
    for (char *c = label; *c != '\0'; c++)
        *c = (char)(*c >= 'A' && *c <= 'Z' ? *c - 'A' + 'a' : *c);
    return true;
}

bool snapshots_label_is_valid(const char *label)
{
    char name[SNAPSHOT_LABEL_MAX + 1], tag[SNAPSHOT_LABEL_MAX + 1];

    return split_label(label, name, tag) &&
           strncmp(name, LABEL_SPACE "/", strlen(LABEL_SPACE) + 1) == 0;
}

const struct snapshot *snapshots_find(const struct snapshots *s, const char *reference)
{
    char label[SNAPSHOT_LABEL_MAX + 1], tag[SNAPSHOT_LABEL_MAX + 1];
    const char *bare;

    if (!split_label(reference, label, tag))
        return NULL;
    bare = strchr(label, '/') + 1;
    LIST_FOR_EACH (node, &s->all) {
        const struct snapshot *it = container_of(node, struct snapshot, node);

        if (strcmp(it->tag, tag) == 0 &&
            (strcmp(it->label, label) == 0 ||
             (strchr(reference, '/') == NULL && strcmp(it->name, bare) == 0)))
            return it;
    }
    return NULL;
}

/* --- coming and going --- */

static bool write_words(const struct snapshots *s, const char *name, struct json_object *take,
                        struct status *st)
{
    AUTO_FREE char *file = xasprintf("%s.json", name);
    bool ok = workdir_leave(s->dir, file, json_object_to_json_string(take), st);

    json_object_put(take);
    return ok;
}

static void add_text(struct json_object *o, const char *key, const char *value)
{
    json_object_object_add(o, key, json_object_new_string(value));
}

static struct json_object *describe(const struct snapshot *it)
{
    struct json_object *o = json_object_new_object();

    add_text(o, "label", it->label);
    add_text(o, "tag", it->tag);
    add_text(o, "sandbox_id", it->sandbox_id);
    json_object_object_add(o, "blueprint", blueprint_write(&it->blueprint));
    json_object_object_add(o, "created_ns", json_object_new_int64(it->created_ns));
    return o;
}

static void snapshot_free(struct snapshot *it)
{
    blueprint_deinit(&it->blueprint);
    free(it);
}

void snapshots_remove(struct snapshots *s, const struct snapshot *which)
{
    struct snapshot *it = (struct snapshot *)which; /* it is ours */

    snapshots_drop_files(s, it->name);
    list_unlink(&it->node);
    snapshot_free(it);
}

const struct snapshot *snapshots_add(struct snapshots *s, const char *name, const char *label,
                                     const struct sandbox *of, struct status *st)
{
    struct snapshot *it = xcalloc(1, sizeof(*it));
    const struct snapshot *older;

    snprintf(it->name, sizeof(it->name), "%s", name);
    strcpy(it->tag, DEFAULT_TAG);
    if (label != NULL)
        split_label(label, it->label, it->tag);
    strcpy(it->sandbox_id, of->id);
    it->blueprint = blueprint_copy(&of->blueprint);
    it->created_ns = clock_wall_ns();
    if (!write_words(s, name, describe(it), st)) {
        snapshots_drop_files(s, name);
        snapshot_free(it);
        return NULL;
    }
    older = label != NULL ? snapshots_find(s, label) : NULL;
    if (older != NULL)
        snapshots_remove(s, older);
    list_append(&s->all, &it->node);
    return it;
}

/* --- what is there at the start --- */

static struct json_object *read_words(const struct snapshots *s, const char *name)
{
    AUTO_FREE char *path = path_of(s, name, ".json");
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
    AUTO(buf_deinit) struct buf text = BUF_INIT(2 << 20);
    ssize_t n = 1;

    while (fd >= 0 && n > 0) {
        uint8_t *room = buf_reserve(&text, 64 << 10);

        n = room != NULL ? read(fd, room, 64 << 10) : -1;
        buf_commit(&text, n > 0 ? (size_t)n : 0);
    }
    return n == 0 ? json_tokener_parse(buf_str(&text)) : NULL;
}

static const char *text_of(const struct json_object *o, const char *key)
{
    struct json_object *v = NULL;

    json_object_object_get_ex(o, key, &v);
    return json_object_is_type(v, json_type_string) ? json_object_get_string(v) : "";
}

static bool take_words(struct snapshots *s, const char *name, struct json_object *o)
{
    struct json_object *created = NULL, *blueprint = NULL;
    struct snapshot *it;

    if (!json_object_is_type(o, json_type_object) || *text_of(o, "tag") == '\0')
        return false;
    it = xcalloc(1, sizeof(*it));
    json_object_object_get_ex(o, "created_ns", &created);
    snprintf(it->name, sizeof(it->name), "%s", name);
    snprintf(it->label, sizeof(it->label), "%s", text_of(o, "label"));
    snprintf(it->tag, sizeof(it->tag), "%s", text_of(o, "tag"));
    snprintf(it->sandbox_id, sizeof(it->sandbox_id), "%s", text_of(o, "sandbox_id"));
    it->created_ns = json_object_get_int64(created);
    if (json_object_object_get_ex(o, "blueprint", &blueprint))
        it->blueprint = blueprint_read(blueprint);
    list_append(&s->all, &it->node);
    return true;
}

/* The name in front of a suffix; NULL: it has another one. Owned by the caller. */
static char *name_before(const char *file, const char *suffix)
{
    size_t len = strlen(file), end = strlen(suffix);

    if (len <= end || len - end > SNAPSHOT_NAME_MAX || strcmp(file + len - end, suffix) != 0)
        return NULL;
    return xasprintf("%.*s", (int)(len - end), file);
}

static void load(struct snapshots *s, const char *file)
{
    AUTO_FREE char *name = name_before(file, ".tar");
    struct json_object *words;

    if (name == NULL || strncmp(name, OWN_PREFIX, strlen(OWN_PREFIX)) == 0)
        return;
    words = read_words(s, name);
    if (!take_words(s, name, words))
        snapshots_drop_files(s, name); /* nobody was ever told of it */
    json_object_put(words);
}

static void each_file(const struct snapshots *s, void (*take)(void *ctx, const char *file),
                      void *ctx)
{
    DIR *dir = opendir(s->dir);
    struct dirent *entry;

    while (dir != NULL && (entry = readdir(dir)) != NULL)
        take(ctx, entry->d_name);
    if (dir != NULL)
        closedir(dir);
}

static void load_file(void *ctx, const char *file)
{
    load(ctx, file);
}

void snapshots_init(struct snapshots *s, const char *data_dir)
{
    s->dir = xasprintf("%s/snapshots", data_dir);
    list_init(&s->all);
    each_file(s, load_file, s);
}

void snapshots_deinit(struct snapshots *s)
{
    LIST_FOR_EACH_SAFE (node, &s->all)
        snapshot_free(container_of(node, struct snapshot, node));
    free(s->dir);
}

/* --- what is left of paused sandboxes --- */

void snapshots_store(struct snapshots *s, const struct sandbox *sandbox)
{
    AUTO(buf_deinit) struct buf record = BUF_INIT(2 << 20);
    char name[SNAPSHOT_NAME_MAX + 1];
    AUTO_FREE char *file = NULL;
    struct status st = STATUS_INIT;

    snapshots_own_name(sandbox->id, name);
    file = xasprintf("%s.json", name);
    if (!record_write(sandbox, &record, &st) || !workdir_leave(s->dir, file, buf_str(&record), &st))
        log_error("paused sandbox will not outlive this server", LOG_S("sandbox_id", sandbox->id),
                  LOG_S("error", st.message));
}

void snapshots_unstore(struct snapshots *s, const char *sandbox_id)
{
    char name[SNAPSHOT_NAME_MAX + 1];

    snapshots_own_name(sandbox_id, name);
    snapshots_drop_files(s, name);
}

struct visitor {
    struct snapshots *snapshots;
    void (*each)(void *ctx, const char *id, const uint8_t *record, size_t len);
    void *ctx;
};

static void visit(void *ctx, const char *file)
{
    const struct visitor *v = ctx;
    AUTO_FREE char *name = name_before(file, ".json");
    struct json_object *words;
    const char *text;

    if (name == NULL || strncmp(name, OWN_PREFIX, strlen(OWN_PREFIX)) != 0)
        return;
    words = read_words(v->snapshots, name);
    text = json_object_to_json_string(words);
    v->each(v->ctx, name + strlen(OWN_PREFIX), (const uint8_t *)text, strlen(text));
    json_object_put(words);
}

void snapshots_each_stored(struct snapshots *s,
                           void (*each)(void *ctx, const char *id, const uint8_t *record,
                                        size_t len),
                           void *ctx)
{
    struct visitor v = {s, each, ctx};

    each_file(s, visit, &v);
}
