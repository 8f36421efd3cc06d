/*
 * Tests of the journal codec: against protobuf-c, which has its own opinion of the same bytes, and
 * with damaged journals.
 */
#include "common/journal/journal.h"

#include "common/base/clock.h"
#include "sandbox/v1/commands.pb-c.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { STREAM_MAX = 256 * 1024 };

static const int64_t WHEN = 1700000000 * NS_PER_S + 123456789;

static size_t put_output(uint8_t *to, uint64_t seq, uint64_t offset, enum journal_kind kind,
                         const void *data, size_t len)
{
    size_t n = journal_encode_output_header(to, seq, WHEN, offset, kind, len);

    assert_true(n <= JOURNAL_HEADER_MAX);
    memcpy(to + n, data, len);
    return n + len;
}

static const struct journal_exit EXIT = {
    .reason = SANDBOX__V1__EXITED__REASON__REASON_SIGNALED,
    .code = 137,
    .signal = 9,
    .message = "gone \xe2\x82\xac",
    .cpu_ns = 3 * NS_PER_S + 5,
    .max_rss_bytes = 123456789,
};

/* One of each kind. */
static size_t make_stream(uint8_t *to)
{
    size_t n = 0;

    n += journal_encode_started(to + n, 1, WHEN, 4242);
    n += put_output(to + n, 2, 0, JOURNAL_STDOUT, "hello\n", 6);
    n += put_output(to + n, 3, 6, JOURNAL_STDOUT, "\xff\x00\x01", 3);
    n += put_output(to + n, 4, 0, JOURNAL_STDERR, "oops", 4);
    n += put_output(to + n, 5, 77, JOURNAL_TERMINAL, "", 0);
    n += journal_encode_text(to + n, 6, WHEN, 9, 2, (const uint8_t *)"t\xc3\xa9xt", 5);
    n += journal_encode_dropped(to + n, WHEN, 7, 1000, 1 << 30);
    n += journal_encode_exited(to + n, 1001, WHEN, &EXIT);
    n += journal_encode_closed(to + n, 1002, WHEN);
    return n;
}

static Sandbox__V1__RunCommandResponse *unpack(const uint8_t *data, size_t len)
{
    Sandbox__V1__RunCommandResponse *m = sandbox__v1__run_command_response__unpack(NULL, len, data);

    assert_non_null(m);
    return m;
}

static void test_protobuf_c_reads_what_we_write(void **state)
{
    uint8_t bytes[4096];
    Sandbox__V1__RunCommandResponse *m = unpack(bytes, make_stream(bytes));
    Sandbox__V1__CommandEvent **e = m->events;

    assert_int_equal(m->n_events, 9);
    for (size_t i = 0; i < m->n_events; i++) {
        assert_int_equal(e[i]->time->seconds, WHEN / NS_PER_S);
        assert_int_equal(e[i]->time->nanos, WHEN % NS_PER_S);
        assert_int_equal(e[i]->base.n_unknown_fields, 0);
    }
    assert_int_equal(e[0]->started->pid, 4242);
    assert_int_equal(e[2]->seq, 3);
    assert_int_equal(e[2]->offset, 6);
    assert_int_equal(e[2]->stdout.len, 3);
    assert_memory_equal(e[2]->stdout.data, "\xff\x00\x01", 3);
    assert_int_equal(e[3]->event_case, SANDBOX__V1__COMMAND_EVENT__EVENT_STDERR);
    assert_int_equal(e[4]->event_case, SANDBOX__V1__COMMAND_EVENT__EVENT_TERMINAL);
    assert_int_equal(e[5]->text->stream, SANDBOX__V1__STREAM__STREAM_STDERR);
    assert_string_equal(e[5]->text->text, "t\xc3\xa9xt");
    assert_int_equal(e[6]->seq, 1000);
    assert_int_equal(e[6]->dropped->first_seq, 7);
    assert_int_equal(e[6]->dropped->last_seq, 1000);
    assert_int_equal(e[6]->dropped->bytes, 1 << 30);
    assert_int_equal(e[7]->exited->reason, SANDBOX__V1__EXITED__REASON__REASON_SIGNALED);
    assert_int_equal(e[7]->exited->code, 137);
    assert_int_equal(e[7]->exited->signal, 9);
    assert_string_equal(e[7]->exited->message, EXIT.message);
    assert_int_equal(e[7]->exited->cpu_time->seconds, 3);
    assert_int_equal(e[7]->exited->cpu_time->nanos, 5);
    assert_int_equal(e[7]->exited->max_rss_bytes, EXIT.max_rss_bytes);
    assert_int_equal(e[8]->event_case, SANDBOX__V1__COMMAND_EVENT__EVENT_CLOSED);
    sandbox__v1__run_command_response__free_unpacked(m, NULL);
}

static void test_our_bytes_are_protobuf_c_s_bytes(void **state)
{
    uint8_t ours[4096], theirs[4096];
    size_t len = make_stream(ours);
    Sandbox__V1__RunCommandResponse *m = unpack(ours, len);

    assert_int_equal(sandbox__v1__run_command_response__pack(m, theirs), len);
    assert_memory_equal(ours, theirs, len);
    sandbox__v1__run_command_response__free_unpacked(m, NULL);
}

static void test_we_read_what_protobuf_c_writes(void **state)
{
    Google__Protobuf__Timestamp when = GOOGLE__PROTOBUF__TIMESTAMP__INIT;
    Sandbox__V1__CommandEvent event = SANDBOX__V1__COMMAND_EVENT__INIT, *events[] = {&event};
    Sandbox__V1__RunCommandResponse m = SANDBOX__V1__RUN_COMMAND_RESPONSE__INIT;
    uint8_t bytes[4096];
    struct journal_event e;
    size_t len;

    when.seconds = WHEN / NS_PER_S;
    when.nanos = WHEN % NS_PER_S;
    event.seq = UINT64_MAX - 1;
    event.time = &when;
    event.offset = (uint64_t)1 << 40;
    event.event_case = SANDBOX__V1__COMMAND_EVENT__EVENT_STDERR;
    event.stderr.data = (uint8_t *)"some bytes";
    event.stderr.len = 10;
    m.n_events = 1;
    m.events = events;

    size_t packed = sandbox__v1__run_command_response__pack(&m, bytes);

    assert_int_equal(journal_parse(bytes, packed, &e, &len), JOURNAL_FRAME);
    assert_int_equal(len, packed);
    assert_true(e.seq == event.seq);
    assert_int_equal(e.time_ns, WHEN);
    assert_true(e.offset == event.offset);
    assert_int_equal(e.kind, JOURNAL_STDERR);
    assert_int_equal(e.data_len, 10);
    assert_memory_equal(e.data, "some bytes", 10);
}

static void test_every_kind_is_parsed(void **state)
{
    static const struct {
        uint64_t seq, offset;
        enum journal_kind kind;
        size_t data_len;
    } want[] = {
        {1, 0, JOURNAL_STARTED, 3},     {2, 0, JOURNAL_STDOUT, 6},     {3, 6, JOURNAL_STDOUT, 3},
        {4, 0, JOURNAL_STDERR, 4},      {5, 77, JOURNAL_TERMINAL, 0},  {6, 9, JOURNAL_TEXT, 5},
        {1000, 0, JOURNAL_DROPPED, 11}, {1001, 0, JOURNAL_EXITED, 28}, {1002, 0, JOURNAL_CLOSED, 0},
    };
    struct journal_check check = {0};
    uint8_t bytes[4096];
    size_t len = make_stream(bytes), at = 0;

    for (size_t i = 0; i < sizeof(want) / sizeof(want[0]); i++) {
        struct journal_event e;
        size_t n;

        assert_int_equal(journal_parse(bytes + at, len - at, &e, &n), JOURNAL_FRAME);
        assert_int_equal(e.seq, want[i].seq);
        assert_int_equal(e.time_ns, WHEN);
        assert_int_equal(e.offset, want[i].offset);
        assert_int_equal(e.kind, want[i].kind);
        assert_int_equal(e.data_len, want[i].data_len);
        assert_true(journal_check_next(&check, &e));
        if (e.kind == JOURNAL_TEXT)
            assert_int_equal(e.text_stream, 2);
        if (e.kind == JOURNAL_DROPPED)
            assert_int_equal(e.dropped_bytes, 1 << 30);
        if (e.kind == JOURNAL_EXITED)
            assert_int_equal(e.exit_reason, EXIT.reason);
        at += n;
    }
    assert_int_equal(at, len);
    assert_true(check.exited && check.closed);
}

static void test_a_message_is_cut_between_characters(void **state)
{
    char message[3000];
    struct journal_exit exit = {.reason = 7, .message = message};
    uint8_t bytes[JOURNAL_EXITED_MAX];
    struct journal_event e;
    size_t len;

    for (size_t i = 0; i < sizeof(message) - 1; i += 3)
        memcpy(message + i, "\xe2\x82\xac", 3);
    message[sizeof(message) - 1] = '\0';
    message[2997] = '\0';
    len = journal_encode_exited(bytes, UINT64_MAX, INT64_MAX - NS_PER_S, &exit);
    assert_true(len <= sizeof(bytes));
    assert_int_equal(journal_parse(bytes, len, &e, &len), JOURNAL_FRAME);
    assert_true(e.data_len > 1000 && e.data_len < 1060);
}

static void test_the_largest_text_fits_a_frame(void **state)
{
    static uint8_t bytes[JOURNAL_FRAME_MAX], text[3 * (JOURNAL_PAYLOAD_MAX + 3)];
    struct journal_event e;
    size_t len;

    for (size_t i = 0; i < sizeof(text); i += 3)
        memcpy(text + i, "\xef\xbf\xbd", 3);
    len = journal_encode_text(bytes, UINT64_MAX, INT64_MAX - NS_PER_S, UINT64_MAX, 3, text,
                              sizeof(text));
    assert_true(len <= JOURNAL_FRAME_MAX);
    assert_int_equal(journal_parse(bytes, len, &e, &len), JOURNAL_FRAME);
    assert_int_equal(e.data_len, sizeof(text));
}

struct sample {
    const char *what;
    const char *bytes;
    size_t len;
    enum journal_result want;
};

#define SAMPLE(what, bytes, want)                                                                  \
    {                                                                                              \
        what, bytes, sizeof(bytes) - 1, want                                                       \
    }

static const struct sample samples[] = {
    SAMPLE("nothing", "", JOURNAL_PARTIAL),
    SAMPLE("a tag alone", "\x0a", JOURNAL_PARTIAL),
    SAMPLE("half a length", "\x0a\x80", JOURNAL_PARTIAL),
    SAMPLE("an empty event", "\x0a\x00", JOURNAL_FRAME),
    SAMPLE("another field of the response", "\x10\x01", JOURNAL_CORRUPT),
    SAMPLE("a length that is not minimal", "\x0a\x82\x00\x08\x01", JOURNAL_CORRUPT),
    SAMPLE("a length beyond the limit", "\x0a\xff\xff\x7f", JOURNAL_CORRUPT),
    SAMPLE("a length that will be beyond it", "\x0a\xff\xff\xff", JOURNAL_CORRUPT),
    SAMPLE("an unknown varint field", "\x0a\x05\x08\x01\x80\x01\x02", JOURNAL_FRAME),
    SAMPLE("an unknown bytes field", "\x0a\x06\x08\x01\x82\x01\x01x", JOURNAL_FRAME),
    SAMPLE("a group", "\x0a\x04\x08\x01\x63\x64", JOURNAL_CORRUPT),
    SAMPLE("seq as bytes", "\x0a\x03\x0a\x01\x01", JOURNAL_CORRUPT),
    SAMPLE("seq twice", "\x0a\x04\x08\x01\x08\x02", JOURNAL_CORRUPT),
    SAMPLE("two kinds of output",
           "\x0a\x06\x2a\x01"
           "a\x32\x01"
           "b",
           JOURNAL_CORRUPT),
    SAMPLE("one kind twice",
           "\x0a\x06\x2a\x01"
           "a\x2a\x01"
           "b",
           JOURNAL_CORRUPT),
    SAMPLE("output as a number", "\x0a\x02\x28\x01", JOURNAL_CORRUPT),
    SAMPLE("text that is UTF-8", "\x0a\x06\x42\x04\x12\x02\xc3\xa9", JOURNAL_FRAME),
    SAMPLE("text that is not", "\x0a\x05\x42\x03\x12\x01\xff", JOURNAL_CORRUPT),
    SAMPLE("a message that is not", "\x0a\x05\x52\x03\x22\x01\xff", JOURNAL_CORRUPT),
    SAMPLE("nanoseconds beyond a second", "\x0a\x08\x12\x06\x10\x80\x94\xeb\xdc\x03",
           JOURNAL_CORRUPT),
    SAMPLE("a time before 1970", "\x0a\x0d\x12\x0b\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
           JOURNAL_CORRUPT),
    SAMPLE("a field longer than its event",
           "\x0a\x04\x2a\x05"
           "ab",
           JOURNAL_CORRUPT),
    SAMPLE("a pid as bytes", "\x0a\x05\x22\x03\x0a\x01\x01", JOURNAL_CORRUPT),
    SAMPLE("closed with a torn field", "\x0a\x03\x5a\x01\x08", JOURNAL_CORRUPT),
};

static void test_samples_parse_as_told(void **state)
{
    for (size_t i = 0; i < sizeof(samples) / sizeof(samples[0]); i++) {
        struct journal_event e;
        size_t len;
        enum journal_result got =
            journal_parse((const uint8_t *)samples[i].bytes, samples[i].len, &e, &len);

        if (got != samples[i].want)
            fail_msg("%s: %d instead of %d", samples[i].what, got, samples[i].want);
    }
}

static void test_a_sequence_has_no_gaps(void **state)
{
    struct journal_check check = {.last_seq = 4};
    struct journal_event out = {.seq = 5, .kind = JOURNAL_STDOUT};
    struct journal_event dropped = {
        .seq = 9, .kind = JOURNAL_DROPPED, .dropped_first = 6, .dropped_last = 9};
    struct journal_event end = {.seq = 10, .kind = JOURNAL_EXITED};

    out.seq = 6;
    assert_false(journal_check_next(&check, &out)); /* a gap */
    out.seq = 4;
    assert_false(journal_check_next(&check, &out));     /* again */
    assert_false(journal_check_next(&check, &dropped)); /* starts too late */
    out.seq = 5;
    assert_true(journal_check_next(&check, &out));
    dropped.seq = 8;
    assert_false(journal_check_next(&check, &dropped)); /* not its last */
    dropped.seq = 9;
    assert_true(journal_check_next(&check, &dropped));
    assert_true(journal_check_next(&check, &end));
    end.seq = 11;
    assert_false(journal_check_next(&check, &end)); /* ends once */
    out.seq = 11;
    assert_true(journal_check_next(&check, &out)); /* of a background process */
    end = (struct journal_event){.seq = 12, .kind = JOURNAL_CLOSED};
    assert_true(journal_check_next(&check, &end));
    out.seq = 13;
    assert_false(journal_check_next(&check, &out));
}

static void test_the_last_number_ends_a_sequence(void **state)
{
    struct journal_check check = {.last_seq = UINT64_MAX};
    struct journal_event e = {.seq = 0, .kind = JOURNAL_STDOUT};

    assert_false(journal_check_next(&check, &e));
}

/* Walks data, checking that events lie within it. Returns where it stopped and why. */
static size_t walk(const uint8_t *data, size_t len, enum journal_result *ret_why)
{
    size_t at = 0;

    for (;;) {
        struct journal_event e;
        size_t n;

        *ret_why = journal_parse(data + at, len - at, &e, &n);
        if (*ret_why != JOURNAL_FRAME)
            return at;
        assert_true(n >= 2 && n <= len - at);
        if (e.data != NULL) {
            assert_true(e.data >= data + at);
            assert_true(e.data + e.data_len <= data + at + n);
        }
        at += n;
    }
}

static void test_every_truncation_is_partial(void **state)
{
    uint8_t bytes[4096];
    size_t len = make_stream(bytes);

    for (size_t cut = 0; cut < len; cut++) {
        /* A copy of its own, so that reading one byte too many is caught. */
        uint8_t *copy = malloc(cut + 1);
        enum journal_result why;

        memcpy(copy, bytes, cut);
        copy = realloc(copy, cut > 0 ? cut : 1);
        assert_true(walk(copy, cut, &why) <= cut);
        assert_int_equal(why, JOURNAL_PARTIAL);
        free(copy);
    }
}

static uint32_t next_random(uint32_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 17;
    *seed ^= *seed << 5;
    return *seed;
}

static void test_damage_never_leads_astray(void **state)
{
    uint8_t bytes[4096];
    size_t len = make_stream(bytes);
    uint32_t seed = 2463534242;
    size_t corrupt = 0;

    for (int round = 0; round < 100000; round++) {
        uint8_t *copy = malloc(len);
        unsigned flips = 1 + next_random(&seed) % 3;
        enum journal_result why;

        memcpy(copy, bytes, len);
        while (flips-- > 0)
            copy[next_random(&seed) % len] ^= (uint8_t)(1 + next_random(&seed) % 255);
        walk(copy, len, &why);
        corrupt += why == JOURNAL_CORRUPT;
        free(copy);
    }
    assert_true(corrupt > 30000); /* most damage to so small a stream hits its structure */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_protobuf_c_reads_what_we_write),
        cmocka_unit_test(test_our_bytes_are_protobuf_c_s_bytes),
        cmocka_unit_test(test_we_read_what_protobuf_c_writes),
        cmocka_unit_test(test_every_kind_is_parsed),
        cmocka_unit_test(test_a_message_is_cut_between_characters),
        cmocka_unit_test(test_the_largest_text_fits_a_frame),
        cmocka_unit_test(test_samples_parse_as_told),
        cmocka_unit_test(test_a_sequence_has_no_gaps),
        cmocka_unit_test(test_the_last_number_ends_a_sequence),
        cmocka_unit_test(test_every_truncation_is_partial),
        cmocka_unit_test(test_damage_never_leads_astray),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
