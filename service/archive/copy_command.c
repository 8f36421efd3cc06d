/*
 * One command on its way into the archive: its journal, read as a follower writes it and put in
 * pieces, then the record that names them. On a lane's thread.
 */
#include "service/archive/copy_impl.h"

#include "common/base/cleanup.h"
#include "common/base/clock.h"
#include "common/base/list.h"
#include "common/base/mem.h"
#include "common/journal/verbs.h"
#include "service/handlers/command_frames.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    TRIES = 3,      /* when the way to the sandbox breaks */
    LIST_SLACK = 4, /* the recorder's list cuts no character: it may end so much before its room */
};

/* Nothing is new. Of output that was removed meanwhile the archive keeps what it has. */
static bool is_archived(const struct copier *c, const Sandbox__V1__Command *command)
{
    const struct record_name *have = copier_find(c, command->command_id);

    return have != NULL && have->start_ns == record_start_ns(command) &&
           (have->last_seq == command->last_seq || command->expired);
}

void lane_drop_pieces(struct lane *l)
{
    Archive__V1__Record *r = &l->record;

    for (size_t i = 0; i < r->n_pieces; i++)
        archive__v1__piece__free_unpacked(r->pieces[i], NULL);
    free(r->pieces);
    r->pieces = NULL;
    r->n_pieces = 0;
}

static Archive__V1__Piece *add_piece(Archive__V1__Record *r)
{
    Archive__V1__Piece *p = xmalloc(sizeof(*p));

    archive__v1__piece__init(p);
    p->sha256.len = RECORD_SHA_LEN;
    p->sha256.data = xmalloc(RECORD_SHA_LEN);
    r->pieces = xrealloc(r->pieces, (r->n_pieces + 1) * sizeof(r->pieces[0]));
    r->pieces[r->n_pieces++] = p;
    return p;
}

static bool put_piece(struct lane *l, struct status *st)
{
    const struct copy_args *a = l->c->a;
    struct copy_journal *j = &l->journal;
    Archive__V1__Piece *p = add_piece(&l->record);
    AUTO_FREE char *key = NULL;

    p->first_seq = j->piece_first;
    p->last_seq = j->check.last_seq;
    p->bytes_before = j->piece_bytes_before;
    p->size = buf_len(&j->piece);
    record_sha(buf_data(&j->piece), buf_len(&j->piece), p->sha256.data);
    key = record_piece_key(a->owner, a->sandbox_id, l->record.command->command_id, p->first_seq,
                           p->sha256.data);
    if (!a->store->put(a->store, key, buf_data(&j->piece), buf_len(&j->piece), a->until_ns, st))
        return false;
    copy_journal_next_piece(j);
    return true;
}

/* What came of the journal. False: the archive failed. */
static bool take_block(struct lane *l, const uint8_t *data, size_t len, struct status *st)
{
    enum copy_journal_result result = copy_journal_feed(&l->journal, data, len);

    while (result == COPY_PIECE && l->record.n_pieces + 1 < RECORD_PIECES_MAX) {
        if (!put_piece(l, st))
            return false;
        result = copy_journal_feed(&l->journal, NULL, 0);
    }
    l->record.cut_short |= result != COPY_MORE;
    return true;
}

static void on_readable(struct e2b_op *op)
{
    container_of(op, struct lane, op)->woken = true;
}

/* All that a follower writes. False: the archive, or the way to the sandbox, failed. */
static bool read_journal(struct lane *l, struct status *st)
{
    char who[RECORD_ID_MAX + 8];
    const char *args[] = {"follow", who, "--until=now", "--no-progress-reader", NULL};
    struct e2b_stream *stream;
    bool ok = true;

    snprintf(who, sizeof(who), "--id=%s", l->record.command->command_id);
    lane_prepare(l);
    stream = e2b_stream_start(l->c->a->e2b, &l->op, l->c->a->sandbox_id, args, NULL, 0, on_readable,
                              &l->output);
    for (bool last = false; !last; l->woken = false) {
        uint8_t *block;
        size_t len;

        lane_wait(l, &l->woken);
        last = l->ended;
        while (e2b_stream_take(stream, 0, &block, &len)) {
            if (ok && !l->record.cut_short)
                ok = take_block(l, block, len, st);
            free(block);
        }
        if (!last && (!ok || l->record.cut_short || copier_is_over(l->c)))
            e2b_cancel(&l->op);
    }
    e2b_stream_free(stream);
    if (!ok || l->record.cut_short)
        return ok;
    *st = l->op.st;
    return st->code == CODE_OK;
}

/* Why a follower that ran to its end gave no whole journal. False: that is a failure of the copy.
 */
static bool judge_end(struct lane *l, bool *ret_gone, struct status *st)
{
    switch (l->output.exit_code) {
    case RECORDER_OK:
        if (l->journal.complete)
            return true;
        break;
    case RECORDER_DATA_LOSS:
        l->record.cut_short = true;
        return true;
    case RECORDER_EXPIRED: /* removed since it was listed */
        l->record.command->expired = true;
        return true;
    case RECORDER_NOT_FOUND:
        *ret_gone = true;
        return true;
    default:
        break;
    }
    return lane_recorder_failed(l, st);
}

static bool may_heal(const struct status *st)
{
    return st->code == CODE_UNAVAILABLE && st->reason != REASON(ARCHIVE_UNAVAILABLE);
}

static bool copy_journal(struct lane *l, bool *ret_gone, struct status *st)
{
    for (int i = 1;; i++) {
        lane_drop_pieces(l);
        l->record.cut_short = false;
        copy_journal_deinit(&l->journal);
        copy_journal_init(&l->journal);
        if (read_journal(l, st) && (l->record.cut_short || judge_end(l, ret_gone, st)))
            return buf_len(&l->journal.piece) == 0 || put_piece(l, st);
        if (!may_heal(st) || i == TRIES || copier_is_over(l->c) ||
            clock_monotonic_ns() >= l->c->a->until_ns)
            return false;
    }
}

/* What is known of the command is made to agree with what was copied of its journal. */
static void settle_command(Sandbox__V1__Command *c, const struct copy_journal *j, bool cut_short)
{
    c->last_seq = j->check.last_seq;
    c->blocked = false;
    if (cut_short)
        return;
    if (c->exited != NULL)
        sandbox__v1__exited__free_unpacked(TAKE(c->exited), NULL);
    if (c->end_time != NULL)
        google__protobuf__timestamp__free_unpacked(TAKE(c->end_time), NULL);
    c->state = j->check.closed   ? SANDBOX__V1__COMMAND__STATE__STATE_CLOSED
               : j->check.exited ? SANDBOX__V1__COMMAND__STATE__STATE_EXITED
               : c->last_seq > 0 ? SANDBOX__V1__COMMAND__STATE__STATE_RUNNING
                                 : SANDBOX__V1__COMMAND__STATE__STATE_STARTING;
    if (!j->check.exited)
        return;
    c->exited = sandbox__v1__exited__unpack(NULL, j->exited_len, j->exited);
    c->end_time = xmalloc(sizeof(*c->end_time));
    google__protobuf__timestamp__init(c->end_time);
    c->end_time->seconds = j->exited_ns / NS_PER_S;
    c->end_time->nanos = (int32_t)(j->exited_ns % NS_PER_S);
}

static bool put_record(struct lane *l, struct status *st)
{
    const struct copy_args *a = l->c->a;
    Archive__V1__Record *r = &l->record;
    struct record_name name = {.start_ns = record_start_ns(r->command),
                               .last_seq = r->command->last_seq};
    size_t len = archive__v1__record__get_packed_size(r);
    AUTO_FREE uint8_t *packed = xmalloc(len + 1);
    AUTO_FREE char *key = NULL;

    snprintf(name.command_id, sizeof(name.command_id), "%s", r->command->command_id);
    archive__v1__record__pack(r, packed);
    record_sha(packed, len, name.sha);
    key = record_key(a->owner, a->sandbox_id, &name);
    return a->store->put(a->store, key, packed, len, a->until_ns, st);
}

static size_t length_of(char *const *list, size_t n)
{
    size_t len = 0;

    for (size_t i = 0; i < n; i++)
        len += strlen(list[i]);
    return len;
}

/* In a list long ones are cut: they are asked for one by one. */
static bool complete_command(struct lane *l, Sandbox__V1__Command **command, struct status *st)
{
    AUTO(command_frames_deinit) struct command_frames frames = {0};
    const Sandbox__V1__Command *c = *command;
    char who[RECORD_ID_MAX + 8];

    if (length_of(c->args, c->n_args) < RECORDER_LIST_ROOM - LIST_SLACK &&
        length_of(c->env_names, c->n_env_names) < RECORDER_LIST_ROOM - LIST_SLACK)
        return true;
    snprintf(who, sizeof(who), "--id=%s", c->command_id);
    if (!lane_look(l, (const char *[]){"show", who, NULL}, st))
        return false;
    if (l->output.exit_code != RECORDER_OK ||
        !command_frames_read(&frames, l->output.out, l->output.out_len) || frames.n_items != 1 ||
        strcmp(frames.items[0]->command_id, c->command_id) != 0)
        return true; /* then the shorter one will do */
    sandbox__v1__command__free_unpacked(*command, NULL);
    *command = TAKE(frames.items[0]);
    frames.n_items = 0;
    return true;
}

static void count(struct lane *l)
{
    struct copier *c = l->c;

    pthread_mutex_lock(&c->lock);
    c->result.commands++;
    c->result.cut += l->record.cut_short;
    for (size_t i = 0; i < l->record.n_pieces; i++)
        c->result.bytes += l->record.pieces[i]->size;
    pthread_mutex_unlock(&c->lock);
}

bool copy_command(struct lane *l, Sandbox__V1__Command **command, struct status *st)
{
    bool gone = false;

    if (is_archived(l->c, *command))
        return true;
    if (!complete_command(l, command, st))
        return false;
    archive__v1__record__init(&l->record);
    l->record.command = *command;
    if (!(*command)->expired && !copy_journal(l, &gone, st))
        return false;
    if (gone || ((*command)->expired && copier_find(l->c, (*command)->command_id) != NULL))
        return true;
    if (!(*command)->expired) {
        settle_command(*command, &l->journal, l->record.cut_short);
        l->record.exited_seq = l->journal.exited_seq;
    }
    if (!put_record(l, st))
        return false;
    count(l);
    return true;
}
