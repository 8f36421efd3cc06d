/* See text.h. Used by the followers, and by readers of an archive. */
#include "common/journal/text.h"

#include "common/base/utf8.h"

#include <string.h>

static struct text_stream *stream_of(struct text *t, enum journal_kind kind)
{
    return &t->streams[kind - JOURNAL_STDOUT];
}

/* Bytes are missing before the event: what was cut there stays so. */
static void notice_gap(struct text_stream *s, const struct journal_event *e)
{
    if (e->offset != s->offset)
        s->tail.n = 0;
}

void text_skip(struct text *t, const struct journal_event *e, bool last)
{
    struct text_stream *s = stream_of(t, e->kind);

    notice_gap(s, e);
    utf8_tail_push(&s->tail, e->data, e->data_len);
    if (last)
        s->tail.n = 0; /* the stream's end */
    s->offset = e->offset + e->data_len;
}

/* last: nothing follows, so what is cut stays so. bad: what stands for what is no UTF-8. */
static size_t convert(const uint8_t *in, size_t len, bool last, const char *bad, uint8_t *out)
{
    size_t at = 0, n = 0;

    while (at < len) {
        int step = utf8_sequence(in + at, len - at);

        if (step == 0 && !last)
            break; /* cut: the next event has the rest */
        if (step == 0)
            step = -(int)(len - at);
        if (step > 0) {
            memcpy(out + n, in + at, (size_t)step);
            n += (size_t)step;
            at += (size_t)step;
        } else {
            for (const char *c = bad; *c != '\0'; c++)
                out[n++] = (uint8_t)*c;
            at += (size_t)-step;
        }
    }
    return n;
}

size_t text_encode(struct text *t, const struct journal_event *e, bool last, uint8_t *to)
{
    uint8_t in[TEXT_TAIL + TEXT_EVENT_MAX], out[3 * sizeof(in)];
    struct text_stream *s = stream_of(t, e->kind);
    size_t cut, len;

    if (e->data_len > TEXT_EVENT_MAX)
        return 0;
    notice_gap(s, e);
    cut = utf8_tail_cut(&s->tail);
    memcpy(in, s->tail.bytes + s->tail.n - cut, cut);
    if (e->data_len > 0)
        memcpy(in + cut, e->data, e->data_len);
    len = convert(in, cut + e->data_len, last, "\xef\xbf\xbd", out);
    if (len > TEXT_FITS)
        len = convert(in, cut + e->data_len, last, "?", out);
    text_skip(t, e, last);
    return journal_encode_text(to, e->seq, e->time_ns, e->offset,
                               (uint32_t)(e->kind - JOURNAL_STDOUT + 1), out, len);
}

/* --- looking back --- */

struct look_back {
    struct text_stream streams[TEXT_STREAMS]; /* found so far */
    uint64_t begin[TEXT_STREAMS];             /* offset of the earliest event seen */
    bool seen[TEXT_STREAMS];
    bool ended[TEXT_STREAMS]; /* an empty event or a gap is among them: what is before it does not
                                 matter */
};

/* Puts the tails of one part in front of what is known from the ones behind it. */
static void prepend(struct look_back *l, struct text *part, const struct look_back *own)
{
    for (int i = 0; i < TEXT_STREAMS; i++) {
        struct text_stream *later = &l->streams[i];

        if (!own->seen[i])
            continue;
        if (!l->seen[i]) {
            *later = part->streams[i];
        } else if (part->streams[i].offset != l->begin[i]) {
            l->ended[i] = true;
        } else if (!l->ended[i]) {
            struct text_stream whole = part->streams[i];

            utf8_tail_push(&whole.tail, later->tail.bytes, later->tail.n);
            later->tail = whole.tail;
        }
        l->seen[i] = true;
        l->begin[i] = own->begin[i];
        l->ended[i] |= own->ended[i];
    }
}

static void look_into(struct look_back *l, struct parts *p)
{
    struct look_back own = {.seen = {false}};
    struct text tails = {0};
    struct journal_event e;

    while (p->next(p, &e)) {
        int i = (int)e.kind - JOURNAL_STDOUT;

        if (!event_is_output(&e))
            continue;
        if (!own.seen[i])
            own.begin[i] = e.offset;
        own.ended[i] |= e.data_len == 0 || (own.seen[i] && e.offset != tails.streams[i].offset);
        own.seen[i] = true;
        text_skip(&tails, &e, e.data_len == 0);
    }
    prepend(l, &tails, &own);
}

/*
 * Whether nothing before the part matters: each stream has its tail, or nothing came before it.
 * A stream that was not seen has nothing before when the others account for all bytes.
 */
static bool is_enough(const struct look_back *l, const struct segment *s)
{
    uint64_t accounted = 0;
    bool enough = true;

    for (int i = 0; i < TEXT_STREAMS; i++)
        accounted += l->seen[i] ? l->begin[i] : 0;
    for (int i = 0; i < TEXT_STREAMS; i++) {
        if (l->seen[i])
            enough &= l->streams[i].tail.n == TEXT_TAIL || l->ended[i] || l->begin[i] == 0;
        else
            enough &= accounted == s->bytes_before;
    }
    return enough;
}

void text_look_back(struct text *t, struct parts *p, size_t i)
{
    struct look_back l = {.seen = {false}};

    while (i-- > 0) {
        if (!p->open(p, i))
            break;
        look_into(&l, p);
        p->close(p);
        if (is_enough(&l, &p->list[i]))
            break;
    }
    memcpy(t->streams, l.streams, sizeof(t->streams));
}
