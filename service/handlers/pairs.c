/* See pairs.h. */
#include "service/handlers/pairs.h"

#include "common/base/mem.h"
#include "sandbox/v1/errors.pb-c.h"
#include "service/handlers/validate.h"

#include <stdlib.h>
#include <string.h>

enum {
    INVALID_FIELD = SANDBOX__V1__ERROR_REASON__ERROR_REASON_INVALID_FIELD,
    METADATA_MAX = 64,
    KEY_MAX = 128,
    VALUE_MAX = 1024,
};

static const char own_prefix[] = "sandboxd.";

void pairs_deinit(struct pairs *p)
{
    for (size_t i = 0; i < p->n; i++) {
        free(p->items[i].key);
        free(p->items[i].value);
    }
    free(p->items);
    *p = (struct pairs){0};
}

static void add(struct pairs *p, const char *key, const char *value)
{
    p->items[p->n++] = (struct e2b_pair){.key = xstrdup(key), .value = xstrdup(value)};
}

static bool check_label(const char *key, const char *value, struct status *st)
{
    size_t len = strlen(key);

    if (len == 0 || len > KEY_MAX)
        return status_bad_field(st, INVALID_FIELD, "metadata",
                                "metadata: a key must have from 1 to %d bytes", KEY_MAX);
    if (strncmp(key, own_prefix, sizeof(own_prefix) - 1) == 0)
        return status_bad_field(st, INVALID_FIELD, "metadata",
                                "metadata: %s: keys that start with %s are the server's own", key,
                                own_prefix);
    if (strlen(value) > VALUE_MAX)
        return status_bad_field(st, INVALID_FIELD, "metadata",
                                "metadata: the value of %s is longer than %d bytes", key,
                                VALUE_MAX);
    return true;
}

bool pairs_metadata(struct pairs *p, pairs_metadata_entry *const *entries, size_t n,
                    struct status *st)
{
    if (n > METADATA_MAX)
        return status_bad_field(st, INVALID_FIELD, "metadata",
                                "metadata has %zu entries; at most %d", n, METADATA_MAX);
    p->items = xcalloc(n, sizeof(p->items[0]));
    for (size_t i = 0; i < n; i++) {
        if (!check_label(entries[i]->key, entries[i]->value, st))
            return false;
        add(p, entries[i]->key, entries[i]->value);
    }
    return true;
}

void pairs_copy_own(struct pairs *p, const struct e2b_pair *from, size_t n)
{
    pairs_deinit(p);
    p->items = xcalloc(n, sizeof(p->items[0]));
    for (size_t i = 0; i < n; i++) {
        if (strncmp(from[i].key, own_prefix, sizeof(own_prefix) - 1) != 0)
            add(p, from[i].key, from[i].value);
    }
}

bool pairs_envs(struct pairs *p, pairs_envs_entry *const *entries, size_t n, struct status *st)
{
    if (n > VALIDATE_ENVS_MAX)
        return status_bad_field(st, INVALID_FIELD, "envs", "envs has %zu entries; at most %d", n,
                                VALIDATE_ENVS_MAX);
    p->items = xcalloc(n, sizeof(p->items[0]));
    for (size_t i = 0; i < n; i++) {
        if (!validate_env("envs", entries[i]->key, entries[i]->value, st))
            return false;
        add(p, entries[i]->key, entries[i]->value);
    }
    return true;
}
