/* See many.h. Used by follow.c. */
#include "client/many.h"

#include "common/base/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void many_init(struct many *m, bool sparse, const uint8_t *cursor, size_t len)
{
    *m = (struct many){.sparse = sparse};
    many_set_cursor(m, cursor, len);
}

void many_deinit(struct many *m)
{
    free(m->commands);
    free(m->cursor);
    *m = (struct many){0};
}

void many_set_cursor(struct many *m, const uint8_t *cursor, size_t len)
{
    free(m->cursor);
    m->cursor = len > 0 ? xmemdup(cursor, len) : NULL;
    m->cursor_len = len;
}

static struct many_command *find(struct many *m, const char *id)
{
    struct many_command *c;

    /* The one before, most of the time. */
    for (size_t i = m->n; i > 0; i--)
        if (strcmp(m->commands[i - 1].id, id) == 0)
            return &m->commands[i - 1];
    if ((m->n & (m->n + 1)) == 0)
        m->commands = xrealloc(m->commands, 2 * (m->n + 1) * sizeof(*m->commands));
    c = &m->commands[m->n++];
    snprintf(c->id, sizeof(c->id), "%s", id);
    sequence_init(&c->sequence, 1);
    c->sequence.sparse = true; /* where it starts is the cursor's business */
    return c;
}

enum sequence_verdict many_event(struct many *m, const char *id,
                                 const Sandbox__V1__CommandEvent *event)
{
    struct many_command *c;
    enum sequence_verdict verdict;

    if (id[0] == '\0')
        return SEQUENCE_NEW;
    c = find(m, id);
    verdict = sequence_event(&c->sequence, event);
    c->sequence.sparse = m->sparse || !c->sequence.any;
    return verdict;
}
