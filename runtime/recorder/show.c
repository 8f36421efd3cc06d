/*
 * See show.h. A command that runs is asked for its state; one that ended has it on record; one
 * whose writer is lost is settled first, so that what is shown is final.
 */
#include "runtime/recorder/show.h"

#include "common/base/cleanup.h"
#include "common/base/fd.h"
#include "common/base/mem.h"
#include "common/base/utf8.h"
#include "common/journal/pb.h"
#include "common/journal/verbs.h"
#include "runtime/recorder/control.h"
#include "runtime/recorder/fault.h"
#include "runtime/recorder/files.h"
#include "runtime/recorder/lost.h"
#include "runtime/recorder/meta.h"
#include "runtime/recorder/segments.h"

#include <string.h>
#include <unistd.h>

/* sandbox.v1.Command.State */
enum { STATE_STARTING = 1, STATE_RUNNING = 2, STATE_EXITED = 3, STATE_CLOSED = 4 };

enum { LABEL_MAX = 64 * 1024 };

struct view {
    struct meta meta;
    struct end_record end;
    bool ended;
    struct pid_record pid;
    uint64_t first_seq, last_seq, acked_seq, size, input_offset;
    struct terminal_size terminal;
    bool blocked, expired;
};

static void view_deinit(struct view *v)
{
    meta_deinit(&v->meta);
}

/* What the writer knows best. False: there is none. */
static bool ask_writer(int dir, struct view *v)
{
    static struct control_packet answer;
    AUTO_CLOSE int fd = control_connect(dir);
    struct control_message m = {.kind = CONTROL_STATUS};
    struct control_details details;

    if (fd < 0 || !control_ask(fd, &m, NULL, &answer))
        return false;
    v->last_seq = answer.m.seq;
    v->acked_seq = answer.m.value;
    v->blocked = (answer.m.flags & CONTROL_BLOCKED) != 0;
    if (answer.m.data_len >= sizeof(details)) { /* else the writer is older */
        memcpy(&details, answer.data, sizeof(details));
        v->input_offset = details.input_offset;
    }
    return true;
}

static void look_at_segments(int dir, struct view *v)
{
    AUTO(segments_deinit) struct segments s = {0};

    segments_list(dir, &s);
    for (size_t i = 0; i < s.n; i++)
        v->size += s.list[i].size;
    if (s.n > 0 && s.list[0].first_seq <= v->last_seq)
        v->first_seq = s.list[0].first_seq;
    v->expired = s.n == 0 && v->ended && v->end.last_seq != 0;
}

/* Asks the writer, or sees to it that none is needed. A writer that starts or ends is waited for.
 */
static bool look_at_state(int dir, struct view *v, struct status *st)
{
    enum { TRIES = 1000, TRY_US = 5000 };

    for (int i = 0; i < TRIES && !ask_writer(dir, v); i++) {
        v->acked_seq = acked_read(dir);
        switch (lost_settle(dir, st)) {
        case SETTLE_FAILED:
            return false;
        case SETTLE_ENDED:
            return true;
        case SETTLE_ALIVE:
            usleep(TRY_US);
            break;
        }
    }
    return true;
}

static bool look(int dir, struct view *v, struct status *st)
{
    if (!meta_read(dir, &v->meta, st) || !look_at_state(dir, v, st))
        return false;
    pid_read(dir, &v->pid);
    v->ended = end_read(dir, &v->end);
    if (v->ended && v->end.last_seq != 0)
        v->last_seq = v->end.last_seq;
    if (v->ended)
        v->input_offset = v->end.input_offset;
    v->terminal = size_read(dir, &v->meta);
    look_at_segments(dir, v);
    return true;
}

static bool add_end(struct buf *b, const struct view *v)
{
    struct journal_event e;
    size_t len;

    if (!v->ended)
        return true;
    journal_parse(v->end.exited, v->end.exited_len, &e, &len);
    return pb_add_time(b, 9, e.time_ns) && pb_add_element(b, 10, e.data, e.data_len);
}

static uint64_t state_of(const struct view *v)
{
    if (v->ended)
        return v->end.last_seq != 0 ? STATE_CLOSED : STATE_EXITED;
    return v->last_seq != 0 ? STATE_RUNNING : STATE_STARTING;
}

static bool add_text(struct buf *b, uint32_t number, const char *s)
{
    return pb_add_bytes(b, number, s, strlen(s));
}

/* Adds the strings, altogether no more than room bytes of them. */
static bool add_list(struct buf *b, uint32_t number, char *const *list, size_t room)
{
    for (size_t i = 0; list != NULL && list[i] != NULL && room > 0; i++) {
        size_t len = utf8_fitting(list[i], room);

        if (!pb_add_element(b, number, list[i], len))
            return false;
        room = list[i][len] == '\0' ? room - len : 0;
    }
    return true;
}

/* "key=value" pairs as the entries of a map. */
static bool add_map(struct buf *b, uint32_t number, char *const *list)
{
    for (size_t i = 0; list != NULL && list[i] != NULL; i++) {
        AUTO(buf_deinit) struct buf entry = BUF_INIT(LABEL_MAX);
        size_t key = strcspn(list[i], "=");

        if (!pb_add_bytes(&entry, 1, list[i], key) || list[i][key] == '\0' ||
            !add_text(&entry, 2, list[i] + key + 1) ||
            !pb_add_element(b, number, buf_data(&entry), buf_len(&entry)))
            return false;
    }
    return true;
}

static bool add_size(struct buf *b, uint32_t number, const struct view *v)
{
    AUTO(buf_deinit) struct buf size = BUF_INIT(32);

    return !v->meta.terminal ||
           (pb_add_uint(&size, 1, v->terminal.cols) && pb_add_uint(&size, 2, v->terminal.rows) &&
            pb_add_element(b, number, buf_data(&size), buf_len(&size)));
}

static bool encode(const struct view *v, size_t room, struct buf *b)
{
    const struct meta *m = &v->meta;

    return add_text(b, 1, m->command_id) && pb_add_uint(b, 2, state_of(v)) &&
           add_list(b, 3, m->args, room) && add_text(b, 4, m->cwd) && add_text(b, 5, m->user) &&
           add_list(b, 6, m->env_names, room) && pb_add_uint(b, 7, v->pid.pid) &&
           pb_add_time(b, 8, m->start_ns) && add_end(b, v) && pb_add_uint(b, 11, v->first_seq) &&
           pb_add_uint(b, 12, v->last_seq) && pb_add_uint(b, 13, v->size) &&
           pb_add_uint(b, 14, m->overflow) && pb_add_uint(b, 15, v->blocked) &&
           pb_add_uint(b, 16, v->acked_seq) && pb_add_bytes(b, 17, m->digest, m->digest_len) &&
           pb_add_uint(b, 18, m->protected) && add_map(b, 19, m->labels) && add_size(b, 20, v) &&
           pb_add_uint(b, 21, v->input_offset) && pb_add_uint(b, 22, v->expired);
}

/* Appends one frame; of its lists at most room bytes each. */
static bool add_view(const struct view *v, size_t room, struct buf *to, struct status *st)
{
    AUTO(buf_deinit) struct buf message = BUF_INIT(SHOW_MAX);

    if (!encode(v, room, &message) || !pb_add_element(to, 1, buf_data(&message), buf_len(&message)))
        return fault(st, RECORDER_INTERNAL, "the command is too large to be shown");
    return true;
}

static bool look_for(const struct state *s, const char *id, struct view *v, struct status *st)
{
    AUTO_CLOSE int dir = -1;

    return state_open_command(s, id, &dir, st) && look(dir, v, st);
}

bool show_command(const struct state *s, const char *id, struct buf *to, struct status *st)
{
    AUTO(view_deinit) struct view v = {.blocked = false};

    return look_for(s, id, &v, st) && add_view(&v, META_MAX, to, st);
}

/* --- lists --- */

struct entry {
    int64_t start_ns;
    char id[ID_MAX + 1];
};

struct entries {
    const struct state *state;
    const struct show_filter *filter;
    struct entry *list; /* owned */
    size_t n;
};

static void entries_deinit(struct entries *e)
{
    free(e->list);
}

static bool has_labels(const struct meta *m, const struct show_filter *f)
{
    for (size_t i = 0; i < f->n_labels; i++) {
        char *const *label = m->labels;

        while (label != NULL && *label != NULL && strcmp(*label, f->labels[i]) != 0)
            label++;
        if (label == NULL || *label == NULL)
            return false;
    }
    return true;
}

static bool is_in_state(const struct view *v, const struct show_filter *f)
{
    static const char *const names[] = {"", "starting", "running", "exited", "closed"};

    for (size_t i = 0; i < f->n_states; i++)
        if (strcmp(f->states[i], names[state_of(v)]) == 0)
            return true;
    return f->n_states == 0;
}

static bool add_entry(void *arg, const char *name)
{
    struct entries *e = arg;
    AUTO(meta_deinit) struct meta m = {0};
    AUTO_CLOSE int dir = -1;
    struct status ignored;

    if (!id_is_valid(name) || !state_open_command(e->state, name, &dir, &ignored) ||
        !meta_read(dir, &m, &ignored) || !has_labels(&m, e->filter))
        return true;
    if ((e->n & (e->n + 1)) == 0)
        e->list = xrealloc(e->list, 2 * (e->n + 1) * sizeof(*e->list));
    e->list[e->n].start_ns = m.start_ns;
    strcpy(e->list[e->n++].id, name);
    return true;
}

static int by_age(const void *a, const void *b)
{
    const struct entry *left = a, *right = b;

    if (left->start_ns != right->start_ns)
        return left->start_ns < right->start_ns ? -1 : 1;
    return strcmp(left->id, right->id);
}

static bool parse_token(const char *token, struct entry *ret, struct status *st)
{
    const char *end;
    uint64_t ns;

    if (!parse_u64(token, &end, &ns) || ns > INT64_MAX || *end != ':' || !id_is_valid(end + 1))
        return fault(st, RECORDER_USAGE, "--after is <start time in ns>:<id>");
    ret->start_ns = (int64_t)ns;
    strcpy(ret->id, end + 1);
    return true;
}

bool show_list(const struct state *s, const char *after, size_t limit,
               const struct show_filter *filter, struct status *st)
{
    AUTO(entries_deinit) struct entries entries = {.state = s, .filter = filter};
    struct entry last = {.start_ns = -1};

    if (after != NULL && !parse_token(after, &last, st))
        return false;
    for_each_name(s->commands, add_entry, &entries);
    if (entries.n > 1)
        qsort(entries.list, entries.n, sizeof(*entries.list), by_age);
    for (size_t i = 0; i < entries.n && limit > 0; i++) {
        AUTO(buf_deinit) struct buf frame = BUF_INIT(SHOW_MAX + 64);
        AUTO(view_deinit) struct view v = {.blocked = false};
        struct status ignored;

        if (by_age(&entries.list[i], &last) <= 0)
            continue;
        if (!look_for(s, entries.list[i].id, &v, &ignored))
            continue; /* damaged: `show` says how */
        if (!is_in_state(&v, filter))
            continue;
        if (!add_view(&v, RECORDER_LIST_ROOM, &frame, st))
            return false;
        if (!fd_write_all(STDOUT_FILENO, buf_data(&frame), buf_len(&frame)))
            return fault_errno(st, "the list cannot be written");
        limit--;
    }
    return true;
}
