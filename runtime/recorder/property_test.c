/*
 * A journal against a model of it: random writes of all policies, output that found no space,
 * crashes that tear the last append, and readers from random points, with and without views. Every
 * reader sees every event that is there once, unchanged and in order, and what is gone is counted
 * to the byte. SEED and ROUNDS are taken from the environment, so that more can be tried.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/base/cleanup.h"
#include "common/base/mem.h"
#include "common/journal/view.h"
#include "runtime/recorder/files.h"
#include "runtime/recorder/journal_file.h"
#include "runtime/recorder/reader.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { STREAMS = 3, STEPS = 400, MAX_BYTES = 1 << 20 };

/* --- chance --- */

static uint64_t chance_state;

static uint64_t chance(uint64_t below)
{
    chance_state ^= chance_state << 13;
    chance_state ^= chance_state >> 7;
    chance_state ^= chance_state << 17;
    return chance_state % below;
}

/* Mostly small, now and then as large as can be. */
static size_t chance_len(void)
{
    static const size_t most[] = {1, 10, 100, 3000, JOURNAL_PAYLOAD_MAX + 1, BATCH_BYTES};

    return (size_t)chance(most[chance(6)] + 1);
}

/* --- the model --- */

struct event {
    enum journal_kind kind;
    uint64_t offset, len;  /* of output; len: the bytes that a Dropped stands for */
    uint64_t segment, end; /* where its frame ends, in which segment */
};

struct model {
    struct journal_file journal;
    struct meta meta;
    int dir;
    struct event *events; /* owned; of seq 1, 2, 3 … */
    size_t n, room;
    uint64_t appended; /* events before the last append, which a crash may tear */
};

/* What a stream holds at an offset: bytes of all kinds, newlines and cut characters among them. */
static uint8_t byte_at(int stream, uint64_t offset)
{
    static const char text[] = "a line \xe2\x82\xac of text\nand \xff\xc3\xbc more\n\n";
    uint64_t at = offset + (uint64_t)stream * 7;

    /* Some lines are longer than may be held back. */
    if (at % 100000 > 60000)
        return 'x';
    return (uint8_t)text[at % (sizeof(text) - 1)];
}

static struct event *event_of(const struct model *m, uint64_t seq)
{
    assert_in_range(seq, 1, m->n);
    return &m->events[seq - 1];
}

static void add_event(struct model *m, enum journal_kind kind, uint64_t offset, uint64_t len)
{
    if (m->n == m->room) {
        m->room = 2 * m->room + 64;
        m->events = xrealloc(m->events, m->room * sizeof(*m->events));
    }
    m->events[m->n++] = (struct event){.kind = kind, .offset = offset, .len = len};
}

/* Where the frames from first_seq on end, as the file says. */
static void set_ends_in(struct model *m, const struct segment *s, uint64_t first_seq)
{
    AUTO_CLOSE int fd = segment_open(m->dir, s, O_RDONLY);
    struct segment_walk w;
    struct journal_event e;

    segment_walk_init(&w, fd, 0);
    while (segment_walk_next(&w, &e) == JOURNAL_FRAME) {
        if (e.seq < first_seq)
            continue;
        event_of(m, e.seq)->segment = s->first_seq;
        event_of(m, e.seq)->end = w.at;
    }
    segment_walk_deinit(&w);
}

static void set_ends(struct model *m, uint64_t first_seq)
{
    const struct segments *s = &m->journal.segments;

    for (size_t i = 0; i < s->n; i++)
        if (i + 1 == s->n || s->list[i + 1].first_seq > first_seq)
            set_ends_in(m, &s->list[i], first_seq);
}

static void open_model(struct model *m, int dir, uint32_t overflow)
{
    *m = (struct model){.dir = dir};
    m->meta = (struct meta){.format = META_FORMAT, .overflow = overflow, .max_bytes = MAX_BYTES};
    journal_file_init(&m->journal, dir, &m->meta);
    assert_true(journal_file_started(&m->journal, 7));
    add_event(m, JOURNAL_STARTED, 0, 0);
    set_ends(m, 1);
}

static void close_model(struct model *m)
{
    journal_file_deinit(&m->journal);
    free(m->events);
}

/* --- steps --- */

/* What was lost before is told by an event of its own, ahead of what comes. */
static void expect_flush(struct model *m, uint64_t lost)
{
    if (lost > 0)
        add_event(m, JOURNAL_DROPPED, 0, lost);
}

static void write_output(struct model *m)
{
    static uint8_t data[BATCH_BYTES];
    int stream = (int)chance(STREAMS);
    size_t len = chance_len();
    struct journal_readers readers = {.acked_seq = chance(m->n + 1), .slowest = UINT64_MAX};
    uint64_t offset = m->journal.offsets[stream], lost = m->journal.lost_bytes;
    uint64_t first = m->n + 1;

    if (chance(3) == 0)
        readers.slowest = 1 + chance(m->n + 1);
    journal_file_make_room(&m->journal, &readers);
    for (size_t i = 0; i < len; i++)
        data[i] = byte_at(stream, offset + i);
    m->appended = m->n;
    assert_true(journal_file_output(&m->journal, JOURNAL_STDOUT + stream, data, len));
    expect_flush(m, lost);
    for (size_t done = 0; done < len || (len == 0 && done == 0);) {
        size_t step = len - done < JOURNAL_PAYLOAD_MAX ? len - done : JOURNAL_PAYLOAD_MAX;

        add_event(m, JOURNAL_STDOUT + stream, offset + done, step);
        done += step > 0 ? step : 1;
    }
    set_ends(m, first);
}

static void lose_output(struct model *m)
{
    int stream = (int)chance(STREAMS);

    journal_file_lose(&m->journal, JOURNAL_STDOUT + stream, 1 + chance(5000));
}

/* The writer dies; of what it appended last some is there, whole or torn or zeros. */
static void crash(struct model *m)
{
    struct segment newest = m->journal.segments.list[m->journal.segments.n - 1];
    uint64_t least = 0, keep;
    AUTO_CLOSE int fd = segment_open(m->dir, &newest, O_RDWR);
    static const uint8_t zeros[4096];

    for (uint64_t seq = 1; seq <= m->appended; seq++)
        if (event_of(m, seq)->segment == newest.first_seq)
            least = event_of(m, seq)->end;
    if (m->appended == 0)
        least = event_of(m, 1)->end; /* the first event has no append of its own to tear here */
    keep = chance(4) == 0 ? least : least + chance(newest.size - least + 1);
    assert_int_equal(ftruncate(fd, (off_t)keep), 0);
    if (keep == least && chance(2) == 0) { /* as power that is lost may leave it */
        ssize_t n = pwrite(fd, zeros, 1 + chance(sizeof(zeros)), (off_t)keep);

        assert_true(n > 0);
    }
    while (m->n > 1 && event_of(m, m->n)->segment == newest.first_seq &&
           event_of(m, m->n)->end > keep)
        m->n--;
    journal_file_deinit(&m->journal);
    journal_file_init(&m->journal, m->dir, &m->meta);
    assert_true(journal_file_resume(&m->journal));
    m->appended = m->n;
    assert_int_equal(m->journal.next_seq, m->n + 1);
}

/* The offsets of streams that the newest segment does not have are found by reading on: the writer
 * that resumes only ever ends a journal. Here it goes on, so they are set from the model. */
static void set_offsets(struct model *m)
{
    for (int i = 0; i < STREAMS; i++)
        m->journal.offsets[i] = 0;
    for (uint64_t seq = 1; seq <= m->n; seq++) {
        const struct event *e = event_of(m, seq);

        if (e->kind >= JOURNAL_STDOUT && e->kind <= JOURNAL_TERMINAL)
            m->journal.offsets[e->kind - JOURNAL_STDOUT] = e->offset + e->len;
    }
}

/* --- reading --- */

static uint64_t bytes_between(const struct model *m, uint64_t first, uint64_t last)
{
    uint64_t bytes = 0;

    for (uint64_t seq = first; seq <= last; seq++) {
        const struct event *e = event_of(m, seq);

        bytes += e->kind == JOURNAL_STARTED ? 0 : e->len;
    }
    return bytes;
}

static void check_content(const struct journal_event *e)
{
    int stream = (int)e->kind - JOURNAL_STDOUT;

    for (size_t i = 0; i < e->data_len; i++)
        assert_int_equal(e->data[i], byte_at(stream, e->offset + i));
}

/* One event as it was read, against the model. Returns the seq that comes next. */
static uint64_t check_event(const struct model *m, const struct journal_event *e, uint64_t expected)
{
    const struct event *own;

    if (e->kind == JOURNAL_DROPPED) {
        assert_int_equal(e->dropped_first, expected);
        assert_int_equal(e->seq, e->dropped_last);
        assert_int_equal(e->dropped_bytes, bytes_between(m, e->dropped_first, e->dropped_last));
        return e->seq + 1;
    }
    assert_int_equal(e->seq, expected);
    own = event_of(m, e->seq);
    assert_int_equal(e->kind, own->kind);
    if (event_is_output(e)) {
        assert_int_equal(e->offset, own->offset);
        assert_int_equal(e->data_len, own->len);
        check_content(e);
    }
    return e->seq + 1;
}

static void read_from(const struct model *m, uint64_t from)
{
    struct reader r;
    struct journal_event e;
    uint64_t expected = from;

    reader_init(&r, m->dir, from, 0);
    while (reader_next(&r, true, &e) == READER_EVENT) {
        if (e.seq >= from)
            expected = check_event(m, &e, expected);
    }
    assert_int_equal(expected, m->n + 1 > from ? m->n + 1 : from);
    reader_deinit(&r);
}

/* --- views: whole lines resumed anywhere, and tails --- */

static void view_from(const struct model *m, const struct view_options *o, uint64_t from,
                      struct buf *to)
{
    struct reader r;
    struct view v;
    struct journal_event e;

    reader_init(&r, m->dir, from, 0);
    view_init(&v, o, from, META_FORMAT);
    reader_look_back(&r, &v);
    while (reader_next(&r, true, &e) == READER_EVENT)
        assert_true(view_take(&v, &e, r.frame, r.frame_len, to));
    view_deinit(&v);
    reader_deinit(&r);
}

static bool next_event(const struct buf *b, size_t *at, struct journal_event *e)
{
    size_t len;

    if (journal_parse(buf_data(b) + *at, buf_len(b) - *at, e, &len) != JOURNAL_FRAME)
        return false;
    *at += len;
    return true;
}

static bool same_event(const struct journal_event *a, const struct journal_event *b)
{
    return a->seq == b->seq && a->kind == b->kind && a->offset == b->offset &&
           a->data_len == b->data_len && memcmp(a->data, b->data, a->data_len) == 0;
}

/* A reader that starts anywhere sees what one that read everything sees. */
static void compare_views(const struct model *m, bool text)
{
    const struct view_options o = {.text = text, .lines = true, .streams = TAIL_ALL_STREAMS};
    uint64_t oldest = m->journal.segments.list[0].first_seq;
    uint64_t from = oldest + chance(m->n + 1 - oldest);
    AUTO(buf_deinit) struct buf all = BUF_INIT(64 << 20), some = BUF_INIT(64 << 20);
    struct journal_event a, b;
    size_t at_all = 0, at_some = 0;

    view_from(m, &o, oldest, &all);
    view_from(m, &o, from, &some);
    while (next_event(&some, &at_some, &b)) {
        do {
            assert_true(next_event(&all, &at_all, &a));
        } while (a.seq < b.seq);
        assert_true(same_event(&a, &b));
    }
    assert_int_equal(at_some, buf_len(&some));
}

/* Whole lines lose nothing: each stream is what it was, up to what is still held back. */
static void check_lines(const struct model *m)
{
    const struct view_options o = {.lines = true, .streams = TAIL_ALL_STREAMS};
    AUTO(buf_deinit) struct buf all = BUF_INIT(64 << 20);
    uint64_t next[STREAMS] = {0};
    bool known[STREAMS] = {false};
    struct journal_event e;
    size_t at = 0;

    view_from(m, &o, 1, &all);
    while (next_event(&all, &at, &e)) {
        int i = (int)e.kind - JOURNAL_STDOUT;

        if (e.kind == JOURNAL_DROPPED)
            known[0] = known[1] = known[2] = false;
        if (!event_is_output(&e))
            continue;
        if (known[i])
            assert_int_equal(e.offset, next[i]);
        known[i] = true;
        next[i] = e.offset + e.data_len;
        check_content(&e);
    }
    assert_int_equal(at, buf_len(&all));
}

static void check_tail(const struct model *m)
{
    struct tail_options o = {
        .unit = TAIL_BYTES, .amount = chance(200000), .streams = TAIL_ALL_STREAMS};
    struct tail_place place;
    const uint64_t oldest = m->journal.segments.list[0].first_seq;
    uint64_t left = o.amount, seq = m->n;

    segments_tail(m->dir, &o, &place);
    for (; seq >= oldest && left > 0; seq--) {
        const struct event *e = event_of(m, seq);
        bool output = e->kind >= JOURNAL_STDOUT && e->kind <= JOURNAL_TERMINAL;

        if (output && e->len > left) {
            assert_int_equal(place.first_seq, seq);
            assert_int_equal(place.begin[e->kind - JOURNAL_STDOUT], e->offset + e->len - left);
            return;
        }
        left -= output ? e->len : 0;
    }
    if (left > 0)
        assert_int_equal(place.first_seq, oldest);
    else
        assert_in_range(place.first_seq, oldest, seq + 1);
    o = (struct tail_options){.unit = TAIL_EVENTS, .amount = 1 + chance(m->n + 5)};
    segments_tail(m->dir, &o, &place);
    assert_int_equal(place.first_seq, m->n + 1 - oldest > o.amount ? m->n + 1 - o.amount : oldest);
}

/* --- the rounds --- */

static void check_all(struct model *m)
{
    read_from(m, 1);
    read_from(m, 1 + chance(m->n + 2));
    check_lines(m);
    for (int i = 0; i < 20; i++)
        compare_views(m, i % 2 == 0);
    check_tail(m);
}

static void run_round(int dir, uint32_t overflow)
{
    struct model m;

    open_model(&m, dir, overflow);
    for (int i = 0; i < STEPS; i++) {
        uint64_t what = chance(100);

        if (what < 90) {
            write_output(&m);
        } else if (what < 94) {
            lose_output(&m);
        } else if (what < 97) {
            crash(&m);
            set_offsets(&m);
        } else if (m.journal.lost_bytes == 0) {
            read_from(&m, 1 + chance(m.n + 2));
        }
    }
    check_all(&m);
    close_model(&m);
}

static uint64_t from_environment(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);

    return text != NULL && *text != '\0' ? strtoull(text, NULL, 10) : otherwise;
}

static void test_a_journal_is_what_was_written(void **state)
{
    uint64_t seed = from_environment("SEED", 1), rounds = from_environment("ROUNDS", 12);

    for (uint64_t i = 0; i < rounds; i++) {
        char path[] = "/tmp/sandboxd-property-XXXXXX";
        AUTO_CLOSE int dir = -1;

        chance_state = (seed + i) * 0x9e3779b97f4a7c15u + 1;
        assert_non_null(mkdtemp(path));
        dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        print_message("seed %llu\n", (unsigned long long)(seed + i));
        run_round(dir, (uint32_t)(1 + (seed + i) % 3));
        remove_flat_dir(AT_FDCWD, path);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_a_journal_is_what_was_written)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
