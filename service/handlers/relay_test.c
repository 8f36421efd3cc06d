#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/base/buf.h"
#include "common/base/cleanup.h"
#include "common/base/mem.h"
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_split_gives_every_event_once),
        cmocka_unit_test(test_a_cut_frame_is_read_again),
        cmocka_unit_test(test_gap_repeat_and_garbage_are_corrupt),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
