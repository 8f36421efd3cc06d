#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/base/buf.h"
#include "common/base/cleanup.h"
#include "common/base/mem.h"
#include "common/journal/verbs.h"
#include "sandbox/v1/commands.pb-c.h"
#include "service/handlers/relay.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A journal: started, n lines of output, exited, closed. */
static void make_journal(struct buf *b, uint64_t n)
{
    uint8_t frame[JOURNAL_FRAME_MAX];
    uint64_t seq = 1, offset = 0;

    buf_append(b, frame, journal_encode_started(frame, seq++, 1000, 42));
    for (uint64_t i = 0; i < n; i++) {
        char line[32];
        size_t len = (size_t)snprintf(line, sizeof(line), "line %u\n", (unsigned)i);

        buf_append(b, frame,
                   journal_encode_output_header(frame, seq++, 1000, offset, JOURNAL_STDOUT, len));
        buf_append(b, line, len);
        offset += len;
    }
    buf_append(b, frame,
               journal_encode_exited(frame, seq++, 1000, &(struct journal_exit){.reason = 1}));
    buf_append(b, frame, journal_encode_closed(frame, seq++, 1000));
}

/* Feeds one block; unpacks a message as a client would and counts its events. */
static enum relay_result feed(struct relay *r, const uint8_t *data, size_t len, uint64_t *seen)
{
    size_t headroom = relay_headroom(r);
    AUTO_FREE uint8_t *block = xmalloc(headroom + len);
    uint8_t *start;
    size_t message_len;

    memcpy(block + headroom, data, len);

    enum relay_result result =
        relay_feed(r, block, len, *seen == 0 ? "c1" : NULL, &start, &message_len);

    if (result != RELAY_MESSAGE)
        return result;

    Sandbox__V1__RunCommandResponse *m =
        sandbox__v1__run_command_response__unpack(NULL, message_len, start);

    assert_non_null(m);
    assert_string_equal(m->command_id, *seen == 0 ? "c1" : "");
    assert_true(m->n_events > 0);
    for (size_t i = 0; i < m->n_events; i++)
        assert_int_equal(m->events[i]->seq, ++*seen);
    assert_int_equal(m->last_seq, *seen);
    sandbox__v1__run_command_response__free_unpacked(m, NULL);
    return result;
}

/* Feeds one block of a sparse stream; the numbers of its events. */
static size_t take(struct relay *r, const uint8_t *data, size_t len, uint64_t *seqs,
                   uint64_t *last_seq)
{
    size_t headroom = relay_headroom(r), message_len, n = 0;
    AUTO_FREE uint8_t *block = xmalloc(headroom + len);
    uint8_t *start;

    memcpy(block + headroom, data, len);
    switch (relay_feed(r, block, len, NULL, &start, &message_len)) {
    case RELAY_MESSAGE:
        break;
    case RELAY_NOTHING:
        return 0;
    case RELAY_CORRUPT:
        fail();
    }

    Sandbox__V1__RunCommandResponse *m =
        sandbox__v1__run_command_response__unpack(NULL, message_len, start);

    assert_non_null(m);
    assert_int_equal(m->base.n_unknown_fields, 0);
    for (; n < m->n_events; n++)
        seqs[n] = m->events[n]->seq;
    *last_seq = m->last_seq;
    sandbox__v1__run_command_response__free_unpacked(m, NULL);
    return n;
}

static void test_every_split_gives_every_event_once(void **state)
{
    AUTO(buf_deinit) struct buf journal = BUF_INIT(1 << 20);

    make_journal(&journal, 20);
    for (size_t cut = 0; cut <= buf_len(&journal); cut++) {
        struct relay r;
        uint64_t seen = 0;

        relay_init(&r, 0);
        assert_int_not_equal(feed(&r, buf_data(&journal), cut, &seen), RELAY_CORRUPT);
        assert_int_not_equal(feed(&r, buf_data(&journal) + cut, buf_len(&journal) - cut, &seen),
                             RELAY_CORRUPT);
        assert_int_equal(seen, 23);
        assert_true(r.check.exited);
        assert_true(r.check.closed);
        assert_int_equal(r.rest_len, 0);
        relay_deinit(&r);
    }
}

static void test_a_cut_frame_is_read_again(void **state)
{
    AUTO(buf_deinit) struct buf journal = BUF_INIT(1 << 20);
    struct relay r;
    uint64_t seen = 0;
    uint8_t frame[JOURNAL_FRAME_MAX];
    size_t started = journal_encode_started(frame, 1, 1000, 42);

    make_journal(&journal, 1);
    relay_init(&r, 1);
    assert_int_equal(feed(&r, buf_data(&journal), started + 3, &seen), RELAY_MESSAGE);
    assert_int_equal(r.rest_len, 3);
    relay_cut(&r);
    assert_int_equal(r.check.last_seq, 1);
    assert_int_equal(feed(&r, buf_data(&journal) + started, buf_len(&journal) - started, &seen),
                     RELAY_MESSAGE);
    assert_int_equal(seen, 4);
    relay_deinit(&r);
}

static void test_gap_repeat_and_garbage_are_corrupt(void **state)
{
    uint8_t frame[JOURNAL_FRAME_MAX];
    struct relay r;
    uint64_t seen = 0;

    relay_init(&r, 5);
    assert_int_equal(feed(&r, frame, journal_encode_closed(frame, 6, 1), &seen), RELAY_CORRUPT);
    relay_deinit(&r);

    relay_init(&r, 5);
    assert_int_equal(feed(&r, frame, journal_encode_closed(frame, 4, 1), &seen), RELAY_CORRUPT);
    relay_deinit(&r);

    relay_init(&r, 1);
    assert_int_equal(feed(&r, (const uint8_t *)"rm -rf /\n", 9, &seen), RELAY_CORRUPT);
    relay_deinit(&r);
}

/* Marks stand between the frames of a block, and are cut in two like these. */
static void test_marks_move_on_and_are_not_passed(void **state)
{
    AUTO(buf_deinit) struct buf b = BUF_INIT(4096);
    uint8_t frame[JOURNAL_FRAME_MAX];
    const uint8_t seen_300[] = {FOLLOW_MARK_SEEN, 0xac, 0x02}, end[] = {FOLLOW_MARK_END, 1};

    buf_append(&b, frame, journal_encode_started(frame, 1, 1000, 42));
    buf_append(&b, frame, journal_encode_dropped(frame, 1000, 5, 9, 1));
    buf_append(&b, seen_300, sizeof(seen_300));
    buf_append(&b, frame, journal_encode_closed(frame, 301, 1000));
    buf_append(&b, end, sizeof(end));
    for (size_t cut = 0; cut <= buf_len(&b); cut++) {
        uint64_t seqs[8], last_seq = 0;
        size_t n = 0;
        struct relay r;

        relay_init(&r, 1);
        r.check.sparse = true;
        n += take(&r, buf_data(&b), cut, seqs + n, &last_seq);
        n += take(&r, buf_data(&b) + cut, buf_len(&b) - cut, seqs + n, &last_seq);
        assert_int_equal(n, 3);
        assert_int_equal(seqs[0] + seqs[1] + seqs[2], 1 + 9 + 301);
        assert_int_equal(last_seq, 301);
        assert_true(r.complete);
        relay_deinit(&r);
    }
}

static void test_marks_do_not_lie(void **state)
{
    static const struct {
        bool sparse;
        uint8_t bytes[4];
        size_t len;
        enum relay_result result;
    } cases[] = {
        {true, {FOLLOW_MARK_SEEN, 9}, 2, RELAY_NOTHING},
        {true, {FOLLOW_MARK_SEEN, 4}, 2, RELAY_CORRUPT},  /* back */
        {false, {FOLLOW_MARK_SEEN, 9}, 2, RELAY_CORRUPT}, /* nothing may be left out */
        {false, {FOLLOW_MARK_SEEN, 5}, 2, RELAY_NOTHING},
        {false, {FOLLOW_MARK_END, 0}, 2, RELAY_CORRUPT},
        {false, {FOLLOW_MARK_END, 1, FOLLOW_MARK_END}, 3, RELAY_NOTHING},
        {false, {FOLLOW_MARK_END, 1, JOURNAL_TAG, 0}, 4, RELAY_CORRUPT}, /* nothing behind it */
        {false, {0x1a, 1, 'x'}, 3, RELAY_CORRUPT},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct relay r;
        uint64_t seen = 0;

        relay_init(&r, 6);
        r.check.sparse = cases[i].sparse;
        assert_int_equal(feed(&r, cases[i].bytes, cases[i].len, &seen), cases[i].result);
        relay_deinit(&r);
    }
}

static void test_output_is_counted(void **state)
{
    AUTO(buf_deinit) struct buf journal = BUF_INIT(1 << 20);
    struct relay r;
    uint64_t seen = 0;

    make_journal(&journal, 10); /* "line 0" and so on */
    relay_init(&r, 1);
    feed(&r, buf_data(&journal), buf_len(&journal), &seen);
    assert_int_equal(r.output, 10 * 7);
    relay_deinit(&r);
}

/* Of a watch, output that clients could not read as a FileChange is no journal. */
static void test_changes_must_be_changes(void **state)
{
    static const struct {
        const char *payload;
        size_t len;
        bool is_one;
    } cases[] = {
        {"\x08\x01\x12\x01\x61", 5, true},                 /* CREATED a */
        {"\x08\x04\x12\x01\x61\x1a\x02\xc3\xa4", 9, true}, /* RENAMED a ä */
        {"", 0, true},
        {"\xf0\x06\x01", 3, true},      /* a field of a newer recorder */
        {"\x12\x01\xff", 3, false},     /* a path that is no text */
        {"\x1a\x01\xff", 3, false},     /* nor the other one */
        {"\x2a\x02\xc3\x28", 4, false}, /* nor the reason */
        {"\x12\x05\x61", 3, false},     /* a path longer than the rest */
        {"\x10\x01", 2, false},         /* a number for a path */
        {"\x0a\x01\x61", 3, false},     /* a text for a type */
        {"hello\n", 6, false},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        AUTO(buf_deinit) struct buf journal = BUF_INIT(JOURNAL_FRAME_MAX);
        AUTO(relay_deinit) struct relay r, plain;
        uint8_t header[JOURNAL_HEADER_MAX];
        uint64_t seen = 0, seen_plain = 0;

        buf_append(&journal, header,
                   journal_encode_output_header(header, 1, 1000, 0, JOURNAL_STDOUT, cases[i].len));
        buf_append(&journal, cases[i].payload, cases[i].len);
        relay_init(&r, 1);
        r.changes = true;
        assert_int_equal(feed(&r, buf_data(&journal), buf_len(&journal), &seen),
                         cases[i].is_one ? RELAY_MESSAGE : RELAY_CORRUPT);
        relay_init(&plain, 1);
        assert_int_equal(feed(&plain, buf_data(&journal), buf_len(&journal), &seen_plain),
                         RELAY_MESSAGE);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_split_gives_every_event_once),
        cmocka_unit_test(test_a_cut_frame_is_read_again),
        cmocka_unit_test(test_gap_repeat_and_garbage_are_corrupt),
        cmocka_unit_test(test_marks_move_on_and_are_not_passed),
        cmocka_unit_test(test_marks_do_not_lie),
        cmocka_unit_test(test_output_is_counted),
        cmocka_unit_test(test_changes_must_be_changes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
