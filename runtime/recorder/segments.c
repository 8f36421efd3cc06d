/* See segments.h. Used by the writer, the followers and everybody who looks at a journal. */
#include "runtime/recorder/segments.h"

#include "common/base/cleanup.h"
#include "common/base/list.h"
#include "common/base/mem.h"
#include "runtime/recorder/files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { NAME_SIZE = 64, READ_SIZE = 16 * JOURNAL_FRAME_MAX, SEGMENTS_MAX = 4096 };

static void name_of(const struct segment *s, char name[NAME_SIZE])
{
    snprintf(name, NAME_SIZE, "journal.%llu.%llu", (unsigned long long)s->first_seq,
             (unsigned long long)s->bytes_before);
}

void segments_deinit(struct segments *s)
{
    free(s->list);
    *s = (struct segments){0};
}

struct listing {
    int dir;
    struct segments *to;
};

static bool list_one(void *arg, const char *name)
{
    struct listing *l = arg;
    struct segments *to = l->to;
    struct segment s;
    struct stat info;
    const char *at;

    if (strncmp(name, "journal.", 8) != 0 || !parse_u64(name + 8, &at, &s.first_seq) ||
        *at != '.' || !parse_u64(at + 1, &at, &s.bytes_before) || *at != '\0')
        return true;
    if (fstatat(l->dir, name, &info, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISREG(info.st_mode))
        return true; /* removed meanwhile */
    s.size = (uint64_t)info.st_size;
    to->list = xrealloc(to->list, (to->n + 1) * sizeof(*to->list));
    to->list[to->n++] = s;
    return to->n < SEGMENTS_MAX;
}

static int by_first_seq(const void *a, const void *b)
{
    const struct segment *left = a, *right = b;

    return (left->first_seq > right->first_seq) - (left->first_seq < right->first_seq);
}

void segments_list(int dir, struct segments *ret)
{
    struct listing l = {.dir = dir, .to = ret};

    *ret = (struct segments){0};
    for_each_name(dir, list_one, &l);
    if (ret->n > 1)
        qsort(ret->list, ret->n, sizeof(*ret->list), by_first_seq);
}

const struct segment *segments_find(const struct segments *s, uint64_t seq)
{
    for (size_t i = s->n; i > 0; i--)
        if (s->list[i - 1].first_seq <= seq)
            return &s->list[i - 1];
    return NULL;
}

int segment_open(int dir, const struct segment *s, int flags)
{
    char name[NAME_SIZE];

    name_of(s, name);
    return openat(dir, name, flags | O_CLOEXEC | O_NOFOLLOW, 0600);
}

bool segment_remove(int dir, const struct segment *s)
{
    char name[NAME_SIZE];

    name_of(s, name);
    return unlinkat(dir, name, 0) == 0 || errno == ENOENT;
}

void segment_walk_init(struct segment_walk *w, int fd, uint64_t at)
{
    *w = (struct segment_walk){.fd = fd, .at = at, .data = xmalloc(READ_SIZE)};
}

void segment_walk_deinit(struct segment_walk *w)
{
    free(w->data);
    w->data = NULL;
}

/*
 * Reads on from the frame that is cut, and that frame again: a torn one at the end of the journal
 * may have been cut off and its place taken by another. False when there is no more than before.
 */
static bool refill(struct segment_walk *w)
{
    size_t before = w->end - w->start;
    ssize_t n = pread(w->fd, w->data, READ_SIZE, (off_t)w->at);

    w->start = 0;
    w->end = n > 0 ? (size_t)n : 0;
    return w->end > before;
}

enum journal_result segment_walk_buffered(struct segment_walk *w, struct journal_event *ret)
{
    enum journal_result result =
        journal_parse(w->data + w->start, w->end - w->start, ret, &w->frame_len);

    if (result == JOURNAL_FRAME) {
        w->frame = w->data + w->start;
        w->start += w->frame_len;
        w->at += w->frame_len;
    }
    return result;
}

enum journal_result segment_walk_next(struct segment_walk *w, struct journal_event *ret)
{
    enum journal_result result;

    do {
        result = segment_walk_buffered(w, ret);
    } while (result == JOURNAL_PARTIAL && refill(w));
    return result;
}

/* --- as parts --- */

static bool open_part(struct parts *parts, size_t i)
{
    struct segment_parts *p = container_of(parts, struct segment_parts, parts);

    p->fd = segment_open(p->dir, &parts->list[i], O_RDONLY);
    if (p->fd < 0)
        return false;
    segment_walk_init(&p->walk, p->fd, 0);
    return true;
}

static bool next_of_part(struct parts *parts, struct journal_event *ret)
{
    struct segment_parts *p = container_of(parts, struct segment_parts, parts);

    return segment_walk_next(&p->walk, ret) == JOURNAL_FRAME;
}

static void close_part(struct parts *parts)
{
    struct segment_parts *p = container_of(parts, struct segment_parts, parts);

    segment_walk_deinit(&p->walk);
    close(p->fd);
}

void segment_parts_init(struct segment_parts *p, int dir, const struct segments *s)
{
    *p = (struct segment_parts){
        .parts = {.list = s->list,
                  .n = s->n,
                  .open = open_part,
                  .next = next_of_part,
                  .close = close_part},
        .dir = dir,
    };
}

void segments_tail(int dir, const struct tail_options *o, struct tail_place *ret)
{
    AUTO(segments_deinit) struct segments list = {0};
    struct segment_parts p;

    segments_list(dir, &list);
    segment_parts_init(&p, dir, &list);
    tail_find(&p.parts, o, ret);
}
