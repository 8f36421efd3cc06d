/* See template.h: finding them. How they are read is in template_file.c. */
#include "runtime/local/daemon/template.h"

#include "common/base/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define NAMESPACE "local" /* as of snapshots */

static const char name_chars[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_";

static void template_deinit(struct template *it)
{
    for (size_t i = 0; i < it->n_aliases; i++)
        free(it->aliases[i]);
    free(it->aliases);
    blueprint_deinit(&it->blueprint);
}

void templates_deinit(struct templates *t)
{
    for (size_t i = 0; i < t->n; i++)
        template_deinit(&t->items[i]);
    free(t->items);
    *t = (struct templates){NULL, 0};
}

struct template *templates_get(const struct templates *t, const char *id)
{
    for (size_t i = 0; i < t->n; i++) {
        if (strcmp(t->items[i].id, id) == 0)
            return &t->items[i];
    }
    return NULL;
}

void templates_replace(struct templates *t, struct templates *take)
{
    for (size_t i = 0; i < take->n; i++) {
        const struct template *old = templates_get(t, take->items[i].id);

        if (old != NULL) {
            take->items[i].spawned_ns = old->spawned_ns;
            take->items[i].n_spawned = old->n_spawned;
        }
    }
    templates_deinit(t);
    *t = *take;
    *take = (struct templates){NULL, 0};
}

static bool is_called(const struct template *it, const char *name, size_t len)
{
    if (strlen(it->id) == len && strncasecmp(it->id, name, len) == 0)
        return true;
    for (size_t i = 0; i < it->n_aliases; i++) {
        if (strlen(it->aliases[i]) == len && strncasecmp(it->aliases[i], name, len) == 0)
            return true;
    }
    return false;
}

/* Whether it is one; *ret_name is its name, *ret_ours: it may be of a template here. */
static bool parse(const char *reference, const char **ret_name, size_t *ret_len, bool *ret_ours)
{
    const char *name = reference, *rest;
    size_t len = strspn(name, name_chars), tag;

    *ret_ours = true;
    if (len > 0 && name[len] == '/') {
        *ret_ours = len == strlen(NAMESPACE) && strncasecmp(name, NAMESPACE, len) == 0;
        name += len + 1;
        len = strspn(name, name_chars);
    }
    if (len == 0)
        return false;
    rest = name + len;
    *ret_name = name;
    *ret_len = len;
    if (*rest != ':')
        return *rest == '\0';
    tag = strspn(rest + 1, name_chars);
    while (rest[1 + tag] == '.')
        tag += 1 + strspn(rest + 2 + tag, name_chars);
    *ret_ours = *ret_ours && strcasecmp(rest, ":default") == 0;
    return tag > 0 && rest[1 + tag] == '\0';
}

enum template_result templates_find(const struct templates *t, const char *reference,
                                    struct template **ret)
{
    const char *name;
    size_t len;
    bool ours;

    *ret = NULL;
    if (!parse(reference, &name, &len, &ours))
        return TEMPLATE_MALFORMED;
    for (size_t i = 0; ours && i < t->n; i++) {
        if (is_called(&t->items[i], name, len)) {
            *ret = &t->items[i];
            return TEMPLATE_FOUND;
        }
    }
    return TEMPLATE_UNKNOWN;
}
