/* See archived.h. Used by the readers. */
#include "service/archive/archived.h"

#include "common/base/cleanup.h"
#include "common/base/clock.h"
#include "common/base/mem.h"

#include <stdlib.h>
#include <string.h>

static int64_t until_ns(const struct archived_place *p)
{
    return clock_monotonic_ns() + p->timeout_ms * NS_PER_MS;
}

bool archived_names(const struct archived_place *p, struct record_name **ret, size_t *ret_n,
                    struct status *st)
{
    AUTO_FREE char *prefix = record_prefix(p->owner, p->sandbox_id);
    AUTO(store_names_deinit) struct store_names list = {0};

    if (!p->store->list(p->store, prefix, &list, until_ns(p), st))
        return false;
    *ret_n = record_names(&list, ret);
    return true;
}

const struct record_name *archived_find(const struct record_name *names, size_t n,
                                        const char *command_id)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(names[i].command_id, command_id) == 0)
            return &names[i];
    return NULL;
}

/* --- pieces --- */

static const char *id_of(const struct archived *a)
{
    return a->record->command->command_id;
}

/* What the Record names was there: that it is not any more, is a change too. */
static bool get_object(const struct archived_place *p, const char *key, const char *command_id,
                       struct buf *to, struct status *st)
{
    if (p->store->get(p->store, key, to, until_ns(p), st))
        return true;
    return st->code == CODE_NOT_FOUND ? record_corrupt(command_id, st) : false;
}

static bool load(struct archived *a, size_t i)
{
    const Archive__V1__Piece *p = a->record->pieces[i];
    uint8_t sha[RECORD_SHA_LEN];
    AUTO_FREE char *key = NULL;

    if (a->loaded == i)
        return true;
    if (a->st.code != CODE_OK)
        return false;
    key = record_piece_key(a->place->owner, a->place->sandbox_id, id_of(a), p->first_seq,
                           p->sha256.data);
    buf_clear(&a->piece);
    a->loaded = SIZE_MAX;
    if (!get_object(a->place, key, id_of(a), &a->piece, &a->st))
        return false;
    record_sha(buf_data(&a->piece), buf_len(&a->piece), sha);
    if (buf_len(&a->piece) != p->size || memcmp(sha, p->sha256.data, sizeof(sha)) != 0)
        return record_corrupt(id_of(a), &a->st);
    a->loaded = i;
    return true;
}

static bool open_part(struct parts *parts, size_t i)
{
    struct archived *a = container_of(parts, struct archived, parts);

    a->at = 0;
    return load(a, i);
}

static bool next_of_part(struct parts *parts, struct journal_event *ret)
{
    struct archived *a = container_of(parts, struct archived, parts);
    size_t left = buf_len(&a->piece) - a->at, len;

    if (left == 0)
        return false;
    if (journal_parse(buf_data(&a->piece) + a->at, left, ret, &len) != JOURNAL_FRAME)
        return record_corrupt(id_of(a), &a->st);
    a->at += len;
    return true;
}

static void close_part(struct parts *parts) {}

/* --- the command --- */

bool archived_open(struct archived *a, const struct archived_place *p,
                   const struct record_name *name, struct status *st)
{
    AUTO(buf_deinit) struct buf object = BUF_INIT(RECORD_MAX);
    AUTO_FREE char *key = record_key(p->owner, p->sandbox_id, name);

    *a = (struct archived){
        .place = p, .piece = BUF_INIT(RECORD_PIECE_MAX), .loaded = SIZE_MAX, .st = STATUS_INIT};
    if (!get_object(p, key, name->command_id, &object, st) ||
        !record_read(&object, name, &a->record, st))
        return false;
    a->segments = record_segments(a->record);
    a->parts = (struct parts){.list = a->segments,
                              .n = a->record->n_pieces,
                              .open = open_part,
                              .next = next_of_part,
                              .close = close_part};
    return true;
}

void archived_deinit(struct archived *a)
{
    if (a->record != NULL)
        archive__v1__record__free_unpacked(TAKE(a->record), NULL);
    free(TAKE(a->segments));
    buf_deinit(&a->piece);
}

/* --- event by event --- */

size_t archived_start(struct archived *a, uint64_t from)
{
    size_t i = a->parts.n;

    while (i > 0 && (i == a->parts.n || a->segments[i].first_seq > from))
        i--;
    a->part = i;
    a->part_at = 0;
    a->check = (struct journal_check){0};
    if (i < a->parts.n)
        a->check.last_seq = a->segments[i].first_seq - 1;
    return i;
}

static enum archived_step fail(struct archived *a)
{
    if (a->st.code == CODE_OK)
        record_corrupt(id_of(a), &a->st);
    return ARCHIVED_FAILED;
}

enum archived_step archived_next(struct archived *a, struct journal_event *ret)
{
    while (a->part < a->parts.n) {
        if (!load(a, a->part))
            return fail(a);
        if (a->part_at < buf_len(&a->piece)) {
            if (journal_parse(buf_data(&a->piece) + a->part_at, buf_len(&a->piece) - a->part_at,
                              ret, &a->frame_len) != JOURNAL_FRAME ||
                !journal_check_next(&a->check, ret))
                return fail(a);
            a->frame_at = a->part_at;
            a->part_at += a->frame_len;
            return ARCHIVED_EVENT;
        }
        if (a->check.last_seq != a->record->pieces[a->part]->last_seq)
            return fail(a);
        a->part++;
        a->part_at = 0;
    }
    return ARCHIVED_END;
}

const uint8_t *archived_frame(const struct archived *a)
{
    return buf_data(&a->piece) + a->frame_at;
}

void archived_unload(struct archived *a)
{
    buf_deinit(&a->piece);
    buf_init(&a->piece, RECORD_PIECE_MAX);
    a->loaded = SIZE_MAX;
}

bool archived_again(struct archived *a, struct journal_event *ret)
{
    size_t len;

    return load(a, a->part) && a->frame_at < buf_len(&a->piece) &&
           journal_parse(buf_data(&a->piece) + a->frame_at, buf_len(&a->piece) - a->frame_at, ret,
                         &len) == JOURNAL_FRAME;
}
