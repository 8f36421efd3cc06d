/* See address.h. A hash table with chains, and a list by last use for dropping the oldest. */
#include "service/e2b/address.h"

#include "common/base/list.h"
#include "common/base/mem.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct entry {
    struct entry *next; /* in its bucket */
    struct list used;   /* most recent last */
    int64_t until_ns;
    struct address address;
    const char *scope; /* in the same block, behind the id */
    char id[];
};

struct address_cache {
    pthread_mutex_t lock; /* guards everything below */
    struct list used;
    unsigned n, max;
    int64_t ttl_ns;
    size_t n_buckets;
    struct entry *buckets[];
};

void address_deinit(struct address *a)
{
    free(a->domain);
    free(a->token);
    *a = (struct address){0};
}

struct address_cache *address_cache_new(unsigned max, int64_t ttl_ns)
{
    size_t n_buckets = max;
    struct address_cache *c = xcalloc(1, sizeof *c + n_buckets * sizeof *c->buckets);

    pthread_mutex_init(&c->lock, NULL);
    list_init(&c->used);
    c->max = max;
    c->ttl_ns = ttl_ns;
    c->n_buckets = n_buckets;
    return c;
}

/* FNV-1a */
static uint64_t hash_more(uint64_t hash, const char *s)
{
    for (; *s != '\0'; s++)
        hash = (hash ^ (uint8_t)*s) * UINT64_C(0x100000001b3);
    return hash;
}

static bool is_of(const struct entry *e, const char *scope, const char *id)
{
    return strcmp(e->id, id) == 0 && strcmp(e->scope, scope) == 0;
}

static struct entry **find(struct address_cache *c, const char *scope, const char *id)
{
    uint64_t hash = hash_more(hash_more(UINT64_C(0xcbf29ce484222325), id), scope);
    struct entry **slot;

    slot = &c->buckets[hash % c->n_buckets];
    while (*slot != NULL && !is_of(*slot, scope, id))
        slot = &(*slot)->next;
    return slot;
}

static void drop(struct address_cache *c, struct entry **slot)
{
    struct entry *e = *slot;

    *slot = e->next;
    list_unlink(&e->used);
    c->n--;
    address_deinit(&e->address);
    free(e);
}

void address_cache_free(struct address_cache *c)
{
    if (c == NULL)
        return;
    for (size_t i = 0; i < c->n_buckets; i++) {
        while (c->buckets[i] != NULL)
            drop(c, &c->buckets[i]);
    }
    pthread_mutex_destroy(&c->lock);
    free(c);
}

static char *copy(const char *s)
{
    return s != NULL ? xstrdup(s) : NULL;
}

bool address_lookup(struct address_cache *c, const char *scope, const char *sandbox_id,
                    int64_t now_ns, struct address *ret)
{
    bool found = false;
    struct entry **slot;

    pthread_mutex_lock(&c->lock);
    slot = find(c, scope, sandbox_id);
    if (*slot != NULL && (*slot)->until_ns <= now_ns)
        drop(c, slot);
    if (*slot != NULL && is_of(*slot, scope, sandbox_id)) {
        struct entry *e = *slot;

        *ret = e->address;
        ret->domain = copy(e->address.domain);
        ret->token = copy(e->address.token);
        list_unlink(&e->used);
        list_append(&c->used, &e->used);
        found = true;
    }
    pthread_mutex_unlock(&c->lock);
    return found;
}

static struct entry *add(struct address_cache *c, const char *scope, const char *sandbox_id)
{
    size_t len = strlen(sandbox_id) + 1, scope_len = strlen(scope) + 1;
    struct entry *e = xcalloc(1, sizeof *e + len + scope_len);
    struct entry **slot;

    if (c->n == c->max) {
        struct entry *oldest = container_of(c->used.next, struct entry, used);

        drop(c, find(c, oldest->scope, oldest->id));
    }
    memcpy(e->id, sandbox_id, len);
    e->scope = memcpy(e->id + len, scope, scope_len);
    list_init(&e->used);
    slot = find(c, scope, sandbox_id); /* after the drop, which may change the chain */
    e->next = *slot;
    *slot = e;
    c->n++;
    return e;
}

void address_store(struct address_cache *c, const char *scope, const char *sandbox_id,
                   const char *domain, const char *token, int64_t now_ns)
{
    struct entry *e;

    pthread_mutex_lock(&c->lock);
    e = *find(c, scope, sandbox_id);
    if (e == NULL)
        e = add(c, scope, sandbox_id);
    free(e->address.domain);
    free(e->address.token);
    e->address.domain = copy(domain);
    e->address.token = copy(token);
    e->until_ns = now_ns + c->ttl_ns;
    list_unlink(&e->used);
    list_append(&c->used, &e->used);
    pthread_mutex_unlock(&c->lock);
}

void address_note_recorder(struct address_cache *c, const char *scope, const char *sandbox_id,
                           bool has_recorder, bool no_root)
{
    struct entry *e;

    pthread_mutex_lock(&c->lock);
    e = *find(c, scope, sandbox_id);
    if (e != NULL) {
        e->address.has_recorder = has_recorder;
        e->address.no_root = no_root;
    }
    pthread_mutex_unlock(&c->lock);
}

void address_note_life(struct address_cache *c, const char *scope, const char *sandbox_id,
                       const struct address_life *life)
{
    struct entry *e;

    pthread_mutex_lock(&c->lock);
    e = *find(c, scope, sandbox_id);
    if (e != NULL)
        e->address.life = *life;
    pthread_mutex_unlock(&c->lock);
}

bool address_use(struct address_cache *c, const char *scope, const char *sandbox_id, int64_t now_ns,
                 int64_t step_ns)
{
    struct entry *e;
    bool is_due;

    pthread_mutex_lock(&c->lock);
    e = *find(c, scope, sandbox_id);
    is_due = e != NULL && now_ns >= e->address.life.due_ns;
    if (is_due)
        e->address.life.due_ns = now_ns + step_ns;
    pthread_mutex_unlock(&c->lock);
    return is_due;
}

void address_forget(struct address_cache *c, const char *scope, const char *sandbox_id)
{
    struct entry **slot;

    pthread_mutex_lock(&c->lock);
    slot = find(c, scope, sandbox_id);
    if (*slot != NULL)
        drop(c, slot);
    pthread_mutex_unlock(&c->lock);
}
