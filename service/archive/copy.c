/*
 * See copy.h. Runs on a job's thread, with some more of its own: a sandbox has many small journals,
 * and each costs a round trip or two. Every one of them takes the next command that nobody took.
 */
#include "service/archive/copy.h"

#include "common/base/cleanup.h"
#include "common/base/clock.h"
#include "common/base/list.h"
#include "common/base/mem.h"
#include "common/journal/verbs.h"
#include "sandbox/v1/errors.pb-c.h"
#include "service/archive/copy_journal.h"
#include "service/archive/jobs.h"
#include "service/archive/record.h"
#include "service/handlers/command_frames.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    LANES = 4,
    PAGE = 100,
    COMMANDS_MAX = 16384, /* of a sandbox */
    TRIES = 3,            /* when the way to the sandbox breaks */
    LIST_ROOM = 4096,     /* longer lists of strings are cut by the recorder's list */
    LIST_SLACK = 4,       /* where a character would be cut */
};

struct copier {
    const struct copy_args *a;
    Sandbox__V1__Command **commands; /* owned */
    size_t n_commands;
    struct record_name *have; /* owned; by age */
    size_t n_have;
    atomic_size_t next; /* command to be copied */
    atomic_bool failed;
    pthread_mutex_t lock; /* guards what follows */
    struct copy_result result;
    struct status st; /* of the first that failed */
};

/* A thread that copies. */
struct lane {
    struct copier *c;
    pthread_t thread;
    struct mailbox mailbox;
    struct e2b_op op;
    struct e2b_output output;
    bool woken, ended;
    struct copy_journal journal;
    Archive__V1__Record record; /* of the command at hand; its pieces are owned, not the command */
};

/* --- asking the sandbox, and waiting --- */

static void on_done(struct e2b_op *op)
{
    struct lane *l = container_of(op, struct lane, op);

    l->woken = l->ended = true;
}

static void on_readable(struct e2b_op *op)
{
    container_of(op, struct lane, op)->woken = true;
}

static void prepare(struct lane *l)
{
    free(l->output.out);
    l->output = (struct e2b_output){0};
    l->op = (struct e2b_op){.caller = l->c->a->caller,
                            .executor = &l->mailbox.executor,
                            .done = on_done,
                            .deadline_ns = l->c->a->until_ns};
    l->woken = l->ended = false;
}

/* A pod that stops does not wait for an answer. */
static void wait_for(struct lane *l, const bool *flag)
{
    if (mailbox_run(&l->mailbox, flag, l->c->a->stopping))
        return;
    e2b_cancel(&l->op);
    mailbox_run(&l->mailbox, flag, NULL);
}

static bool recorder_failed(const struct lane *l, struct status *st)
{
    return status_set(st, CODE_UNAVAILABLE, SANDBOX__V1__ERROR_REASON__ERROR_REASON_E2B_UNAVAILABLE,
                      "what sandbox %s has recorded cannot be read (exit %d)%s%s",
                      l->c->a->sandbox_id, l->output.exit_code,
                      l->output.err[0] != '\0' ? ": " : "", l->output.err);
}

/* A verb that only looks; what it printed is in l->output. */
static bool look(struct lane *l, const char *const *args, struct status *st)
{
    prepare(l);
    e2b_look(l->c->a->e2b, &l->op, l->c->a->sandbox_id, args, &l->output);
    wait_for(l, &l->ended);
    if (l->op.st.code == CODE_OK)
        return true;
    *st = l->op.st;
    return false;
}

static bool is_over(const struct copier *c)
{
    return atomic_load(&c->failed) || atomic_load(c->a->stopping);
}

/* --- what there is --- */

static bool add_page(struct copier *c, const struct lane *l, size_t *ret_n, struct status *st)
{
    AUTO(command_frames_deinit) struct command_frames page = {0};

    if (!command_frames_read(&page, l->output.out, l->output.out_len) ||
        c->n_commands + page.n_items > COMMANDS_MAX)
        return status_set(st, CODE_DATA_LOSS,
                          SANDBOX__V1__ERROR_REASON__ERROR_REASON_JOURNAL_CORRUPT,
                          "the list of commands of sandbox %s does not hold together: it was "
                          "changed from inside the sandbox",
                          c->a->sandbox_id);
    c->commands =
        xrealloc(c->commands, (c->n_commands + page.n_items + 1) * sizeof(c->commands[0]));
    for (size_t i = 0; i < page.n_items; i++)
        c->commands[c->n_commands++] = TAKE(page.items[i]);
    *ret_n = page.n_items;
    page.n_items = 0;
    return true;
}

static bool list_commands(struct copier *c, struct lane *l, struct status *st)
{
    char limit[32], after[RECORD_ID_MAX + 48];
    const char *args[] = {"list", limit, NULL, NULL};
    size_t n;

    snprintf(limit, sizeof(limit), "--limit=%d", PAGE);
    do {
        if (!look(l, args, st))
            return false;
        if (l->output.exit_code == E2B_NO_COMMANDS)
            return true;
        if (l->output.exit_code != RECORDER_OK)
            return recorder_failed(l, st);
        if (!add_page(c, l, &n, st))
            return false;
        if (n > 0) {
            const Sandbox__V1__Command *last = c->commands[c->n_commands - 1];

            snprintf(after, sizeof(after), "--after=%" PRId64 ":%.*s", record_start_ns(last),
                     RECORD_ID_MAX, last->command_id);
            args[2] = after;
        }
    } while (n >= PAGE);
    return true;
}

static bool list_archive(struct copier *c, struct status *st)
{
    AUTO_FREE char *prefix = record_prefix(c->a->owner, c->a->sandbox_id);
    AUTO(store_names_deinit) struct store_names names = {0};

    if (!c->a->store->list(c->a->store, prefix, &names, c->a->until_ns, st))
        return false;
    c->n_have = record_names(&names, &c->have);
    return true;
}

static const struct record_name *find_have(const struct copier *c, const char *command_id)
{
    for (size_t i = 0; i < c->n_have; i++)
        if (strcmp(c->have[i].command_id, command_id) == 0)
            return &c->have[i];
    return NULL;
}

/* Nothing is new. Of output that was removed meanwhile the archive keeps what it has. */
static bool is_archived(const struct copier *c, const Sandbox__V1__Command *command)
{
    const struct record_name *have = find_have(c, command->command_id);

    return have != NULL && have->start_ns == record_start_ns(command) &&
           (have->last_seq == command->last_seq || command->expired);
}

/* --- one command --- */

static void drop_pieces(Archive__V1__Record *r)
{
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

/* All that a follower writes. False: the archive, or the way to the sandbox, failed. */
static bool read_journal(struct lane *l, struct status *st)
{
    char who[RECORD_ID_MAX + 8];
    const char *args[] = {"follow", who, "--until=now", "--no-progress-reader", NULL};
    struct e2b_stream *stream;
    bool ok = true;

    snprintf(who, sizeof(who), "--id=%s", l->record.command->command_id);
    prepare(l);
    stream = e2b_stream_start(l->c->a->e2b, &l->op, l->c->a->sandbox_id, args, NULL, 0, on_readable,
                              &l->output);
    for (bool last = false; !last; l->woken = false) {
        uint8_t *block;
        size_t len;

        wait_for(l, &l->woken);
        last = l->ended;
        while (e2b_stream_take(stream, 0, &block, &len)) {
            if (ok && !l->record.cut_short)
                ok = take_block(l, block, len, st);
            free(block);
        }
        if (!last && (!ok || l->record.cut_short || is_over(l->c)))
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
    return recorder_failed(l, st);
}

static bool may_heal(const struct status *st)
{
    return st->code == CODE_UNAVAILABLE &&
           st->reason != SANDBOX__V1__ERROR_REASON__ERROR_REASON_ARCHIVE_UNAVAILABLE;
}

static bool copy_journal(struct lane *l, bool *ret_gone, struct status *st)
{
    for (int i = 1;; i++) {
        drop_pieces(&l->record);
        l->record.cut_short = false;
        copy_journal_deinit(&l->journal);
        copy_journal_init(&l->journal);
        if (read_journal(l, st) && (l->record.cut_short || judge_end(l, ret_gone, st)))
            return buf_len(&l->journal.piece) == 0 || put_piece(l, st);
        if (!may_heal(st) || i == TRIES || is_over(l->c) ||
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

    if (length_of(c->args, c->n_args) < LIST_ROOM - LIST_SLACK &&
        length_of(c->env_names, c->n_env_names) < LIST_ROOM - LIST_SLACK)
        return true;
    snprintf(who, sizeof(who), "--id=%s", c->command_id);
    if (!look(l, (const char *[]){"show", who, NULL}, st))
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

static bool copy_command(struct lane *l, Sandbox__V1__Command **command, struct status *st)
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
    if (gone || ((*command)->expired && find_have(l->c, (*command)->command_id) != NULL))
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

/* --- the whole --- */

static void lane_init(struct lane *l, struct copier *c)
{
    *l = (struct lane){.c = c};
    mailbox_init(&l->mailbox);
    copy_journal_init(&l->journal);
    archive__v1__record__init(&l->record);
}

static void lane_deinit(struct lane *l)
{
    drop_pieces(&l->record);
    copy_journal_deinit(&l->journal);
    free(l->output.out);
    mailbox_deinit(&l->mailbox);
}

static void note_failure(struct copier *c, const struct status *st)
{
    pthread_mutex_lock(&c->lock);
    if (!atomic_exchange(&c->failed, true))
        c->st = *st;
    pthread_mutex_unlock(&c->lock);
}

static void *lane_main(void *arg)
{
    struct lane *l = arg;
    struct copier *c = l->c;
    size_t i;

    while (!is_over(c) && (i = atomic_fetch_add(&c->next, 1)) < c->n_commands) {
        struct status st = STATUS_INIT;

        if (!copy_command(l, &c->commands[i], &st))
            note_failure(c, &st);
        drop_pieces(&l->record);
    }
    return NULL;
}

static void copy_all(struct copier *c, struct lane *first)
{
    struct lane more[LANES - 1];
    size_t n = 0;

    while (n < LANES - 1 && n + 1 < c->n_commands) {
        lane_init(&more[n], c);
        if (pthread_create(&more[n].thread, NULL, lane_main, &more[n]) != 0) {
            lane_deinit(&more[n]);
            break;
        }
        n++;
    }
    lane_main(first);
    for (size_t i = 0; i < n; i++) {
        pthread_join(more[i].thread, NULL);
        lane_deinit(&more[i]);
    }
}

static bool copy_with(struct copier *c, struct lane *first, struct status *st)
{
    if (!list_commands(c, first, st) || (c->n_commands > 0 && !list_archive(c, st)))
        return false;
    copy_all(c, first);
    if (atomic_load(&c->failed)) {
        *st = c->st;
        return false;
    }
    if (atomic_load(c->a->stopping))
        return store_unavailable(st, "this pod is about to stop");
    return true;
}

bool copy_sandbox(const struct copy_args *a, struct copy_result *ret, struct status *st)
{
    struct copier c = {.a = a};
    struct lane first;
    bool ok;

    pthread_mutex_init(&c.lock, NULL);
    lane_init(&first, &c);
    ok = copy_with(&c, &first, st);
    lane_deinit(&first);
    *ret = c.result;
    for (size_t i = 0; i < c.n_commands; i++)
        sandbox__v1__command__free_unpacked(c.commands[i], NULL);
    free(c.commands);
    free(c.have);
    pthread_mutex_destroy(&c.lock);
    return ok;
}
