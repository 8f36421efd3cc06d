/* See logbook.h. A record and all of its text are one allocation. */
#include "runtime/local/daemon/logbook.h"

#include "common/base/mem.h"

#include <stdlib.h>
#include <string.h>

static const char *const names[] = {"debug", "info", "warn", "error"};

const char *note_level_name(enum note_level level)
{
    return names[level];
}

bool note_level_parse(const char *name, enum note_level *ret)
{
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcmp(name, names[i]) != 0)
            continue;
        *ret = (enum note_level)i;
        return true;
    }
    return false;
}

static void drop_oldest(struct logbook *b)
{
    struct note *r = container_of(list_pop(&b->notes), struct note, node);

    b->n--;
    b->bytes -= r->size;
    free(r);
}

void logbook_init(struct logbook *b)
{
    *b = (struct logbook){.n = 0};
    list_init(&b->notes);
}

void logbook_deinit(struct logbook *b)
{
    while (b->n > 0)
        drop_oldest(b);
}

/* Copies text to *at, and moves that behind it. */
static const char *put(char **to, const char *text)
{
    char *copy = *to;

    *to = stpcpy(copy, text) + 1;
    return copy;
}

/* In the order of time, whoever tells first: mostly at the end. */
static void insert(struct logbook *b, struct note *new)
{
    struct list *behind = b->notes.prev;

    while (behind != &b->notes && container_of(behind, struct note, node)->time_ns > new->time_ns)
        behind = behind->prev;
    list_append(behind->next, &new->node);
}

void logbook_add(struct logbook *b, int64_t time_ns, enum note_level level, const char *message,
                 const struct note_field *fields, size_t n_fields)
{
    size_t size = sizeof(struct note) + strlen(message) + 1;
    struct note *r;
    char *text;

    if (n_fields > NOTE_FIELDS_MAX)
        n_fields = NOTE_FIELDS_MAX;
    for (size_t i = 0; i < n_fields; i++)
        size += strlen(fields[i].name) + strlen(fields[i].value) + 2;
    r = xmalloc(size);
    text = (char *)(r + 1);
    *r = (struct note){.time_ns = time_ns, .level = level, .size = size, .n_fields = n_fields};
    r->message = put(&text, message);
    for (size_t i = 0; i < n_fields; i++) {
        r->fields[i].name = put(&text, fields[i].name);
        r->fields[i].value = put(&text, fields[i].value);
    }
    insert(b, r);
    b->n++;
    b->bytes += size;
    while (b->n > LOGBOOK_NOTES_MAX || (b->bytes > LOGBOOK_BYTES_MAX && b->n > 1))
        drop_oldest(b);
}

static bool matches(const struct note_query *q, const struct note *r)
{
    return r->time_ns >= q->from_ns && r->time_ns < q->to_ns && r->level >= q->level &&
           (q->search == NULL || strstr(r->message, q->search) != NULL);
}

void logbook_find(const struct logbook *b, const struct note_query *q,
                  void (*each)(void *ctx, const struct note *note), void *ctx)
{
    size_t found = 0;

    for (const struct list *node = q->backward ? b->notes.prev : b->notes.next;
         node != &b->notes && found < q->limit; node = q->backward ? node->prev : node->next) {
        const struct note *r = container_of(node, struct note, node);

        if (!matches(q, r))
            continue;
        each(ctx, r);
        found++;
    }
}
