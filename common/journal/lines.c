/* See lines.h. Used by the followers, and by readers of an archive. */
#include "common/journal/lines.h"

#include <string.h>

static struct line_stream *stream_of(struct lines *l, const struct journal_event *e)
{
    return &l->streams[e->kind - JOURNAL_STDOUT];
}

static void forget(struct line_stream *s)
{
    s->n_held = 0;
    s->since_newline = 0;
}

/* Bytes are missing before the event: its line starts here. */
static void notice_gap(struct line_stream *s, const struct journal_event *e)
{
    if (e->offset != s->offset)
        forget(s);
    s->offset = e->offset + e->data_len;
}

/* How much of data goes out now, with what is held before it. */
static size_t complete(struct line_stream *s, const uint8_t *data, size_t len)
{
    const uint8_t *newline = len > 0 ? memrchr(data, '\n', len) : NULL;

    if (len == 0)
        s->since_newline = 0; /* nothing more of this line */
    else if (newline != NULL)
        s->since_newline = (uint64_t)(data + len - newline - 1);
    else
        s->since_newline += len;
    if (s->since_newline > LINE_MAX_BYTES)
        return len;
    return newline != NULL ? (size_t)(newline + 1 - data) : 0;
}

bool lines_take(struct lines *l, struct journal_event *e)
{
    struct line_stream *s = stream_of(l, e);
    size_t now, before;
    bool lets_go;

    if (e->data_len > JOURNAL_PAYLOAD_MAX)
        return false;
    notice_gap(s, e);
    s->gave_up = false;
    before = s->n_held;
    now = complete(s, e->data, e->data_len);
    lets_go = now > 0 || e->data_len == 0;
    e->offset -= before;
    if (lets_go) {
        memcpy(l->whole, s->held, before);
        if (now > 0)
            memcpy(l->whole + before, e->data, now);
        s->n_held = 0;
    }
    if (e->data_len > now) {
        memcpy(s->held + s->n_held, e->data + now, e->data_len - now);
        s->n_held += e->data_len - now;
    }
    e->data = l->whole;
    e->data_len = lets_go ? before + now : 0;
    return true;
}

void lines_skip(struct lines *l, const struct journal_event *e)
{
    struct journal_event ignored = *e;

    lines_take(l, &ignored);
}

uint64_t lines_give_up(struct lines *l)
{
    uint64_t n = 0;

    for (int i = 0; i < LINE_STREAMS; i++) {
        n += l->streams[i].n_held;
        l->streams[i].gave_up |= l->streams[i].n_held > 0;
        forget(&l->streams[i]);
    }
    return n;
}

/* --- looking back --- */

struct look_back {
    bool anchored[LINE_STREAMS]; /* what is held at the end starts behind a point that was seen */
    uint64_t bytes[LINE_STREAMS], begin[LINE_STREAMS];
    bool seen[LINE_STREAMS];
};

/* Looks for where the last lines of the streams start, in one part, which is open. */
static void look_into(struct look_back *b, struct parts *p)
{
    struct look_back own = {.seen = {false}};
    struct journal_event e;

    while (p->next(p, &e)) {
        int i = (int)e.kind - JOURNAL_STDOUT;

        if (e.kind == JOURNAL_DROPPED)
            own.anchored[0] = own.anchored[1] = own.anchored[2] = true;
        if (!event_is_output(&e))
            continue;
        if (!own.seen[i])
            own.begin[i] = e.offset;
        own.seen[i] = true;
        own.bytes[i] += e.data_len;
        own.anchored[i] |= e.data_len == 0 || memrchr(e.data, '\n', e.data_len) != NULL;
    }
    for (int i = 0; i < LINE_STREAMS; i++) {
        b->anchored[i] |= own.anchored[i];
        b->bytes[i] += own.bytes[i];
        if (own.seen[i])
            b->begin[i] = own.begin[i];
        b->seen[i] |= own.seen[i];
    }
}

/* As is_enough() of text.c: a stream that was not seen had nothing when the others had it all. */
static bool is_enough(const struct look_back *b, const struct segment *s)
{
    uint64_t accounted = 0;
    bool enough = true;

    for (int i = 0; i < LINE_STREAMS; i++)
        accounted += b->seen[i] ? b->begin[i] : 0;
    for (int i = 0; i < LINE_STREAMS; i++)
        enough &= b->anchored[i] || b->bytes[i] > LINE_MAX_BYTES ||
                  (b->seen[i] ? b->begin[i] == 0 : accounted == s->bytes_before);
    return enough;
}

static void skip_part(struct lines *l, struct parts *p, size_t i)
{
    struct journal_event e;

    if (!p->open(p, i))
        return;
    while (p->next(p, &e)) {
        if (e.kind == JOURNAL_DROPPED)
            lines_give_up(l);
        if (event_is_output(&e))
            lines_skip(l, &e);
    }
    p->close(p);
}

void lines_look_back(struct lines *l, struct parts *p, size_t i)
{
    struct look_back b = {.seen = {false}};
    size_t first = i;

    while (first > 0) {
        if (!p->open(p, first - 1))
            break;
        first--;
        look_into(&b, p);
        p->close(p);
        if (is_enough(&b, &p->list[first]))
            break;
    }
    for (; first < i; first++)
        skip_part(l, p, first);
}
