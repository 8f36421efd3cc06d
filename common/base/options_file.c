/*
 * See options.h: the sources behind the command line. Text that a file gave stays in memory as long
 * as the process, as argv and the environment do, so that options can point into it.
 */
#include "common/base/options_impl.h"

#include "common/base/buf.h"
#include "common/base/cleanup.h"
#include "common/base/mem.h"
#include "common/base/nearest.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FILE_MAX_BYTES = 1 << 20, WHERE_MAX = 512 };

extern char **environ;

static struct kept {
    struct kept *next;
    char *text; /* owned */
} * kept;

const struct option *option_named(const struct program *p, const char *name, size_t len)
{
    for (const struct option *o = p->options; o->name != NULL; o++) {
        if (strlen(o->name) == len && memcmp(o->name, name, len) == 0)
            return o;
    }
    return NULL;
}

void option_hint(const struct program *p, bool of_env, const char *before, const char *name,
                 size_t len, char *ret)
{
    size_t best = nearest_limit(len) + 1;

    ret[0] = '\0';
    for (const struct option *o = p->options; o->name != NULL; o++) {
        const char *other = of_env ? o->env : o->name;
        size_t distance = best;

        if (other != NULL)
            distance = nearest_distance(name, len, other, strlen(other));
        if (distance < best) {
            best = distance;
            snprintf(ret, NEAREST_HINT_MAX, "; did you mean %s%s?", before, other);
        }
    }
}

/* --- the file --- */

static char *keep(char *text)
{
    struct kept *k = xcalloc(1, sizeof(*k));

    k->text = text;
    k->next = kept;
    kept = k;
    return text;
}

static bool read_all(FILE *from, struct buf *ret)
{
    size_t n = 1;

    while (n > 0 && buf_room(ret) > 0) {
        size_t room = buf_room(ret) < 4096 ? buf_room(ret) : 4096;

        n = fread(buf_reserve(ret, room), 1, room, from);
        buf_commit(ret, n);
    }
    return !ferror(from);
}

/* The whole file as a string that is kept; NULL: st says why not. */
static char *read_text(const char *path, struct status *st)
{
    AUTO(buf_deinit) struct buf text = BUF_INIT(FILE_MAX_BYTES + 1);
    FILE *from = fopen(path, "re");
    bool ok = from != NULL && read_all(from, &text);
    const char *why = strerror(errno);

    if (from != NULL)
        fclose(from);
    if (ok && (buf_room(&text) == 0 || memchr(buf_str(&text), '\0', buf_len(&text)) != NULL)) {
        ok = false;
        why = "it is no text of less than 1MiB";
    }
    if (!ok) {
        status_set(st, CODE_INVALID_ARGUMENT, 0, "cannot read the configuration %s: %s", path, why);
        return NULL;
    }
    return keep(buf_take_str(&text));
}

static char *trim(char *text)
{
    size_t len;

    text += strspn(text, " \t\r");
    len = strlen(text);
    while (len > 0 && strchr(" \t\r", text[len - 1]) != NULL)
        len--;
    text[len] = '\0';
    return text;
}

static bool read_line(struct reading *r, const char *where, char *line, struct status *st)
{
    char *equals = strchr(line, '=');
    char hint[NEAREST_HINT_MAX];
    const struct option *o;
    const char *name;

    if (equals == NULL)
        return status_set(st, CODE_INVALID_ARGUMENT, 0,
                          "%s: write name = value, or # in front of "
                          "a comment",
                          where);
    *equals = '\0';
    name = trim(line);
    o = option_named(r->program, name, strlen(name));
    if (o == NULL) {
        option_hint(r->program, false, "", name, strlen(name), hint);
        return status_set(st, CODE_INVALID_ARGUMENT, 0, "%s: there is no option %s%s", where, name,
                          hint);
    }
    if (o->not_in_file)
        return status_set(st, CODE_INVALID_ARGUMENT, 0, "%s: %s cannot be set in a file", where,
                          name);
    if (r->sources[o - r->program->options] == OPTION_FROM_FILE && o->type != OPTION_STRINGS)
        return status_set(st, CODE_INVALID_ARGUMENT, 0, "%s: %s is set for the second time", where,
                          name);
    return option_store(r, o, OPTION_FROM_FILE, where, trim(equals + 1), st);
}

bool options_read_file(struct reading *r, struct status *st)
{
    char where[WHERE_MAX];
    char *text, *line;

    if (r->file == NULL)
        return true;
    text = read_text(r->file, st);
    if (text == NULL)
        return false;
    for (int n = 1; (line = strsep(&text, "\n")) != NULL; n++) {
        line = trim(line);
        snprintf(where, sizeof(where), "%s:%d", r->file, n);
        if (*line != '\0' && *line != '#' && !read_line(r, where, line, st))
            return false;
    }
    return true;
}

/* --- the environment --- */

/*
 * Kubernetes tells every pod of the services there are, in variables that begin with the service's
 * name: of one called "sandboxd", SANDBOXD_SERVICE_HOST, SANDBOXD_PORT=tcp://… and the like.
 */
static bool is_service_link(const char *name, size_t len, const char *value)
{
    const char *port = memmem(name, len, "_PORT_", 6);

    if (len > 13 && memcmp(name + len - 13, "_SERVICE_HOST", 13) == 0)
        return true;
    if (memmem(name, len, "_SERVICE_PORT", 13) != NULL)
        return true;
    if (port != NULL && isdigit((unsigned char)port[6]))
        return true;
    return len > 5 && memcmp(name + len - 5, "_PORT", 5) == 0 && strstr(value, "://") != NULL;
}

static bool is_known(const struct program *p, const char *name, size_t len)
{
    for (const struct option *o = p->options; o->name != NULL; o++) {
        if (o->env != NULL && strlen(o->env) == len && memcmp(o->env, name, len) == 0)
            return true;
    }
    for (const char *const *other = p->env_others; other != NULL && *other != NULL; other++) {
        if (strlen(*other) == len && memcmp(*other, name, len) == 0)
            return true;
    }
    return false;
}

static bool check_names(const struct program *p, struct status *st)
{
    char hint[NEAREST_HINT_MAX];

    for (char **at = environ; at != NULL && *at != NULL && p->env_prefix != NULL; at++) {
        size_t len = strcspn(*at, "=");

        if (strncmp(*at, p->env_prefix, strlen(p->env_prefix)) != 0 || is_known(p, *at, len) ||
            is_service_link(*at, len, *at + len))
            continue;
        option_hint(p, true, "", *at, len, hint);
        return status_set(st, CODE_INVALID_ARGUMENT, 0,
                          "the environment has %.*s, which is no option of %s%s", (int)len, *at,
                          p->name, hint);
    }
    return true;
}

bool options_read_environment(struct reading *r, struct status *st)
{
    if (!check_names(r->program, st))
        return false;
    for (const struct option *o = r->program->options; o->name != NULL; o++) {
        const char *value = o->env != NULL ? getenv(o->env) : NULL;

        if (value != NULL && *value != '\0' &&
            !option_store(r, o, OPTION_FROM_ENV, o->env, value, st))
            return false;
    }
    return true;
}
