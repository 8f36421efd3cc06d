/*
 * See retention.h. Called by the verb prune, and by every writer when its command is closed. Each
 * record is removed with its lock held, its segments oldest first: whoever reads meanwhile, or
 * after a crash, finds a record whose oldest output was dropped, which is nothing new to them.
 */
#include "runtime/recorder/retention.h"

#include "common/base/buf.h"
#include "common/base/cleanup.h"
#include "common/base/clock.h"
#include "common/base/mem.h"
#include "runtime/recorder/claim.h"
#include "runtime/recorder/fault.h"
#include "runtime/recorder/files.h"
#include "runtime/recorder/meta.h"
#include "runtime/recorder/segments.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char file_name[] = "retention";

static const struct retention defaults = {.max_commands = 1000, .max_bytes = 1ull << 30};

void retention_read(const struct state *s, struct retention *ret)
{
    AUTO(buf_deinit) struct buf b = BUF_INIT(256);
    unsigned long long commands, bytes;
    long long age_ms;

    *ret = (struct retention){0};
    if (!file_read(s->dir, file_name, &b) ||
        sscanf(buf_str(&b), "%llu %llu %lld", &commands, &bytes, &age_ms) != 3)
        return;
    *ret = (struct retention){.max_commands = commands, .max_bytes = bytes, .max_age_ms = age_ms};
}

bool retention_write(const struct state *s, const struct retention *r, struct status *st)
{
    char text[80];
    int len = snprintf(text, sizeof(text), "%llu %llu %lld\n", (unsigned long long)r->max_commands,
                       (unsigned long long)r->max_bytes, (long long)r->max_age_ms);

    return file_write(s->dir, file_name, text, (size_t)len) ||
           fault_errno(st, "what is to be kept cannot be set");
}

/* A closed command whose output is there. */
struct record {
    char id[ID_MAX + 1];
    int64_t closed_ns;
    uint64_t bytes;
};

struct records {
    const struct state *state;
    struct record *list; /* owned */
    size_t n;
    uint64_t bytes;
    uint64_t largest; /* the most that one of them was allowed to keep */
};

static void records_deinit(struct records *r)
{
    free(r->list);
}

static uint64_t size_of(const struct segments *s)
{
    uint64_t size = 0;

    for (size_t i = 0; i < s->n; i++)
        size += s->list[i].size;
    return size;
}

static bool add_record(void *arg, const char *name)
{
    AUTO(segments_deinit) struct segments s = {0};
    AUTO(meta_deinit) struct meta m = {0};
    AUTO_CLOSE int dir = -1;
    struct records *r = arg;
    struct end_record end;
    struct status ignored;
    struct record *to;

    if (!id_is_valid(name) || !state_open_command(r->state, name, &dir, NULL) ||
        !end_read(dir, &end) || end.last_seq == 0)
        return true;
    segments_list(dir, &s);
    if (s.n == 0)
        return true;
    if ((r->n & (r->n + 1)) == 0)
        r->list = xrealloc(r->list, 2 * (r->n + 1) * sizeof(*r->list));
    to = &r->list[r->n++];
    strcpy(to->id, name);
    to->closed_ns = end.closed_ns;
    to->bytes = size_of(&s);
    r->bytes += to->bytes;
    if (meta_read(dir, &m, &ignored) && m.max_bytes > r->largest)
        r->largest = m.max_bytes;
    return true;
}

static int by_end(const void *a, const void *b)
{
    const struct record *left = a, *right = b;

    if (left->closed_ns != right->closed_ns)
        return left->closed_ns < right->closed_ns ? -1 : 1;
    return strcmp(left->id, right->id);
}

static bool remove_output(const struct state *s, const char *id)
{
    static const char *const rest[] = {"gone", "gone.old", "reserve", "pid"};
    AUTO(segments_deinit) struct segments list = {0};
    AUTO_CLOSE int dir = -1, lock = -1;

    if (!state_open_command(s, id, &dir, NULL))
        return false;
    lock = lock_take(dir);
    if (lock < 0)
        return false;
    segments_list(dir, &list);
    for (size_t i = 0; i < list.n; i++)
        if (!segment_remove(dir, &list.list[i]))
            return false;
    for (size_t i = 0; i < sizeof(rest) / sizeof(rest[0]); i++)
        unlinkat(dir, rest[i], 0);
    return true;
}

void retention_apply(const struct state *s, const struct retention *r, const char *spare,
                     struct retention_result *ret)
{
    AUTO(records_deinit) struct records all = {.state = s};
    uint64_t max_commands = r->max_commands != 0 ? r->max_commands : defaults.max_commands;
    uint64_t max_bytes = r->max_bytes;
    int64_t oldest_ns = r->max_age_ms != 0 ? clock_wall_ns() - r->max_age_ms * NS_PER_MS : 0;

    *ret = (struct retention_result){0};
    for_each_name(s->commands, add_record, &all);
    if (all.n > 1)
        qsort(all.list, all.n, sizeof(*all.list), by_end);
    if (max_bytes == 0) /* who asked for more of one command is to have it */
        max_bytes = all.largest > defaults.max_bytes ? all.largest : defaults.max_bytes;
    for (size_t i = 0; i < all.n; i++) {
        const struct record *oldest = &all.list[i];

        if (all.n - ret->removed <= max_commands && all.bytes - ret->freed_bytes <= max_bytes &&
            oldest->closed_ns >= oldest_ns)
            return;
        if ((spare != NULL && strcmp(oldest->id, spare) == 0) || !remove_output(s, oldest->id))
            continue;
        ret->removed++;
        ret->freed_bytes += oldest->bytes;
    }
}

bool retention_is_expired(int dir)
{
    AUTO(segments_deinit) struct segments s = {0};
    struct end_record end;

    if (!end_read(dir, &end) || end.last_seq == 0)
        return false;
    segments_list(dir, &s);
    return s.n == 0;
}
