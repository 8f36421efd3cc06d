/*
 * See list.h. A sandbox keeps its revision from list to list while nothing about it changes, so
 * that a watcher need only keep ids and revisions to find out what it has not told yet.
 */
#include "service/roster/list.h"

#include "common/base/mem.h"

#include <stdlib.h>
#include <string.h>

enum { FIXED_BYTES = 64 }; /* states, times and sizes of a message */

size_t roster_weight(const struct e2b_sandbox *s)
{
    size_t bytes = FIXED_BYTES + strlen(s->id) + strlen(s->template_id);

    for (size_t i = 0; i < s->n_metadata; i++)
        bytes += 8 + strlen(s->metadata[i].key) + strlen(s->metadata[i].value);
    return bytes;
}

static int by_key(const void *a, const void *b)
{
    return strcmp(((const struct e2b_pair *)a)->key, ((const struct e2b_pair *)b)->key);
}

static int by_id(const void *a, const void *b)
{
    const struct roster_entry *x = a, *y = b;
    int order = strcmp(x->sandbox.id, y->sandbox.id);

    /* Still the place in the answers: the later one first. */
    return order != 0 ? order : (x->revision < y->revision) - (x->revision > y->revision);
}

static bool same_metadata(const struct e2b_sandbox *a, const struct e2b_sandbox *b)
{
    if (a->n_metadata != b->n_metadata)
        return false;
    for (size_t i = 0; i < a->n_metadata; i++) {
        if (strcmp(a->metadata[i].key, b->metadata[i].key) != 0 ||
            strcmp(a->metadata[i].value, b->metadata[i].value) != 0)
            return false;
    }
    return true;
}

/* Of all that a list tells. */
static bool same(const struct e2b_sandbox *a, const struct e2b_sandbox *b)
{
    return a->state == b->state && a->start_ns == b->start_ns && a->end_ns == b->end_ns &&
           a->cpu_count == b->cpu_count && a->memory_mib == b->memory_mib &&
           a->idle_s == b->idle_s && strcmp(a->template_id, b->template_id) == 0 &&
           same_metadata(a, b);
}

/* In order, each id once. */
static void arrange(struct roster_list *l, struct e2b_sandbox *sandboxes, size_t n)
{
    l->entries = xcalloc(n ? n : 1, sizeof(l->entries[0]));
    for (size_t i = 0; i < n; i++) {
        l->entries[i] = (struct roster_entry){
            .sandbox = sandboxes[i], .revision = i, .bytes = roster_weight(&sandboxes[i])};
        if (sandboxes[i].n_metadata > 1)
            qsort(sandboxes[i].metadata, sandboxes[i].n_metadata, sizeof(struct e2b_pair), by_key);
    }
    free(sandboxes);
    if (n > 1)
        qsort(l->entries, n, sizeof(l->entries[0]), by_id);
    for (size_t i = 0; i < n; i++) {
        struct roster_entry *e = &l->entries[i];

        if (l->n > 0 && strcmp(l->entries[l->n - 1].sandbox.id, e->sandbox.id) == 0)
            e2b_sandbox_deinit(&e->sandbox);
        else
            l->entries[l->n++] = *e;
    }
}

/* True: something is other than before. */
static bool set_revisions(struct roster_list *l, const struct roster_list *before)
{
    size_t at = 0, kept = 0;

    for (size_t i = 0; i < l->n; i++) {
        struct roster_entry *e = &l->entries[i];
        const struct roster_entry *old;

        while (at < before->n && strcmp(before->entries[at].sandbox.id, e->sandbox.id) < 0)
            at++;
        old = at < before->n ? &before->entries[at] : NULL;
        e->revision = l->number;
        if (old != NULL && strcmp(old->sandbox.id, e->sandbox.id) == 0 &&
            same(&old->sandbox, &e->sandbox)) {
            e->revision = old->revision;
            kept++;
        }
    }
    return kept < l->n || l->n != before->n;
}

struct roster_list *roster_list_new(struct e2b_sandbox *sandboxes, size_t n,
                                    const struct roster_list *before)
{
    static const struct roster_list nothing = {.number = 0};
    struct roster_list *l = xcalloc(1, sizeof(*l));

    atomic_init(&l->refs, 1);
    l->number = before != NULL ? before->number + 1 : 1;
    arrange(l, sandboxes, n);
    if (!set_revisions(l, before != NULL ? before : &nothing) && before != NULL) {
        roster_list_unref(l);
        return NULL;
    }
    return l;
}

struct roster_list *roster_list_ref(struct roster_list *l)
{
    atomic_fetch_add(&l->refs, 1);
    return l;
}

void roster_list_unref(struct roster_list *l)
{
    if (l == NULL || atomic_fetch_sub(&l->refs, 1) > 1)
        return;
    for (size_t i = 0; i < l->n; i++)
        e2b_sandbox_deinit(&l->entries[i].sandbox);
    free(l->entries);
    free(l);
}

size_t roster_list_after(const struct roster_list *l, const char *id)
{
    size_t low = 0, high = l->n;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (strcmp(l->entries[middle].sandbox.id, id) <= 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}
