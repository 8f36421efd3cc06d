/* See copy_journal.h. Used by the copier. The bytes come out of a sandbox: they are hostile. */
#include "service/archive/copy_journal.h"

#include "common/journal/parts.h"
#include "common/journal/pb.h"
#include "common/journal/verbs.h"

#include <string.h>

void copy_journal_init(struct copy_journal *j)
{
    *j = (struct copy_journal){
        .in = BUF_INIT(JOURNAL_FRAME_MAX + COPY_BLOCK_MAX),
        .piece = BUF_INIT(RECORD_PIECE_MAX),
        .piece_first = 1,
    };
}

void copy_journal_deinit(struct copy_journal *j)
{
    buf_deinit(&j->in);
    buf_deinit(&j->piece);
}

void copy_journal_next_piece(struct copy_journal *j)
{
    buf_clear(&j->piece);
    j->piece_first = j->check.last_seq + 1;
    j->piece_bytes_before = j->bytes;
}

/* How it ended is kept with what is known of the command. */
static bool note_exit(struct copy_journal *j, const struct journal_event *e)
{
    if (e->data_len > sizeof(j->exited))
        return false;
    j->exited_seq = e->seq;
    j->exited_ns = e->time_ns;
    j->exited_len = e->data_len;
    if (e->data_len > 0)
        memcpy(j->exited, e->data, e->data_len);
    return true;
}

static enum copy_journal_result take_frame(struct copy_journal *j, const struct journal_event *e,
                                           size_t len)
{
    if (len > buf_room(&j->piece))
        return COPY_PIECE;
    if (j->complete || !journal_check_next(&j->check, e) || e->seq == UINT64_MAX ||
        (e->kind == JOURNAL_EXITED && !note_exit(j, e)) ||
        __builtin_add_overflow(j->bytes, event_bytes(e), &j->bytes))
        return COPY_CORRUPT;
    buf_append(&j->piece, buf_data(&j->in), len);
    buf_consume(&j->in, len);
    return COPY_MORE;
}

/* Nothing is left out of what is copied, so the end is the only mark. */
static enum copy_journal_result take_mark(struct copy_journal *j)
{
    const uint8_t *at = buf_data(&j->in);

    if (j->complete || at[0] != FOLLOW_MARK_END || (buf_len(&j->in) > 1 && at[1] != 1))
        return COPY_CORRUPT;
    if (buf_len(&j->in) == 1)
        return COPY_MORE;
    j->complete = true;
    buf_consume(&j->in, 2);
    return COPY_MORE;
}

static enum copy_journal_result take_next(struct copy_journal *j)
{
    struct journal_event e;
    size_t len;

    switch (journal_parse(buf_data(&j->in), buf_len(&j->in), &e, &len)) {
    case JOURNAL_FRAME:
        return take_frame(j, &e, len);
    case JOURNAL_PARTIAL:
        return COPY_MORE;
    case JOURNAL_CORRUPT:
        break;
    }
    return take_mark(j);
}

enum copy_journal_result copy_journal_feed(struct copy_journal *j, const uint8_t *data, size_t len)
{
    enum copy_journal_result result = COPY_MORE;
    size_t left;

    if (!buf_append(&j->in, data, len))
        return COPY_CORRUPT;
    do {
        left = buf_len(&j->in);
        if (left > 0)
            result = take_next(j);
    } while (result == COPY_MORE && buf_len(&j->in) < left);
    return result;
}
