#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/base/buf.h"
#include "common/base/cleanup.h"
#include "common/base/mem.h"
#include "common/journal/pb.h"
#include "common/journal/verbs.h"
#include "recorder/v1/recorder.pb-c.h"
#include "sandbox/v1/commands.pb-c.h"
#include "service/handlers/relay_all.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A message as the watcher writes it: output events first to last of a command. */
static void add_message(struct buf *to, const char *id, uint64_t first, uint64_t last,
                        const char *cursor)
{
    AUTO(buf_deinit) struct buf m = BUF_INIT(1 << 20);
    uint8_t frame[JOURNAL_FRAME_MAX];

    for (uint64_t seq = first; seq <= last; seq++) {
        buf_append(&m, frame, journal_encode_output_header(frame, seq, 1, 0, JOURNAL_STDOUT, 2));
        buf_append(&m, "x\n", 2);
    }
    if (id != NULL) {
        pb_add_uint(&m, 2, last);
        pb_add_bytes(&m, 3, id, strlen(id));
    }
    if (cursor != NULL)
        pb_add_bytes(&m, 4, cursor, strlen(cursor));
    pb_add_element(to, 1, buf_data(&m), buf_len(&m));
}

/* What one message said: "a1-3" and its cursor. */
struct said {
    char text[64], cursor[64];
};

static enum relay_result next(struct relay_all *r, struct said *ret)
{
    uint8_t *data;
    size_t len;
    enum relay_result result = relay_all_next(r, &data, &len);
    Sandbox__V1__LogsResponse *m;

    *ret = (struct said){0};
    if (result != RELAY_MESSAGE)
        return result;
    m = sandbox__v1__logs_response__unpack(NULL, len, data);
    assert_non_null(m);
    if (m->n_events > 0)
        snprintf(ret->text, sizeof(ret->text), "%s%d-%d", m->command_id, (int)m->events[0]->seq,
                 (int)m->events[m->n_events - 1]->seq);
    snprintf(ret->cursor, sizeof(ret->cursor), "%.*s", (int)m->cursor.len, m->cursor.data);
    sandbox__v1__logs_response__free_unpacked(m, NULL);
    free(data);
    return result;
}

static void expect(struct relay_all *r, const char *text, const char *cursor)
{
    struct said said;

    assert_int_equal(next(r, &said), RELAY_MESSAGE);
    assert_string_equal(said.text, text);
    assert_string_equal(said.cursor, cursor);
}

static void test_messages_pass_at_every_split(void **state)
{
    AUTO(buf_deinit) struct buf b = BUF_INIT(1 << 20);
    const uint8_t end[] = {FOLLOW_MARK_END, 1};

    add_message(&b, "a", 1, 3, "c1");
    add_message(&b, "b", 1, 1, NULL);
    add_message(&b, "a", 4, 4, "c2");
    add_message(&b, NULL, 1, 0, "c3");
    buf_append(&b, end, sizeof(end));
    for (size_t cut = 0; cut <= buf_len(&b); cut++) {
        struct relay_all r;
        struct said said;
        char all[256] = "";

        relay_all_init(&r, false);
        for (int half = 0; half < 2; half++) {
            assert_true(relay_all_feed(&r, buf_data(&b) + (half == 0 ? 0 : cut),
                                       half == 0 ? cut : buf_len(&b) - cut));
            while (next(&r, &said) == RELAY_MESSAGE) {
                strcat(strcat(all, said.text), said.cursor);
                strcat(all, " ");
            }
        }
        assert_string_equal(all, "a1-3c1 b1-1 a4-4c2 c3 ");
        assert_true(r.complete);
        assert_memory_equal(r.cursor, "c3", 2);
        assert_int_equal(r.output, 2 * 5);
        relay_all_deinit(&r);
    }
}

/* A watcher that goes on from an older cursor repeats what came behind it. */
static void test_what_came_before_is_taken_out(void **state)
{
    AUTO(buf_deinit) struct buf b = BUF_INIT(1 << 20);
    struct relay_all r;

    relay_all_init(&r, false);
    add_message(&b, "a", 1, 5, "c1");
    add_message(&b, "a", 1, 5, NULL);
    add_message(&b, "a", 3, 8, NULL);
    add_message(&b, "a", 2, 2, "c2");
    relay_all_feed(&r, buf_data(&b), buf_len(&b));
    expect(&r, "a1-5", "c1");
    expect(&r, "a6-8", "");
    expect(&r, "", "c2");
    relay_all_deinit(&r);
}

static void test_gaps_are_corrupt_unless_events_are_left_out(void **state)
{
    for (int sparse = 0; sparse < 2; sparse++) {
        AUTO(buf_deinit) struct buf b = BUF_INIT(1 << 20);
        struct relay_all r;
        struct said said;

        relay_all_init(&r, sparse != 0);
        add_message(&b, "a", 4, 5, NULL); /* where it starts is not known before */
        add_message(&b, "a", 7, 7, NULL);
        relay_all_feed(&r, buf_data(&b), buf_len(&b));
        expect(&r, "a4-5", "");
        assert_int_equal(next(&r, &said), sparse != 0 ? RELAY_MESSAGE : RELAY_CORRUPT);
        relay_all_deinit(&r);
    }
}

static void pack_cursor(const char *id, uint64_t last_seq, struct buf *to)
{
    Recorder__V1__WatchCursor c = RECORDER__V1__WATCH_CURSOR__INIT;
    Recorder__V1__WatchCursor__Entry entry = RECORDER__V1__WATCH_CURSOR__ENTRY__INIT;
    Recorder__V1__WatchCursor__Entry *entries[] = {&entry};
    uint8_t bytes[256];

    entry.command_id = (char *)id;
    entry.last_seq = last_seq;
    c.entries = entries;
    c.n_entries = 1;
    buf_append(to, bytes, recorder__v1__watch_cursor__pack(&c, bytes));
}

static void test_a_cursor_says_where_to_go_on(void **state)
{
    AUTO(buf_deinit) struct buf cursor = BUF_INIT(256), bad = BUF_INIT(256), b = BUF_INIT(4096);
    struct relay_all r;
    struct said said;

    pack_cursor("a", 7, &cursor);
    pack_cursor("no/id", 7, &bad);
    relay_all_init(&r, false);
    assert_false(relay_all_set_cursor(&r, buf_data(&bad), buf_len(&bad)));
    assert_false(relay_all_set_cursor(&r, (const uint8_t *)"\xff\xff", 2));
    assert_true(relay_all_set_cursor(&r, buf_data(&cursor), buf_len(&cursor)));
    add_message(&b, "a", 6, 9, NULL);
    add_message(&b, "a", 11, 11, NULL);
    relay_all_feed(&r, buf_data(&b), buf_len(&b));
    expect(&r, "a8-9", "");
    assert_int_equal(next(&r, &said), RELAY_CORRUPT);
    relay_all_deinit(&r);
}

static void test_what_is_no_message_is_corrupt(void **state)
{
    static const struct {
        const char *bytes;
        size_t len;
    } cases[] = {
        {"\x0b\x00", 2},                 /* another tag */
        {"\x0a\xff\xff\xff\xff\x0f", 6}, /* larger than any message */
        {"\x0a\x02\x18\x01", 4},         /* an id that is a number */
        {"\x0a\x03\x1a\x01/", 5},        /* one that is none */
        {"\x0a\x03\x1a\x01"
         "a",
         5},                             /* an id without events */
        {"\x0a\x02\x28\x01", 4},         /* a field that is not a watcher's */
        {"\x0a\x04\x22\x00\x0a\x00", 6}, /* events behind the rest */
        {"\x0a\x02\x0a\x00", 4},         /* events without an id */
        {"\x0a\x02\x0a\x05", 4},         /* torn inside */
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct relay_all r;
        struct said said;

        relay_all_init(&r, false);
        assert_true(relay_all_feed(&r, (const uint8_t *)cases[i].bytes, cases[i].len));
        assert_int_equal(next(&r, &said), RELAY_CORRUPT);
        relay_all_deinit(&r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_messages_pass_at_every_split),
        cmocka_unit_test(test_what_came_before_is_taken_out),
        cmocka_unit_test(test_gaps_are_corrupt_unless_events_are_left_out),
        cmocka_unit_test(test_a_cursor_says_where_to_go_on),
        cmocka_unit_test(test_what_is_no_message_is_corrupt),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
