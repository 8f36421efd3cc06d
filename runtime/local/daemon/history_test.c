/* What is remembered of sandboxes: metrics in their steps, notes in their bounds, ended ones. */
#include "common/base/clock.h"
#include "runtime/local/daemon/history.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define N(array) (sizeof(array) / sizeof((array)[0]))

enum { HOUR = 3600, DAY = 24 * HOUR };

/* ---- metrics ---- */

struct seen {
    size_t n;
    struct sample first, last;
    bool rising;
};

static void see(void *ctx, const struct sample *sample)
{
    struct seen *s = ctx;

    if (s->n++ == 0) {
        s->first = *sample;
        s->rising = true;
    } else {
        s->rising = s->rising && sample->at_s > s->last.at_s;
    }
    s->last = *sample;
}

static struct seen look(const struct series *s, int64_t start_s, int64_t end_s)
{
    struct seen seen = {0};

    series_range(s, start_s, end_s, see, &seen);
    return seen;
}

static void test_series_steps_are_e2bs(void **state)
{
    static const struct {
        int64_t range_s;
        int step_s;
    } cases[] = {
        {0, 5},           {HOUR - 1, 5},  {HOUR, 30}, {6 * HOUR - 1, 30}, {6 * HOUR, 60},
        {12 * HOUR, 120}, {DAY - 1, 120}, {DAY, 300}, {7 * DAY - 1, 300}, {7 * DAY, 900},
        {90 * DAY, 900},
    };

    for (size_t i = 0; i < N(cases); i++)
        assert_int_equal(series_step_s(cases[i].range_s), cases[i].step_s);
}

/* Two days of samples every five seconds. */
static void test_series_shows_ranges_in_their_steps_and_stays_bounded(void **state)
{
    struct series s = {0};
    const int64_t begin = 1795238100; /* whole in every step */
    const int64_t end = begin + 2 * DAY;
    size_t kept = 0;
    struct seen seen;

    for (int64_t t = begin; t < end; t += 5)
        series_add(&s, &(struct sample){
                           .at_s = t, .cpu_percent = (t / 5) % 2 ? 30 : 10, .memory_used = t});
    assert_int_equal(series_begin_s(&s), begin);
    assert_int_equal(series_newest(&s)->at_s, end - 5);

    seen = look(&s, end - 600, end);
    assert_int_equal(seen.n, 120);
    assert_true(seen.rising);

    seen = look(&s, end - 2 * HOUR, end);
    assert_int_equal(seen.n, 2 * HOUR / 30);
    assert_true(seen.rising);
    assert_true(seen.first.cpu_percent > 19.9 && seen.first.cpu_percent < 20.1); /* the mean */
    assert_int_equal(seen.first.memory_used, seen.first.at_s + 25);              /* the last */

    seen = look(&s, begin, end);
    assert_int_equal(seen.n, 2 * DAY / 300);
    assert_int_equal(seen.first.at_s, begin);
    assert_true(seen.rising);

    seen = look(&s, end + 5, end + 10);
    assert_int_equal(seen.n, 0);
    for (size_t i = 0; i < SERIES_STEPS; i++)
        kept += s.rings[i].size;
    assert_true(kept <= 4 * 720 + 2016 + 2880);
    series_deinit(&s);
}

static void test_series_survives_a_clock_set_back(void **state)
{
    struct series s = {0};
    struct seen seen;

    series_add(&s, &(struct sample){.at_s = 10000, .memory_used = 1});
    series_add(&s, &(struct sample){.at_s = 9000, .memory_used = 2});
    series_add(&s, &(struct sample){.at_s = 10005, .memory_used = 3});
    seen = look(&s, 0, 20000);
    assert_true(seen.rising);
    assert_int_equal(seen.last.memory_used, 3);
    assert_int_equal(series_newest(&s)->at_s, 10005);
    series_deinit(&s);
}

/* ---- notes ---- */

struct found {
    char text[256]; /* all messages, with a space behind each */
    size_t n;
};

static void gather(void *ctx, const struct note *note)
{
    struct found *f = ctx;

    f->n++;
    if (strlen(f->text) + strlen(note->message) + 2 < sizeof(f->text))
        strcat(strcat(f->text, note->message), " ");
}

static void test_notes_are_found_by_time_level_text_and_direction(void **state)
{
    static const struct {
        struct note_query q;
        const char *text;
    } cases[] = {
        {{.to_ns = INT64_MAX, .limit = 10}, "one two three four "},
        {{.to_ns = INT64_MAX, .limit = 10, .backward = true}, "four three two one "},
        {{.to_ns = INT64_MAX, .limit = 2}, "one two "},
        {{.to_ns = INT64_MAX, .limit = 2, .backward = true}, "four three "},
        {{.to_ns = INT64_MAX, .limit = 0}, ""},
        {{.from_ns = 20, .to_ns = 40, .limit = 10}, "two three "},
        {{.to_ns = INT64_MAX, .limit = 10, .level = NOTE_WARN}, "three four "},
        {{.to_ns = INT64_MAX, .limit = 1, .level = NOTE_WARN}, "three "},
        {{.to_ns = INT64_MAX, .limit = 10, .search = "o"}, "one two four "},
        {{.to_ns = INT64_MAX, .limit = 10, .search = "O"}, ""},
    };
    struct logbook b;

    logbook_init(&b);
    /* Not in the order of time. */
    logbook_add(&b, 20, NOTE_INFO, "two", NULL, 0);
    logbook_add(&b, 10, NOTE_DEBUG, "one", NULL, 0);
    logbook_add(&b, 40, NOTE_ERROR, "four", NULL, 0);
    logbook_add(&b, 30, NOTE_WARN, "three", NULL, 0);
    for (size_t i = 0; i < N(cases); i++) {
        struct found f = {.n = 0};

        logbook_find(&b, &cases[i].q, gather, &f);
        assert_string_equal(f.text, cases[i].text);
    }
    logbook_deinit(&b);
    assert_int_equal(b.bytes, 0);
}

static void check_fields(void *ctx, const struct note *note)
{
    assert_int_equal(note->n_fields, 2);
    assert_string_equal(note->fields[0].name, "a");
    assert_string_equal(note->fields[0].value, "1");
    assert_string_equal(note->fields[1].value, "");
}

static void test_notes_keep_their_fields(void **state)
{
    const struct note_field fields[] = {{"a", "1"}, {"b", ""}};
    const struct note_query all = {.to_ns = INT64_MAX, .limit = 1};
    struct logbook b;

    logbook_init(&b);
    logbook_add(&b, 1, NOTE_INFO, "m", fields, N(fields));
    logbook_find(&b, &all, check_fields, NULL);
    logbook_deinit(&b);
}

static void test_notes_are_bounded(void **state)
{
    const struct note_query oldest = {.to_ns = INT64_MAX, .limit = 1};
    struct found f = {.n = 0};
    char message[1000];
    struct logbook b;

    logbook_init(&b);
    for (int i = 0; i < 5000; i++) {
        snprintf(message, sizeof(message), "n%d", i);
        logbook_add(&b, i, NOTE_INFO, message, NULL, 0);
    }
    assert_int_equal(b.n, LOGBOOK_NOTES_MAX);
    logbook_find(&b, &oldest, gather, &f);
    assert_string_equal(f.text, "n3000 ");
    memset(message, 'x', sizeof(message) - 1);
    message[sizeof(message) - 1] = '\0';
    for (int i = 5000; i < 7000; i++)
        logbook_add(&b, i, NOTE_INFO, message, NULL, 0);
    assert_true(b.bytes <= LOGBOOK_BYTES_MAX);
    assert_true(b.n > LOGBOOK_BYTES_MAX / 2 / sizeof(message));
    logbook_deinit(&b);
}

/* ---- histories ---- */

static void test_the_last_ended_are_remembered(void **state)
{
    struct histories h;
    struct history *living;
    char id[SANDBOX_ID_LEN + 1];

    histories_init(&h);
    living = history_open(&h, "ialive");
    assert_ptr_equal(history_open(&h, "ialive"), living);
    for (int i = 0; i < HISTORY_ENDED_MAX + 10; i++) {
        snprintf(id, sizeof(id), "i%d", i);
        history_close(&h, history_open(&h, id));
    }
    assert_ptr_equal(history_find(&h, "ialive"), living);
    assert_null(history_find(&h, "i9"));
    assert_non_null(history_find(&h, "i10"));
    assert_null(history_find(&h, "inever"));

    /* One that is there again is not forgotten. */
    history_open(&h, "i10");
    for (int i = 0; i < HISTORY_ENDED_MAX; i++) {
        snprintf(id, sizeof(id), "j%d", i);
        history_close(&h, history_open(&h, id));
    }
    assert_non_null(history_find(&h, "i10"));
    assert_null(history_find(&h, "i11"));
    histories_deinit(&h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_series_steps_are_e2bs),
        cmocka_unit_test(test_series_shows_ranges_in_their_steps_and_stays_bounded),
        cmocka_unit_test(test_series_survives_a_clock_set_back),
        cmocka_unit_test(test_notes_are_found_by_time_level_text_and_direction),
        cmocka_unit_test(test_notes_keep_their_fields),
        cmocka_unit_test(test_notes_are_bounded),
        cmocka_unit_test(test_the_last_ended_are_remembered),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
