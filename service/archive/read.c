/*
 * See read.h: one command, and what is known of commands. The choice of what a reader sees is the
 * recorder's own (common/journal/view.h).
 */
#include "service/archive/read.h"

#include "common/base/cleanup.h"
#include "common/base/mem.h"
#include "common/base/utf8.h"
#include "common/journal/verbs.h"
#include "sandbox/v1/errors.pb-c.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WRITE_SIZE = 48 * 1024, MADE_MAX = WRITE_SIZE + 2 * VIEW_ROOM };

bool read_nothing(const char *sandbox_id, struct status *st)
{
    return status_set(st, CODE_NOT_FOUND, SANDBOX__V1__ERROR_REASON__ERROR_REASON_LOG_EXPIRED,
                      "sandbox %s is gone, and nothing of it is archived", sandbox_id);
}

bool read_no_more(const char *sandbox_id, uint64_t last_seq, struct status *st)
{
    return status_set(st, CODE_NOT_FOUND, SANDBOX__V1__ERROR_REASON__ERROR_REASON_SANDBOX_NOT_FOUND,
                      "sandbox %s is gone: nothing follows event %" PRIu64, sandbox_id, last_seq);
}

/* An outcome that is the recorder's to tell; always true. */
static bool told(struct e2b_output *ret, enum recorder_exit code, const char *sentence)
{
    ret->exit_code = (int)code;
    snprintf(ret->err, sizeof(ret->err), "%s", sentence);
    return true;
}

/* True, and *ret_found: a. False, or not found: a is empty. */
static bool open_command(struct archived *a, const struct archived_place *p, const char *command_id,
                         bool *ret_found, struct status *st)
{
    AUTO_FREE struct record_name *names = NULL;
    const struct record_name *name;
    size_t n;

    *ret_found = false;
    if (!archived_names(p, &names, &n, st))
        return false;
    if (n == 0)
        return read_nothing(p->sandbox_id, st);
    name = archived_find(names, n, command_id);
    *ret_found = name != NULL && archived_open(a, p, name, st);
    return name == NULL || *ret_found;
}

/* --- following --- */

struct reading {
    struct archived a;
    const struct archive_view *o;
    struct view view;
    struct buf made;
    struct read_sink *to;
    bool left; /* nobody wants any more */
};

static void find_start(struct reading *r)
{
    const struct archive_view *o = r->o;
    const struct tail_options tail = {
        .unit = o->tail,
        .amount = o->tail_amount,
        .streams = o->view.streams,
        .since_ns = o->view.since_ns,
        .before_ns = o->view.before_ns,
    };
    struct tail_place place = {.first_seq = 1};
    size_t start;

    if (o->tail != TAIL_NONE)
        tail_find(&r->a.parts, &tail, &place);
    view_init(&r->view, &o->view, place.first_seq > o->from ? place.first_seq : o->from,
              VIEW_FORMAT_NOW);
    if (o->tail != TAIL_NONE)
        r->view.tail = place;
    r->view.told = o->from - 1;
    start = archived_start(&r->a, r->view.from);
    if (start < r->a.parts.n)
        view_look_back(&r->view, &r->a.parts, start);
}

static void flush(struct reading *r)
{
    if (!r->left && buf_len(&r->made) > 0)
        r->left = !r->to->write(r->to, buf_data(&r->made), buf_len(&r->made));
    buf_clear(&r->made);
}

static bool take(struct reading *r, const struct journal_event *e, struct status *st)
{
    bool ok = true;

    if (view_is_plain(&r->view) && e->seq >= r->view.from) {
        buf_append(&r->made, archived_frame(&r->a), r->a.frame_len);
        view_pass(&r->view, e);
    } else {
        ok = view_take(&r->view, e, archived_frame(&r->a), r->a.frame_len, &r->made);
    }
    if (buf_len(&r->made) >= WRITE_SIZE)
        flush(r);
    return ok || record_corrupt(r->a.record->command->command_id, st);
}

static bool is_done(const struct reading *r)
{
    const struct view *v = &r->view;

    return r->left || v->over || v->closed || (v->exited && r->o->until == ARCHIVE_EXITED);
}

/* All of it was read, and that was not enough to end the view. */
static bool judge_end(const struct reading *r, struct status *st)
{
    const Archive__V1__Record *record = r->a.record;

    if (record->cut_short)
        return record_cut_short(record->command->command_id, r->view.seen, st);
    return r->o->until == ARCHIVE_NOW ||
           read_no_more(r->a.place->sandbox_id, record->command->last_seq, st);
}

static bool read_events(struct reading *r, struct status *st)
{
    struct journal_event e;

    while (!is_done(r)) {
        switch (archived_next(&r->a, &e)) {
        case ARCHIVED_EVENT:
            if (!take(r, &e, st))
                return false;
            break;
        case ARCHIVED_END:
            return judge_end(r, st);
        case ARCHIVED_FAILED:
            *st = r->a.st;
            return false;
        }
    }
    return true;
}

static bool follow(struct reading *r, struct status *st)
{
    static const uint8_t end[] = {FOLLOW_MARK_END, 1};
    uint64_t exited_seq = r->a.record->exited_seq;
    bool ok = true;

    find_start(r);
    if (r->a.st.code != CODE_OK) {
        *st = r->a.st;
        return false;
    }
    /* Until `exited`, and that was before what is wanted: there is nothing to write. */
    if (r->o->until != ARCHIVE_EXITED || exited_seq == 0 || exited_seq >= r->view.from)
        ok = read_events(r, st);
    view_mark(&r->view, &r->made);
    if (ok)
        buf_append(&r->made, end, sizeof(end));
    flush(r);
    return ok;
}

bool read_command(const struct archived_place *p, const char *command_id,
                  const struct archive_view *o, struct read_sink *to, struct e2b_output *ret,
                  struct status *st)
{
    struct reading r = {.o = o, .made = BUF_INIT(MADE_MAX), .to = to};
    bool found, ok = open_command(&r.a, p, command_id, &found, st);

    if (ok && !found)
        told(ret, RECORDER_NOT_FOUND, "no such command is archived");
    else if (ok && r.a.record->command->expired)
        told(ret, RECORDER_EXPIRED, "its output was removed; how it ended is still to be seen");
    else if (ok)
        ok = follow(&r, st);
    archived_deinit(&r.a);
    view_deinit(&r.view);
    buf_deinit(&r.made);
    return ok;
}

/* --- what is known of commands --- */

/* Appends a command as the recorder shows it: field 1 of a ListCommandsResponse. */
static bool add_command(Sandbox__V1__Command *c, struct buf *to, struct status *st)
{
    Sandbox__V1__GetCommandResponse m = SANDBOX__V1__GET_COMMAND_RESPONSE__INIT;
    size_t len;
    uint8_t *at;

    m.command = c;
    len = sandbox__v1__get_command_response__get_packed_size(&m);
    at = buf_reserve(to, len);
    if (at == NULL)
        return status_set(st, CODE_RESOURCE_EXHAUSTED,
                          SANDBOX__V1__ERROR_REASON__ERROR_REASON_INVALID_FIELD,
                          "these commands do not fit one answer: ask for fewer");
    sandbox__v1__get_command_response__pack(&m, at);
    buf_commit(to, len);
    return true;
}

bool read_show(const struct archived_place *p, const char *command_id, struct buf *to,
               struct e2b_output *ret, struct status *st)
{
    struct archived a = {0};
    bool found, ok = open_command(&a, p, command_id, &found, st);

    if (ok && !found)
        told(ret, RECORDER_NOT_FOUND, "no such command is archived");
    else if (ok)
        ok = add_command(a.record->command, to, st);
    archived_deinit(&a);
    return ok;
}

static bool has_label(const Sandbox__V1__Command *c, const struct e2b_pair *label)
{
    for (size_t i = 0; i < c->n_labels; i++)
        if (strcmp(c->labels[i]->key, label->key) == 0)
            return strcmp(c->labels[i]->value, label->value) == 0;
    return false;
}

static bool is_listed(const Sandbox__V1__Command *c, const struct archive_list_args *o)
{
    if (o->states != 0 && (c->state > 31 || (o->states & 1u << c->state) == 0))
        return false;
    for (size_t i = 0; i < o->n_labels; i++)
        if (!has_label(c, &o->labels[i]))
            return false;
    return true;
}

/* In a list, long lists of strings are cut, so that a page is small. */
static void cut_strings(char **list, size_t *n)
{
    size_t room = RECORDER_LIST_ROOM, kept = 0;

    while (kept < *n && room > 0) {
        size_t len = strlen(list[kept]), fits = utf8_fitting(list[kept], room);

        list[kept][fits] = '\0';
        room = fits == len ? room - len : 0;
        kept++;
    }
    for (size_t i = kept; i < *n; i++)
        free(list[i]);
    *n = kept;
}

/* The place of the last command that was seen. */
static bool parse_after(const char *after, struct record_name *ret)
{
    char *end;

    *ret = (struct record_name){.start_ns = -1};
    if (after == NULL)
        return true;
    ret->start_ns = strtoll(after, &end, 10);
    if (*end != ':' || strlen(end + 1) > RECORD_ID_MAX)
        return false;
    strcpy(ret->command_id, end + 1);
    return true;
}

static bool add_listed(const struct archived_place *p, const struct record_name *name,
                       const struct archive_list_args *o, size_t *left, struct buf *to,
                       struct status *st)
{
    struct archived a = {0};
    bool ok = archived_open(&a, p, name, st);

    if (ok && is_listed(a.record->command, o)) {
        cut_strings(a.record->command->args, &a.record->command->n_args);
        cut_strings(a.record->command->env_names, &a.record->command->n_env_names);
        ok = add_command(a.record->command, to, st);
        --*left;
    }
    archived_deinit(&a);
    return ok;
}

bool read_list(const struct archived_place *p, const struct archive_list_args *o, struct buf *to,
               struct status *st)
{
    AUTO_FREE struct record_name *names = NULL;
    struct record_name last;
    size_t n, left = o->limit;
    bool ok;

    if (!parse_after(o->after, &last))
        return status_set(st, CODE_INVALID_ARGUMENT,
                          SANDBOX__V1__ERROR_REASON__ERROR_REASON_INVALID_FIELD,
                          "page_token is not one that this method returned");
    if (!archived_names(p, &names, &n, st))
        return false;
    if (n == 0)
        return read_nothing(p->sandbox_id, st);
    ok = true;
    for (size_t i = 0; ok && i < n && left > 0; i++)
        if (record_name_compare(&names[i], &last) > 0)
            ok = add_listed(p, &names[i], o, &left, to, st);
    return ok;
}
