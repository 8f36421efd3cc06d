/* See watched.h. Used by the watcher alone; commands are found by reading the state directory. */
#include "runtime/recorder/watched.h"

#include "common/base/cleanup.h"
#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/journal/cursor.h"
#include "runtime/recorder/files.h"
#include "runtime/recorder/lost.h"
#include "runtime/recorder/meta.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { TICK_MS = 50 /* the clock of files is coarse: changes so close together look like one */ };

void watched_init(struct watched_set *s, const struct state *state, const struct view_options *view)
{
    *s = (struct watched_set){.state = state, .view = view};
    list_init(&s->all);
}

static void close_watched(struct watched *w)
{
    if (w->dir < 0)
        return;
    cleanup_close(&w->dir);
    cleanup_close(&w->control);
    w->dir = w->control = -1;
    w->has_next = false;
    reader_deinit(&w->reader);
    view_deinit(&w->view);
}

void watched_deinit(struct watched_set *s)
{
    LIST_FOR_EACH_SAFE (node, &s->all) {
        struct watched *w = container_of(node, struct watched, link);

        close_watched(w);
        list_unlink(&w->link);
        free(w);
    }
}

static struct watched *find(const struct watched_set *s, const char *id)
{
    LIST_FOR_EACH (node, &s->all) {
        struct watched *w = container_of(node, struct watched, link);

        if (strcmp(w->id, id) == 0)
            return w;
    }
    return NULL;
}

static struct watched *add(struct watched_set *s, const char *id)
{
    struct watched *w = xcalloc(1, sizeof(*w));

    strcpy(w->id, id);
    w->dir = w->control = -1;
    list_append(&s->all, &w->link);
    return w;
}

/* --- the cursor --- */

static bool take_entry(void *arg, const struct cursor_entry *e)
{
    struct watched_set *s = arg;
    struct watched *w;

    if (!id_is_valid(e->id) || find(s, e->id) != NULL)
        return false;
    w = add(s, e->id);
    w->last_seq = e->last_seq;
    w->closed = w->done = e->closed;
    return true;
}

bool watched_set_cursor(struct watched_set *s, const struct buf *cursor)
{
    return cursor_read(buf_data(cursor), buf_len(cursor), take_entry, s);
}

void watched_add_cursor(const struct watched_set *s, struct buf *to)
{
    LIST_FOR_EACH (node, &s->all) {
        const struct watched *w = container_of(node, struct watched, link);
        struct cursor_entry e = {.last_seq = w->last_seq, .closed = w->closed};

        if (w->last_seq == 0)
            continue;
        strcpy(e.id, w->id);
        cursor_add(to, &e);
    }
}

/* --- finding --- */

static bool add_if_new(void *arg, const char *name)
{
    AUTO(meta_deinit) struct meta m = {0};
    AUTO_CLOSE int dir = -1;
    struct watched_set *s = arg;
    struct watched *w;

    if (!id_is_valid(name))
        return true;
    w = find(s, name);
    if (w != NULL && (w->done || w->start_ns != 0))
        return true;
    if (!state_open_command(s->state, name, &dir, NULL) || !meta_read(dir, &m, NULL))
        return true; /* nothing that can be read here */
    s->newer |= m.format > META_FORMAT;
    if (w == NULL)
        w = add(s, name);
    w->start_ns = m.start_ns;
    w->format = m.format;
    w->ready = true;
    return true;
}

void watched_refresh(struct watched_set *s)
{
    int64_t now_ns = clock_wall_ns(), changed_ns;
    struct stat info;

    if (fstat(s->state->commands, &info) != 0)
        return;
    changed_ns = info.st_mtim.tv_sec * NS_PER_S + info.st_mtim.tv_nsec;
    if (changed_ns == s->changed_ns && s->listed_ns - changed_ns > TICK_MS * NS_PER_MS)
        return;
    s->changed_ns = changed_ns;
    s->listed_ns = now_ns;
    for_each_name(s->state->commands, add_if_new, s);
}

bool watched_open(struct watched_set *s, struct watched *w)
{
    if (w->dir >= 0)
        return true;
    if (!state_open_command(s->state, w->id, &w->dir, NULL)) {
        w->starved = true;
        w->n_tried = s->n_done;
        w->ready = false;
        return false;
    }
    /* What a lost writer left is ended before it is read. */
    w->settled = lost_settle(w->dir, NULL) == SETTLE_ENDED;
    w->starved = w->final = w->waiting = false;
    view_init(&w->view, s->view, w->last_seq + 1, w->format);
    reader_init(&w->reader, w->dir, w->last_seq + 1, w->start_ns);
    reader_look_back(&w->reader, &w->view);
    return true;
}

void watched_finish(struct watched_set *s, struct watched *w, bool closed)
{
    w->done = true;
    w->closed = closed;
    s->n_done++;
    close_watched(w);
}

bool watched_retry(struct watched_set *s)
{
    bool any = false;

    LIST_FOR_EACH (node, &s->all) {
        struct watched *w = container_of(node, struct watched, link);

        if (!w->starved || w->n_tried == s->n_done)
            continue;
        w->ready = any = true;
    }
    return any;
}
