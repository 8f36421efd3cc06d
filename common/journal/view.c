/*
 * See view.h. Used by the followers of one command and of all, and by readers of an archive; pure
 * but for looking back.
 */
#include "common/journal/view.h"

#include "common/base/mem.h"
#include "common/journal/pb.h"
#include "common/journal/verbs.h"

#include <stdlib.h>
#include <string.h>

enum { FORMAT_WITH_LINES = 2 };

void view_init(struct view *v, const struct view_options *o, uint64_t from, uint32_t format)
{
    *v = (struct view){.o = o, .from = from, .seen = from - 1, .told = from - 1};
    /* An older record does not say where its last lines end: it is shown as it is. */
    if (o->lines && format >= FORMAT_WITH_LINES)
        v->lines = xcalloc(1, sizeof(*v->lines));
}

void view_deinit(struct view *v)
{
    free(v->lines);
    v->lines = NULL;
}

/* Held bytes stand behind a newline, so no character is cut there; nor is one where such bytes were
 * given up. */
static void align_text(struct view *v)
{
    for (int i = 0; i < TEXT_STREAMS; i++) {
        const struct line_stream *s = &v->lines->streams[i];

        if (s->n_held == 0 && !s->gave_up)
            continue;
        v->text.streams[i].tail.n = 0;
        v->text.streams[i].offset -= s->n_held;
    }
}

void view_look_back(struct view *v, struct parts *p, size_t i)
{
    if (v->o->text)
        text_look_back(&v->text, p, i);
    if (v->lines != NULL)
        lines_look_back(v->lines, p, i);
    if (v->o->text && v->lines != NULL)
        align_text(v);
}

bool view_is_plain(const struct view *v)
{
    const struct view_options *o = v->o;

    return !o->text && v->lines == NULL && o->streams == TAIL_ALL_STREAMS && o->since_ns == 0 &&
           o->before_ns == 0 && o->limit_bytes == 0 && v->seen >= v->tail.whole_seq;
}

static void note(struct view *v, const struct journal_event *e)
{
    v->seen = e->seq;
    v->exited |= e->kind == JOURNAL_EXITED;
    v->closed |= e->kind == JOURNAL_CLOSED;
}

void view_pass(struct view *v, const struct journal_event *e)
{
    note(v, e);
    v->told = e->seq;
}

/* --- what is left out --- */

/* Cuts off what stands before the tail. False: that is all of it. */
static bool cut_front(const struct view *v, struct journal_event *e)
{
    uint64_t begin = v->tail.begin[e->kind - JOURNAL_STDOUT], cut;

    if (e->offset >= begin)
        return true;
    cut = begin - e->offset;
    if (cut >= e->data_len)
        return e->data_len == 0;
    /* Text starts with a whole character. */
    for (int i = 0; v->o->text && i < 3 && cut < e->data_len && (e->data[cut] & 0xc0) == 0x80; i++)
        cut++;
    e->data += cut;
    e->data_len -= cut;
    e->offset += cut;
    return true;
}

/* Between the first and the whole events of a tail there are lines that had begun, and no more. */
static bool is_wanted(const struct view *v, struct journal_event *e)
{
    if (e->seq < v->from || e->time_ns < v->o->since_ns)
        return false;
    if (!event_is_output(e))
        return e->seq >= v->tail.whole_seq;
    return (v->o->streams & 1u << (e->kind - JOURNAL_STDOUT)) != 0 && cut_front(v, e);
}

/* What comes later may need what is left out. */
static void leave_out(struct view *v, const struct journal_event *e)
{
    struct journal_event copy = *e;

    if (!event_is_output(e))
        return;
    if (v->lines != NULL && lines_take(v->lines, &copy) && v->o->text)
        text_skip(&v->text, &copy, e->data_len == 0);
    else if (v->lines == NULL && v->o->text)
        text_skip(&v->text, e, e->data_len == 0);
}

/* --- what goes out --- */

static size_t encode(struct view *v, const struct journal_event *e, bool last, uint8_t *to)
{
    size_t len;

    if (v->o->text)
        return text_encode(&v->text, e, last, to);
    len = journal_encode_output_header(to, e->seq, e->time_ns, e->offset, e->kind, e->data_len);
    if (e->data_len > 0)
        memcpy(to + len, e->data, e->data_len);
    return len + e->data_len;
}

static bool put_output(struct view *v, const struct journal_event *e, bool last, struct buf *to)
{
    size_t len = encode(v, e, last, buf_reserve(to, JOURNAL_FRAME_MAX));

    buf_commit(to, len);
    v->output += e->data_len;
    return len > 0;
}

/* What is held cannot be completed any more: it is as gone as what was dropped. */
static void put_dropped(struct view *v, const struct journal_event *e, struct buf *to)
{
    uint64_t held = v->lines != NULL ? lines_give_up(v->lines) : 0;
    uint64_t first = e->dropped_first > v->from ? e->dropped_first : v->from;
    uint8_t *at = buf_reserve(to, JOURNAL_FRAME_MAX);

    buf_commit(to, journal_encode_dropped(at, e->time_ns, first, e->dropped_last,
                                          e->dropped_bytes + held));
}

bool view_take(struct view *v, const struct journal_event *e, const uint8_t *frame, size_t len,
               struct buf *to)
{
    struct journal_event copy = *e;
    bool ok = true;

    if (v->o->before_ns != 0 && e->time_ns >= v->o->before_ns) {
        v->over = true;
        return true;
    }
    note(v, e);
    if (!is_wanted(v, &copy)) {
        if (e->kind == JOURNAL_DROPPED && v->lines != NULL)
            lines_give_up(v->lines);
        leave_out(v, e);
        return true;
    }
    if (event_is_output(e)) {
        if (v->lines != NULL)
            ok = lines_take(v->lines, &copy);
        ok = ok && put_output(v, &copy, e->data_len == 0, to);
    } else if (e->kind == JOURNAL_DROPPED) {
        put_dropped(v, e, to);
    } else {
        ok = buf_append(to, frame, len);
    }
    v->told = e->seq;
    v->over |= v->o->limit_bytes != 0 && v->output >= v->o->limit_bytes;
    return ok;
}

void view_mark(struct view *v, struct buf *to)
{
    uint8_t bytes[1 + PB_VARINT_MAX] = {FOLLOW_MARK_SEEN};

    if (v->seen <= v->told || v->seen == 0)
        return;
    buf_append(to, bytes, (size_t)(pb_put_varint(bytes + 1, v->seen) - bytes));
    v->told = v->seen;
}
