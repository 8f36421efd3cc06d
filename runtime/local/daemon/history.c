/* See history.h. */
#include "runtime/local/daemon/history.h"

#include "common/base/mem.h"

#include <stdlib.h>
#include <string.h>

static struct history **find(const struct histories *h, const char *id)
{
    uint32_t hash = 2166136261u; /* FNV-1a */
    struct history *const *at;

    for (const char *c = id; *c != '\0'; c++)
        hash = (hash ^ (uint8_t)*c) * 16777619u;
    at = &h->buckets[hash % HISTORY_BUCKETS];
    while (*at != NULL && strcmp((*at)->id, id) != 0)
        at = &(*at)->next_in_bucket;
    return (struct history **)at;
}

static void forget(struct histories *h, struct history *history)
{
    *find(h, history->id) = history->next_in_bucket;
    list_unlink(&history->in_ended);
    logbook_deinit(&history->log);
    series_deinit(&history->series);
    free(history);
}

void histories_init(struct histories *h)
{
    *h = (struct histories){.n_ended = 0};
    list_init(&h->ended);
}

void histories_deinit(struct histories *h)
{
    for (size_t i = 0; i < HISTORY_BUCKETS; i++) {
        while (h->buckets[i] != NULL)
            forget(h, h->buckets[i]);
    }
    h->n_ended = 0;
}

struct history *history_open(struct histories *h, const char *id)
{
    struct history **at = find(h, id);

    if (*at == NULL) {
        *at = xcalloc(1, sizeof(**at));
        strncpy((*at)->id, id, SANDBOX_ID_LEN);
        list_init(&(*at)->in_ended);
        logbook_init(&(*at)->log);
    } else if (!list_is_empty(&(*at)->in_ended)) {
        list_unlink(&(*at)->in_ended);
        h->n_ended--;
    }
    return *at;
}

struct history *history_find(const struct histories *h, const char *id)
{
    return *find(h, id);
}

void history_close(struct histories *h, struct history *history)
{
    if (!list_is_empty(&history->in_ended))
        return;
    list_append(&h->ended, &history->in_ended);
    if (++h->n_ended <= HISTORY_ENDED_MAX)
        return;
    forget(h, container_of(h->ended.next, struct history, in_ended));
    h->n_ended--;
}
