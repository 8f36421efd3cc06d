#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "client/many.h"
#include "client/resume.h"

#include <stdio.h>

enum { START_MS = 1000000 };

static const struct resume_policy two = {
    .n_addresses = 2, .give_up_ms = 10000, .backoff_min_ms = 100, .backoff_max_ms = 1000};
static const struct sandbox_error lost = {.code = SANDBOX_UNAVAILABLE};

/* The longest wait that chance allows; the shortest is half of it. */
static int64_t longest(int64_t ms)
{
    return ms / 2;
}

static void test_the_first_failure_goes_to_the_next_address_at_once(void **state)
{
    struct resume r;

    resume_init(&r, &two, 0);

    struct resume_step step = resume_failed(&r, &lost, START_MS, 12345);

    assert_int_equal(step.what, RESUME_AGAIN);
    assert_int_equal(step.wait_ms, 0);
    assert_int_equal(r.address, 1);
}

static void test_waits_double_up_to_the_longest(void **state)
{
    static const int64_t full[] = {0, 100, 200, 400, 800, 1000, 1000};
    struct resume shortest, longer;

    resume_init(&shortest, &two, 0);
    resume_init(&longer, &two, 0);
    for (size_t i = 0; i < sizeof(full) / sizeof(full[0]); i++) {
        assert_int_equal(resume_failed(&shortest, &lost, START_MS, 0).wait_ms, full[i] / 2);
        assert_int_equal(
            resume_failed(&longer, &lost, START_MS, (uint32_t)longest(full[i])).wait_ms, full[i]);
        assert_int_equal(shortest.address, (i + 1) % 2);
    }
}

static void test_one_address_is_not_hammered(void **state)
{
    struct resume_policy one = two;
    struct resume r;

    one.n_addresses = 1;
    resume_init(&r, &one, 0);
    assert_int_equal(resume_failed(&r, &lost, START_MS, 0).wait_ms, 50);
    assert_int_equal(r.address, 0);
}

static void test_progress_forgets_the_failures(void **state)
{
    struct resume r;

    resume_init(&r, &two, 1);
    for (int i = 0; i < 5; i++)
        resume_failed(&r, &lost, START_MS, 0);
    resume_progress(&r);
    assert_int_equal(resume_failed(&r, &lost, START_MS + 9999999, 0).what, RESUME_AGAIN);
    assert_int_equal(r.n_failed, 1);
}

static void test_it_gives_up_when_the_time_is_over(void **state)
{
    struct resume r;
    int64_t now = START_MS;
    int n = 0;

    resume_init(&r, &two, 0);
    for (;; n++) {
        struct resume_step step = resume_failed(&r, &lost, now, 0);

        if (step.what == RESUME_GIVE_UP)
            break;
        now += step.wait_ms;
        assert_true(now < START_MS + two.give_up_ms);
        assert_true(n < 1000);
    }
    assert_true(n > 10);
    assert_true(now > START_MS + two.give_up_ms - two.backoff_max_ms);
}

static void test_it_waits_as_long_as_the_server_asks(void **state)
{
    struct sandbox_error busy = lost;
    struct resume r;

    busy.retry_after_ms = 3000;
    resume_init(&r, &two, 0);
    assert_int_equal(resume_failed(&r, &busy, START_MS, 0).wait_ms, 3000);
    busy.retry_after_ms = 10000;
    assert_int_equal(resume_failed(&r, &busy, START_MS + 3000, 0).what, RESUME_GIVE_UP);
}

/* ---- sequences: each case is a conversation, an event and what is made of it per line ---- */

struct line {
    uint64_t seq;
    uint64_t dropped_from; /* 0: an ordinary event */
    enum sequence_verdict verdict;
};

static const struct conversation {
    const char *what;
    uint64_t from_seq;
    struct line lines[6];
} conversations[] = {
    {"in order", 0, {{1, 0, SEQUENCE_NEW}, {2, 0, SEQUENCE_NEW}, {3, 0, SEQUENCE_NEW}}},
    {"0 and 1 are the same", 1, {{1, 0, SEQUENCE_NEW}}},
    {"from the middle", 7, {{7, 0, SEQUENCE_NEW}, {8, 0, SEQUENCE_NEW}}},
    {"too early", 7, {{6, 0, SEQUENCE_REPEATED}, {7, 0, SEQUENCE_NEW}}},
    {"too late", 7, {{8, 0, SEQUENCE_GAP}}},
    {"a gap", 0, {{1, 0, SEQUENCE_NEW}, {3, 0, SEQUENCE_GAP}}},
    {"a gap does not count as delivered",
     0,
     {{1, 0, SEQUENCE_NEW}, {3, 0, SEQUENCE_GAP}, {2, 0, SEQUENCE_NEW}, {3, 0, SEQUENCE_NEW}}},
    {"sent again",
     0,
     {{1, 0, SEQUENCE_NEW},
      {2, 0, SEQUENCE_NEW},
      {1, 0, SEQUENCE_REPEATED},
      {2, 0, SEQUENCE_REPEATED},
      {3, 0, SEQUENCE_NEW}}},
    {"seq 0 is none", 0, {{0, 0, SEQUENCE_REPEATED}, {1, 0, SEQUENCE_NEW}}},
    {"dropped ones are told",
     0,
     {{1, 0, SEQUENCE_NEW}, {9, 2, SEQUENCE_NEW}, {10, 0, SEQUENCE_NEW}}},
    {"dropped from the start", 0, {{9, 1, SEQUENCE_NEW}, {10, 0, SEQUENCE_NEW}}},
    {"dropped with a gap in front", 0, {{1, 0, SEQUENCE_NEW}, {9, 3, SEQUENCE_GAP}}},
    {"dropped and delivered",
     0,
     {{1, 0, SEQUENCE_NEW}, {2, 0, SEQUENCE_NEW}, {9, 2, SEQUENCE_GAP}}},
    {"dropped told again", 0, {{9, 1, SEQUENCE_NEW}, {9, 1, SEQUENCE_REPEATED}}},
    {"dropped backwards", 0, {{3, 4, SEQUENCE_GAP}}},
};

static enum sequence_verdict say(struct sequence *s, const struct line *line)
{
    Sandbox__V1__Dropped dropped = SANDBOX__V1__DROPPED__INIT;
    Sandbox__V1__CommandEvent event;

    sandbox__v1__command_event__init(&event);
    event.seq = line->seq;
    if (line->dropped_from != 0) {
        dropped.first_seq = line->dropped_from;
        dropped.last_seq = line->seq;
        event.event_case = SANDBOX__V1__COMMAND_EVENT__EVENT_DROPPED;
        event.dropped = &dropped;
    }
    return sequence_event(s, &event);
}

static void test_each_event_is_taken_once_and_in_order(void **state)
{
    for (size_t i = 0; i < sizeof(conversations) / sizeof(conversations[0]); i++) {
        const struct conversation *c = &conversations[i];
        struct sequence s;
        size_t n = 0;

        sequence_init(&s, c->from_seq);
        for (; n < 6 && (n == 0 || c->lines[n].seq != 0); n++) {
            enum sequence_verdict verdict = say(&s, &c->lines[n]);

            if (verdict != c->lines[n].verdict)
                fail_msg("%s: line %zu is %d, not %d", c->what, n, verdict, c->lines[n].verdict);
        }
    }
}

static void test_a_dropped_event_must_agree_with_itself(void **state)
{
    Sandbox__V1__Dropped dropped = SANDBOX__V1__DROPPED__INIT;
    Sandbox__V1__CommandEvent event;
    struct sequence s;

    sandbox__v1__command_event__init(&event);
    event.event_case = SANDBOX__V1__COMMAND_EVENT__EVENT_DROPPED;
    event.dropped = &dropped;
    event.seq = 5;
    dropped.first_seq = 1;
    dropped.last_seq = 4;
    sequence_init(&s, 1);
    assert_int_equal(sequence_event(&s, &event), SEQUENCE_GAP);
    assert_int_equal(s.last_seq, 0);
}

static void test_a_message_cannot_claim_more_than_it_brought(void **state)
{
    struct sequence s;

    sequence_init(&s, 5);
    assert_true(sequence_claim(&s, 0));
    assert_true(sequence_claim(&s, 4));
    assert_false(sequence_claim(&s, 5));
    say(&s, &(struct line){.seq = 5});
    assert_true(sequence_claim(&s, 5));
}

/* Where events are left out, a gap is none; what was delivered does not come twice all the same. */
static void test_a_sparse_stream_may_leave_events_out(void **state)
{
    struct sequence s;

    sequence_init(&s, 1);
    s.sparse = true;
    assert_int_equal(say(&s, &(struct line){.seq = 5}), SEQUENCE_NEW);
    assert_int_equal(say(&s, &(struct line){.seq = 9}), SEQUENCE_NEW);
    assert_int_equal(say(&s, &(struct line){.seq = 7}), SEQUENCE_REPEATED);
    assert_int_equal(say(&s, &(struct line){.seq = 30, .dropped_from = 20}), SEQUENCE_NEW);
    assert_int_equal(say(&s, &(struct line){.seq = 40, .dropped_from = 25}), SEQUENCE_GAP);
    assert_true(sequence_claim(&s, 50)); /* those between were left out */
    assert_int_equal(s.last_seq, 50);
    assert_false(sequence_is_complete(&s, SANDBOX__V1__UNTIL__UNTIL_EXITED));
    s.partial = true; /* a limit, or a time, may end it */
    assert_true(sequence_is_complete(&s, SANDBOX__V1__UNTIL__UNTIL_CLOSED));
}

static enum sequence_verdict say_of(struct many *m, const char *id, uint64_t seq)
{
    Sandbox__V1__CommandEvent event;

    sandbox__v1__command_event__init(&event);
    event.seq = seq;
    return many_event(m, id, &event);
}

static void test_events_of_many_commands_are_told_apart(void **state)
{
    struct many m;

    many_init(&m, false, (const uint8_t *)"here", 4);
    assert_memory_equal(m.cursor, "here", 4);
    assert_int_equal(say_of(&m, "a", 3), SEQUENCE_NEW); /* where it starts is the cursor's affair */
    assert_int_equal(say_of(&m, "b", 1), SEQUENCE_NEW);
    assert_int_equal(say_of(&m, "a", 4), SEQUENCE_NEW);
    assert_int_equal(say_of(&m, "a", 4), SEQUENCE_REPEATED);
    assert_int_equal(say_of(&m, "b", 3), SEQUENCE_GAP);
    assert_int_equal(say_of(&m, "b", 2), SEQUENCE_NEW);
    /* The platform's lines are no command's. */
    assert_int_equal(say_of(&m, "", 0), SEQUENCE_NEW);
    assert_int_equal(say_of(&m, "", 0), SEQUENCE_NEW);
    many_set_cursor(&m, NULL, 0);
    assert_int_equal(m.cursor_len, 0);
    for (int i = 0; i < 100; i++) {
        char id[16];

        snprintf(id, sizeof(id), "c%d", i);
        assert_int_equal(say_of(&m, id, 1), SEQUENCE_NEW);
    }
    assert_int_equal(say_of(&m, "c0", 2), SEQUENCE_NEW);
    assert_int_equal(say_of(&m, "a", 5), SEQUENCE_NEW);
    many_deinit(&m);
}

static void end_with(struct sequence *s, uint64_t seq, int event_case)
{
    Sandbox__V1__CommandEvent event;

    sandbox__v1__command_event__init(&event);
    event.seq = seq;
    event.event_case = event_case;
    assert_int_equal(sequence_event(s, &event), SEQUENCE_NEW);
}

static void test_a_stream_is_complete_with_the_end_that_was_asked_for(void **state)
{
    const Sandbox__V1__Until exited = SANDBOX__V1__UNTIL__UNTIL_EXITED;
    const Sandbox__V1__Until closed = SANDBOX__V1__UNTIL__UNTIL_CLOSED;
    struct sequence s;

    sequence_init(&s, 1);
    assert_false(sequence_is_complete(&s, exited));
    say(&s, &(struct line){.seq = 1});
    assert_false(sequence_is_complete(&s, exited));
    end_with(&s, 2, SANDBOX__V1__COMMAND_EVENT__EVENT_EXITED);
    assert_true(sequence_is_complete(&s, exited));
    assert_true(sequence_is_complete(&s, SANDBOX__V1__UNTIL__UNTIL_UNSPECIFIED));
    assert_false(sequence_is_complete(&s, closed));
    end_with(&s, 3, SANDBOX__V1__COMMAND_EVENT__EVENT_CLOSED);
    assert_true(sequence_is_complete(&s, closed));
}

static void test_a_stream_from_behind_the_end_is_complete_when_empty(void **state)
{
    struct sequence s;

    sequence_init(&s, 100);
    assert_true(sequence_is_complete(&s, SANDBOX__V1__UNTIL__UNTIL_EXITED));
    say(&s, &(struct line){.seq = 100});
    assert_false(sequence_is_complete(&s, SANDBOX__V1__UNTIL__UNTIL_EXITED));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_first_failure_goes_to_the_next_address_at_once),
        cmocka_unit_test(test_waits_double_up_to_the_longest),
        cmocka_unit_test(test_one_address_is_not_hammered),
        cmocka_unit_test(test_progress_forgets_the_failures),
        cmocka_unit_test(test_it_gives_up_when_the_time_is_over),
        cmocka_unit_test(test_it_waits_as_long_as_the_server_asks),
        cmocka_unit_test(test_each_event_is_taken_once_and_in_order),
        cmocka_unit_test(test_a_dropped_event_must_agree_with_itself),
        cmocka_unit_test(test_a_message_cannot_claim_more_than_it_brought),
        cmocka_unit_test(test_a_sparse_stream_may_leave_events_out),
        cmocka_unit_test(test_events_of_many_commands_are_told_apart),
        cmocka_unit_test(test_a_stream_is_complete_with_the_end_that_was_asked_for),
        cmocka_unit_test(test_a_stream_from_behind_the_end_is_complete_when_empty),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
