/* See registry.h. A hash table by id over a list in start order. */
#include "runtime/local/daemon/registry.h"

#include "common/base/mem.h"

#include <stdlib.h>
#include <string.h>

enum { BUCKETS = 1024 };

bool sandbox_id_is_valid(const char *id, size_t len)
{
    if (len == 0 || len > 64)
        return false;
    for (size_t i = 0; i < len; i++) {
        if (!((id[i] >= 'a' && id[i] <= 'z') || (id[i] >= '0' && id[i] <= '9')))
            return false;
    }
    return true;
}

void sandbox_id_make(const uint8_t random[static 20], char id[static SANDBOX_ID_LEN + 1])
{
    static const char alphabet[] = "abcdefghijklmnopqrstuvwxyz0123456789";

    id[0] = 'i';
    for (int i = 0; i < SANDBOX_ID_LEN - 1; i++)
        id[i + 1] = alphabet[random[i] % (sizeof(alphabet) - 1)];
    id[SANDBOX_ID_LEN] = '\0';
}

void registry_init(struct registry *r)
{
    *r = (struct registry){.buckets = xcalloc(BUCKETS, sizeof(struct sandbox *))};
    list_init(&r->by_start);
}

void registry_deinit(struct registry *r)
{
    if (r->buckets == NULL)
        return;
    LIST_FOR_EACH_SAFE (node, &r->by_start)
        registry_remove(r, container_of(node, struct sandbox, by_start));
    free(r->buckets);
    r->buckets = NULL;
}

static struct sandbox **bucket(const struct registry *r, const char *id)
{
    uint32_t hash = 2166136261u; /* FNV-1a */

    for (; *id != '\0'; id++)
        hash = (hash ^ (uint8_t)*id) * 16777619u;
    return &r->buckets[hash % BUCKETS];
}

struct sandbox *registry_make(const char *id)
{
    struct sandbox *s = xcalloc(1, sizeof(*s));

    strncpy(s->id, id, SANDBOX_ID_LEN);
    list_init(&s->by_start);
    list_init(&s->waiting);
    list_init(&s->streams);
    list_init(&s->idle);
    return s;
}

void registry_unmake(struct sandbox *s)
{
    if (s == NULL)
        return;
    free(s->template_id);
    blueprint_deinit(&s->blueprint);
    free(s->network);
    free(s->mask_host);
    pairs_deinit(&s->metadata);
    pairs_deinit(&s->envs);
    creation_key_deinit(&s->creation);
    free(s);
}

/* Behind the last one that is not younger; mostly that is the last. */
static void insert(struct registry *r, struct sandbox *s)
{
    struct sandbox **to = bucket(r, s->id);
    struct list *at = r->by_start.prev;

    while (at != &r->by_start && container_of(at, struct sandbox, by_start)->start_ns > s->start_ns)
        at = at->prev;
    list_append(at->next, &s->by_start);
    s->next_in_bucket = *to;
    *to = s;
    r->n_sandboxes++;
}

static void set_start(struct registry *r, struct sandbox *s, int64_t wall_ns, int64_t boottime_ns,
                      int64_t lifetime_ns)
{
    int64_t start_ns = wall_ns - wall_ns % 1000;

    /* A page of a list continues behind a start time: it must name one sandbox, also when the
       clock was set back. */
    if (start_ns <= r->last_start_ns)
        start_ns = r->last_start_ns + 1000;
    r->last_start_ns = start_ns;
    s->start_ns = start_ns;
    s->start_at_ns = boottime_ns;
    sandbox_set_end(s, wall_ns, boottime_ns, lifetime_ns);
}

void registry_add(struct registry *r, struct sandbox *take, int64_t wall_ns, int64_t boottime_ns,
                  int64_t lifetime_ns)
{
    set_start(r, take, wall_ns, boottime_ns, lifetime_ns);
    insert(r, take);
}

void registry_restart(struct registry *r, struct sandbox *s, int64_t wall_ns, int64_t boottime_ns,
                      int64_t lifetime_ns)
{
    set_start(r, s, wall_ns, boottime_ns, lifetime_ns);
    list_unlink(&s->by_start);
    list_append(&r->by_start, &s->by_start);
}

void registry_restore(struct registry *r, struct sandbox *take)
{
    if (take->start_ns > r->last_start_ns)
        r->last_start_ns = take->start_ns;
    insert(r, take);
}

struct sandbox *registry_find(const struct registry *r, const char *id)
{
    struct sandbox *s = *bucket(r, id);

    while (s != NULL && strcmp(s->id, id) != 0)
        s = s->next_in_bucket;
    return s;
}

void registry_remove(struct registry *r, struct sandbox *s)
{
    struct sandbox **at = bucket(r, s->id);

    while (*at != s)
        at = &(*at)->next_in_bucket;
    *at = s->next_in_bucket;
    list_unlink(&s->by_start);
    r->n_sandboxes--;
    registry_unmake(s);
}

void sandbox_set_end(struct sandbox *s, int64_t wall_ns, int64_t boottime_ns, int64_t left_ns)
{
    s->end_ns = wall_ns + left_ns;
    s->end_at_ns = boottime_ns + left_ns;
}
