/* The parser is fed conversations whole, byte by byte, and cut at every place. */
#include "common/connect/envelope.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { CAP = 1000 };

/* Everything the parser said about some bytes, written down: "[hello](end:{})!too long". */
struct transcript {
    char text[4096];
    size_t len;
};

static void note(struct transcript *t, const char *s, size_t len)
{
    assert_true(t->len + len < sizeof t->text);
    memcpy(t->text + t->len, s, len);
    t->len += len;
    t->text[t->len] = '\0';
}

static void feed(struct envelope_parser *p, const uint8_t *data, size_t len, struct transcript *t)
{
    for (;;) {
        struct envelope_frame f;
        enum envelope_result r = envelope_next(p, &data, &len, &f);

        if (r == ENVELOPE_MORE) {
            assert_int_equal(len, 0);
            return;
        }
        if (r == ENVELOPE_ERROR) {
            const char *why = envelope_error_text(p->error);

            note(t, "!", 1);
            note(t, why, strlen(why));
            return;
        }
        note(t, f.end ? "(" : "[", 1);
        note(t, (const char *)f.data, f.len);
        note(t, f.end ? ")" : "]", 1);
    }
}

/* Feeds a copy that ends where the allocation ends, so that reading further is seen by ASAN. */
static void feed_copy(struct envelope_parser *p, const uint8_t *data, size_t len,
                      struct transcript *t)
{
    uint8_t *copy = malloc(len ? len : 1);

    memcpy(copy, data, len);
    feed(p, copy, len, t);
    free(copy);
}

static void check(const uint8_t *data, size_t len, const char *expected)
{
    for (size_t cut = 0; cut <= len; cut++) {
        struct envelope_parser p;
        struct transcript t = {0};

        envelope_init(&p, CAP);
        feed_copy(&p, data, cut, &t);
        if (p.state != ENVELOPE_FAILED)
            feed_copy(&p, data + cut, len - cut, &t);
        assert_string_equal(t.text, expected);
        envelope_deinit(&p);
        envelope_deinit(&p);
    }

    struct envelope_parser p;
    struct transcript t = {0};

    envelope_init(&p, CAP);
    for (size_t i = 0; i < len && p.state != ENVELOPE_FAILED; i++)
        feed_copy(&p, data + i, 1, &t);
    assert_string_equal(t.text, expected);
    envelope_deinit(&p);
}

static void test_conversations(void **state)
{
    static const struct {
        const char *bytes;
        size_t len;
        const char *expected;
    } cases[] = {
#define CASE(b, e) {b, sizeof(b) - 1, e}
        CASE("", ""),
        CASE("\0\0\0\0\0", "[]"),
        CASE("\0\0\0\0\005hello", "[hello]"),
        CASE("\0\0\0\0\003abc\0\0\0\0\0\0\0\0\0\001z", "[abc][][z]"),
        CASE("\0\0\0\0\003abc\002\0\0\0\002{}", "[abc]({})"),
        CASE("\002\0\0\0\002{}x", "({})!bytes after the end of the stream"),
        CASE("\0\0\0\0\003ab", ""),
        CASE("\001\0\0\0\003abc", "!a compressed payload, which was not asked for"),
        CASE("\003\0\0\0\002{}", "!a compressed payload, which was not asked for"),
        CASE("\200\0\0\0\003abc", "!unknown flags"),
        CASE("\0\0\0\003\351abc", "!a payload above the limit"),
        CASE("\0\377\377\377\377", "!a payload above the limit"),
        CASE("HTTP/1.1 502", "!unknown flags"),
#undef CASE
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        check((const uint8_t *)cases[i].bytes, cases[i].len, cases[i].expected);
}

/* Pieces, put together again, are what the frames are, wherever the input is cut. */
static void test_pieces_are_the_frames(void **state)
{
    static const uint8_t bytes[] = "\0\0\0\0\003abc\0\0\0\0\0\0\0\0\0\001z\002\0\0\0\002{}";
    enum { LEN = sizeof bytes - 1 };

    for (size_t cut = 0; cut <= LEN; cut++) {
        struct envelope_parser p;
        struct envelope_piece piece;
        struct transcript t = {0};
        const uint8_t *data = bytes;
        size_t len = cut, at = 0;

        envelope_init(&p, CAP);
        for (int round = 0; round < 2; round++) {
            while (envelope_next_piece(&p, &data, &len, &piece) == ENVELOPE_FRAME) {
                assert_int_equal(piece.at, at);
                if (at == 0)
                    note(&t, piece.end ? "(" : "[", 1);
                note(&t, (const char *)piece.data, piece.len);
                at += piece.len;
                if (at == piece.frame_len) {
                    note(&t, piece.end ? ")" : "]", 1);
                    at = 0;
                }
            }
            assert_int_equal(p.error, ENVELOPE_OK);
            assert_int_equal(len, 0);
            len = LEN - cut;
        }
        assert_string_equal(t.text, "[abc][][z]({})");
        assert_true(envelope_is_between(&p));
        assert_null(p.gathered.base);
        envelope_deinit(&p);
    }
}

static void test_payload_at_cap_passes(void **state)
{
    struct buf b = BUF_INIT(4096);
    uint8_t payload[CAP];
    char expected[CAP + 3] = "[";

    memset(payload, 'x', sizeof payload);
    memset(expected + 1, 'x', sizeof payload);
    strcpy(expected + 1 + sizeof payload, "]");
    assert_true(envelope_append(&b, 0, payload, sizeof payload));
    check(buf_data(&b), buf_len(&b), expected);
    buf_deinit(&b);
}

static void test_between_frames_only(void **state)
{
    static const uint8_t bytes[] = "\0\0\0\0\002ab\002\0\0\0\002{}";
    struct envelope_parser p;
    struct transcript t = {0};

    envelope_init(&p, CAP);
    for (size_t i = 0; i <= sizeof bytes - 1; i++) {
        assert_int_equal(envelope_is_between(&p), i == 0 || i == 7 || i == sizeof bytes - 1);
        if (i < sizeof bytes - 1)
            feed(&p, bytes + i, 1, &t);
    }
    envelope_deinit(&p);
}

static void test_idle_parser_holds_nothing(void **state)
{
    static const uint8_t bytes[] = "\0\0\0\0\004abcd";
    struct envelope_parser p;
    struct transcript t = {0};

    envelope_init(&p, CAP);
    for (size_t i = 0; i < sizeof bytes - 1; i++)
        feed(&p, bytes + i, 1, &t);
    assert_null(p.gathered.base);
    assert_string_equal(t.text, "[abcd]");
}

static void test_append_respects_cap(void **state)
{
    struct buf b = BUF_INIT(9);

    assert_false(envelope_append(&b, 0, "hello", 5));
    assert_int_equal(buf_len(&b), 0);
    assert_true(envelope_append(&b, ENVELOPE_END, "four", 4));
    assert_memory_equal(buf_data(&b), "\002\0\0\0\004four", 9);
    buf_deinit(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_conversations),
        cmocka_unit_test(test_pieces_are_the_frames),
        cmocka_unit_test(test_payload_at_cap_passes),
        cmocka_unit_test(test_between_frames_only),
        cmocka_unit_test(test_idle_parser_holds_nothing),
        cmocka_unit_test(test_append_respects_cap),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
