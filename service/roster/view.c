/* See view.h. */
#include "service/roster/view.h"

#include "common/base/mem.h"

#include <stdlib.h>
#include <string.h>

static void free_known(struct roster_known *known, size_t n)
{
    for (size_t i = 0; i < n; i++)
        free(known[i].id);
    free(known);
}

void roster_view_deinit(struct roster_view *v)
{
    free_known(v->told, v->n_told);
    free_known(v->found, v->n_found);
    free(v->last);
}

static bool carries(const struct e2b_sandbox *s, const struct e2b_pair *label)
{
    for (size_t i = 0; i < s->n_metadata; i++) {
        if (strcmp(s->metadata[i].key, label->key) == 0)
            return strcmp(s->metadata[i].value, label->value) == 0;
    }
    return false;
}

static bool fits(const struct roster_filter *f, const struct e2b_sandbox *s)
{
    if (f->running != f->paused && (s->state == E2B_PAUSED) != f->paused)
        return false;
    for (size_t i = 0; i < f->n_metadata; i++) {
        if (!carries(s, &f->metadata[i]))
            return false;
    }
    return true;
}

static void begin(struct roster_view *v, const struct roster_list *l)
{
    v->last = xstrdup("");
    v->began_in = l->number;
}

static void end(struct roster_view *v)
{
    free_known(v->told, v->n_told);
    v->told = v->found;
    v->n_told = v->n_found;
    v->found = NULL;
    v->n_found = v->size_found = v->at = 0;
    free(v->last);
    v->last = NULL;
    v->done = v->began_in;
}

static void pass(struct roster_view *v, const char *id)
{
    free(v->last);
    v->last = xstrdup(id);
}

/* Takes id. */
static void keep(struct roster_view *v, char *id, uint64_t revision)
{
    if (v->n_found == v->size_found) {
        v->size_found = v->size_found > 0 ? 2 * v->size_found : 16;
        v->found = xrealloc(v->found, v->size_found * sizeof(v->found[0]));
    }
    v->found[v->n_found++] = (struct roster_known){.id = id, .revision = revision};
}

static char *take_told(struct roster_view *v)
{
    char *id = v->told[v->at].id;

    v->told[v->at++].id = NULL;
    return id;
}

/* One sandbox of the list. True: something is to be told of it. */
static bool meet(struct roster_view *v, const struct roster_entry *e, bool was_told,
                 struct roster_change *ret)
{
    bool is_new = !was_told || v->told[v->at].revision != e->revision;

    ret->entry = e;
    ret->id = NULL;
    if (!fits(&v->filter, &e->sandbox)) {
        ret->kind = ROSTER_REMOVED;
        if (was_told)
            free(take_told(v));
        return was_told;
    }
    ret->kind = was_told ? ROSTER_CHANGED : ROSTER_ADDED;
    keep(v, was_told ? take_told(v) : xstrdup(e->sandbox.id), e->revision);
    return is_new;
}

bool roster_view_is_due(const struct roster_view *v, const struct roster_list *l)
{
    return v->last != NULL || l->number != v->done;
}

bool roster_view_next(struct roster_view *v, const struct roster_list *l, struct roster_change *ret)
{
    if (v->last == NULL)
        begin(v, l);
    for (size_t i = roster_list_after(l, v->last);;) {
        const struct roster_entry *e = i < l->n ? &l->entries[i] : NULL;
        const char *told = v->at < v->n_told ? v->told[v->at].id : NULL;
        int order = e == NULL ? 1 : told == NULL ? -1 : strcmp(e->sandbox.id, told);

        if (e == NULL && told == NULL) {
            end(v);
            return false;
        }
        if (order > 0) {
            pass(v, told);
            *ret = (struct roster_change){.kind = ROSTER_REMOVED, .id = take_told(v)};
            return true;
        }
        if (meet(v, e, order == 0, ret)) {
            pass(v, e->sandbox.id);
            return true;
        }
        i++;
    }
}
