/*
 * See tail.h. Two passes: backwards over parts, counting, until there is more than is wanted;
 * then forwards over those, leaving out what is too much. A line ends at its newline; the last line
 * of a stream, if unfinished, ends with the stream's last event.
 */
#include "common/journal/tail.h"

#include <string.h>

/* One stream, on the way from the oldest counted part to the place. */
struct stream_place {
    uint64_t end;      /* offset behind what was seen */
    uint64_t line_seq; /* the event in which the present line began; 0: it did not yet */
    uint64_t line_begin;
    uint64_t unfinished_seq; /* the last event of the stream, when it does not end a line; else 0 */
    bool seen;
};

struct search {
    const struct tail_options *o;
    struct stream_place streams[TAIL_STREAMS];
    uint64_t units;    /* counted */
    uint64_t left;     /* to leave out */
    uint64_t last_seq; /* of the newest part */
};

static int stream_of(const struct journal_event *e)
{
    return (int)e->kind - JOURNAL_STDOUT;
}

static bool counts(const struct search *s, const struct journal_event *e)
{
    const struct tail_options *o = s->o;

    if (e->time_ns < o->since_ns || (o->before_ns != 0 && e->time_ns >= o->before_ns))
        return false;
    return event_is_output(e) ? (o->streams & 1u << stream_of(e)) != 0 : o->unit == TAIL_EVENTS;
}

/* --- counting --- */

static uint64_t count_newlines(const uint8_t *data, size_t len)
{
    const uint8_t *at = data, *end = data + len;
    uint64_t n = 0;

    while (at < end && (at = memchr(at, '\n', (size_t)(end - at))) != NULL) {
        at++;
        n++;
    }
    return n;
}

static uint64_t units_of(const struct search *s, const struct journal_event *e)
{
    if (s->o->unit == TAIL_BYTES)
        return e->data_len;
    return s->o->unit == TAIL_LINES ? count_newlines(e->data, e->data_len) : 1;
}

static void count_part(struct search *s, struct parts *p, bool newest)
{
    bool seen[TAIL_STREAMS] = {false};
    struct journal_event e;

    while (p->next(p, &e)) {
        if (newest)
            s->last_seq = e.seq;
        if (!counts(s, &e))
            continue;
        s->units += units_of(s, &e);
        if (!event_is_output(&e) || e.data_len == 0)
            continue;

        struct stream_place *place = &s->streams[stream_of(&e)];

        seen[stream_of(&e)] = true;
        if (!place->seen)
            place->unfinished_seq = e.data[e.data_len - 1] != '\n' ? e.seq : 0;
    }
    for (int i = 0; i < TAIL_STREAMS; i++) {
        struct stream_place *place = &s->streams[i];

        if (seen[i] && !place->seen && place->unfinished_seq != 0 && s->o->unit == TAIL_LINES)
            s->units++;
        place->seen |= seen[i];
    }
}

/* --- leaving out --- */

/* Leaves out one unit. True: it was the last one. */
static bool leave_out(struct search *s)
{
    return --s->left == 0;
}

static void set_place(const struct search *s, const struct journal_event *e, size_t at,
                      struct tail_place *ret)
{
    ret->whole_seq = at < e->data_len ? e->seq : e->seq + 1;
    ret->first_seq = ret->whole_seq;
    for (int i = 0; i < TAIL_STREAMS && s->o->unit == TAIL_LINES; i++) {
        const struct stream_place *p = &s->streams[i];

        ret->begin[i] = p->line_seq != 0 ? p->line_begin : p->end;
        if (p->line_seq != 0 && p->line_seq < ret->first_seq)
            ret->first_seq = p->line_seq;
    }
    if (event_is_output(e))
        ret->begin[stream_of(e)] = e->offset + at;
}

/* True: the last line to leave out ends in the event; *ret_at is where. */
static bool leave_out_lines(struct search *s, const struct journal_event *e, size_t *ret_at)
{
    struct stream_place *p = &s->streams[stream_of(e)];
    const uint8_t *at = e->data, *end = e->data + e->data_len, *newline;

    while (at < end && (newline = memchr(at, '\n', (size_t)(end - at))) != NULL) {
        at = newline + 1;
        p->line_seq = 0;
        *ret_at = (size_t)(at - e->data);
        if (leave_out(s))
            return true;
    }
    if (at < end && p->line_seq == 0) {
        p->line_seq = e->seq;
        p->line_begin = e->offset + (uint64_t)(at - e->data);
    }
    p->end = e->offset + e->data_len;
    *ret_at = e->data_len;
    if (p->unfinished_seq != e->seq)
        return false;
    p->line_seq = 0;
    return leave_out(s);
}

static bool leave_out_event(struct search *s, const struct journal_event *e, struct tail_place *ret)
{
    size_t at = e->data_len;
    bool found = false;

    switch (s->o->unit) {
    case TAIL_LINES:
        found = leave_out_lines(s, e, &at);
        break;
    case TAIL_BYTES:
        found = s->left <= e->data_len;
        at = found ? (size_t)s->left : at;
        s->left -= found ? s->left : e->data_len;
        break;
    case TAIL_EVENTS:
    case TAIL_NONE:
        found = leave_out(s);
        break;
    }
    if (found)
        set_place(s, e, at, ret);
    return found;
}

static bool leave_out_part(struct search *s, struct parts *p, size_t i, struct tail_place *ret)
{
    struct journal_event e;
    bool found = false;

    if (!p->open(p, i))
        return false;
    while (!found && p->next(p, &e))
        found = counts(s, &e) && leave_out_event(s, &e, ret);
    p->close(p);
    return found;
}

void tail_find(struct parts *p, const struct tail_options *o, struct tail_place *ret)
{
    struct search s = {.o = o};
    size_t first = p->n;

    if (p->n > 0)
        s.last_seq = p->list[p->n - 1].first_seq - 1;
    while (first > 0 && s.units <= o->amount) {
        if (!p->open(p, first - 1))
            break; /* dropped meanwhile, and so are those before it */
        count_part(&s, p, first == p->n);
        p->close(p);
        first--;
    }
    *ret = (struct tail_place){.first_seq = s.last_seq + 1, .whole_seq = s.last_seq + 1};
    if (o->amount == 0 || first == p->n)
        return;
    ret->first_seq = ret->whole_seq = p->list[first].first_seq;
    s.left = s.units > o->amount ? s.units - o->amount : 0;
    for (; first < p->n && s.left > 0; first++)
        if (leave_out_part(&s, p, first, ret))
            return;
}
