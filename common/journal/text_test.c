#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/journal/text.h"

#include <stdlib.h>
#include <string.h>

enum { BYTES = 400, EVENTS_MAX = 64 };

static uint32_t seed = 123456789;

static uint32_t next_random(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 17;
    seed ^= seed << 5;
    return seed;
}

/* Pieces of UTF-8 and of what is none, in any order. */
static void fill(uint8_t *bytes)
{
    static const char *const pieces[] = {
        "a",    "\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x98\x80", "\xff",
        "\xc3", "\xe2\x82", "\xf0\x9f\x98", "\xed\xa0",         "\x80",
        "\n"};
    size_t n = 0;

    while (n < BYTES) {
        const char *piece = pieces[next_random() % (sizeof(pieces) / sizeof(pieces[0]))];
        size_t len = strlen(piece) < BYTES - n ? strlen(piece) : BYTES - n;

        memcpy(bytes + n, piece, len);
        n += len;
    }
}

/* Cuts the bytes into events at random places. */
static size_t cut(const uint8_t *bytes, struct journal_event *events)
{
    size_t n = 0, at = 0;

    while (at < BYTES) {
        size_t len = n + 1 == EVENTS_MAX ? BYTES - at : 1 + next_random() % 15;

        if (len > BYTES - at)
            len = BYTES - at;
        events[n] = (struct journal_event){.seq = n + 1,
                                           .offset = at,
                                           .kind = JOURNAL_STDERR,
                                           .data = bytes + at,
                                           .data_len = len};
        at += len;
        n++;
    }
    return n;
}

/* The texts of events from first on, one after the other. */
static size_t texts(struct text *t, const struct journal_event *events, size_t first, size_t n,
                    uint8_t *to)
{
    static uint8_t frame[JOURNAL_FRAME_MAX];
    size_t len = 0;

    for (size_t i = 0; i < n; i++) {
        struct journal_event e;
        size_t frame_len;

        if (i < first) {
            text_skip(t, &events[i], events[i].data_len == 0);
            continue;
        }
        frame_len = text_encode(t, &events[i], events[i].data_len == 0, frame);
        assert_int_equal(journal_parse(frame, frame_len, &e, &frame_len), JOURNAL_FRAME);
        assert_int_equal(e.kind, JOURNAL_TEXT);
        assert_int_equal(e.text_stream, 2);
        assert_int_equal(e.seq, events[i].seq);
        if (e.data_len > 0)
            memcpy(to + len, e.data, e.data_len);
        len += e.data_len;
    }
    return len;
}

static void test_text_does_not_depend_on_cuts(void **state)
{
    uint8_t bytes[BYTES], whole[4 * BYTES], parts[4 * BYTES];
    struct journal_event events[EVENTS_MAX];

    for (int round = 0; round < 2000; round++) {
        struct journal_event one = {
            .seq = 1, .kind = JOURNAL_STDERR, .data = bytes, .data_len = BYTES};
        struct text a = {0}, b = {0};
        size_t len;

        fill(bytes);
        len = texts(&a, &one, 0, 1, whole);
        assert_int_equal(texts(&b, events, 0, cut(bytes, events), parts), len);
        assert_memory_equal(whole, parts, len);
    }
}

/* What ends within a character is said at the end: the recorder writes an empty event there. */
static void test_an_empty_event_ends_a_cut_character(void **state)
{
    const struct journal_event events[] = {
        {.seq = 1, .kind = JOURNAL_STDERR, .data = (const uint8_t *)"e\342\202", .data_len = 3},
        {.seq = 2, .kind = JOURNAL_STDERR, .offset = 3, .data = (const uint8_t *)""},
        {.seq = 3, .kind = JOURNAL_STDERR, .offset = 3, .data = (const uint8_t *)"", .data_len = 0},
    };
    struct text whole = {0}, resumed = {0};
    uint8_t to[64];

    assert_int_equal(texts(&whole, events, 0, 3, to), 4);
    assert_memory_equal(to, "e\357\277\275", 4);
    assert_int_equal(texts(&resumed, events, 1, 3, to), 3);
    assert_memory_equal(to, "\357\277\275", 3);
}

static void test_text_is_the_same_after_a_resume(void **state)
{
    uint8_t bytes[BYTES], whole[4 * BYTES], rest[4 * BYTES];
    struct journal_event events[EVENTS_MAX];

    for (int round = 0; round < 200; round++) {
        struct text a = {0};
        size_t n, len;

        fill(bytes);
        n = cut(bytes, events);
        len = texts(&a, events, 0, n, whole);
        for (size_t first = 0; first <= n; first++) {
            struct text b = {0};
            size_t rest_len = texts(&b, events, first, n, rest);

            assert_true(rest_len <= len);
            assert_memory_equal(whole + len - rest_len, rest, rest_len);
        }
    }
}

static void test_a_gap_ends_what_was_cut(void **state)
{
    struct journal_event events[] = {
        {.seq = 1, .kind = JOURNAL_STDERR, .data = (const uint8_t *)"\xe2\x82", .data_len = 2},
        {.seq = 9,
         .offset = 100,
         .kind = JOURNAL_STDERR,
         .data = (const uint8_t *)"\xacx",
         .data_len = 2},
    };
    struct text t = {0};
    uint8_t out[64];

    assert_int_equal(texts(&t, events, 0, 2, out), 4);
    assert_memory_equal(out, "\xef\xbf\xbdx", 4);
}

static void test_an_event_that_is_too_large_is_refused(void **state)
{
    static uint8_t bytes[TEXT_EVENT_MAX + 1], frame[JOURNAL_FRAME_MAX];
    struct journal_event e = {
        .seq = 1, .kind = JOURNAL_STDOUT, .data = bytes, .data_len = sizeof(bytes)};
    struct text t = {0};

    assert_int_equal(text_encode(&t, &e, false, frame), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text_does_not_depend_on_cuts),
        cmocka_unit_test(test_an_empty_event_ends_a_cut_character),
        cmocka_unit_test(test_text_is_the_same_after_a_resume),
        cmocka_unit_test(test_a_gap_ends_what_was_cut),
        cmocka_unit_test(test_an_event_that_is_too_large_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
