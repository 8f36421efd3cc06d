/* The frames of a dialled connection, however they are cut. */
#include "common/journal/dial.h"

#include "common/base/buf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static void add(struct buf *to, const char *text)
{
    uint8_t header[DIAL_HEADER];

    dial_put_header(header, strlen(text));
    buf_append(to, header, sizeof(header));
    buf_append_str(to, text);
}

static void add_sign(struct buf *to, void (*put)(uint8_t header[DIAL_HEADER]))
{
    uint8_t header[DIAL_HEADER];

    put(header);
    buf_append(to, header, sizeof(header));
}

/* Everything as text: "|" ends a frame, "." is a beat, "$" the end, "!" what is none. */
static void tell(struct dial_parser *p, const uint8_t *data, size_t len, struct buf *to)
{
    const uint8_t *piece;
    size_t piece_len;
    bool whole;

    for (;;) {
        switch (dial_next(p, &data, &len, &piece, &piece_len, &whole)) {
        case DIAL_MORE:
            return;
        case DIAL_DATA:
            assert_true(piece_len > 0);
            buf_append(to, piece, piece_len);
            if (whole)
                buf_append_str(to, "|");
            break;
        case DIAL_BEAT:
            buf_append_str(to, ".");
            break;
        case DIAL_END:
            buf_append_str(to, "$");
            break;
        case DIAL_NONE:
            buf_append_str(to, "!");
            return;
        }
    }
}

static void test_frames_are_the_same_however_they_are_cut(void **state)
{
    struct buf frames = BUF_INIT(1024);

    (void)state;
    add(&frames, "127.0.0.1:80");
    add_sign(&frames, dial_put_beat);
    add(&frames, "x");
    add_sign(&frames, dial_put_beat);
    add_sign(&frames, dial_put_end);
    add_sign(&frames, dial_put_beat);
    for (size_t step = 1; step <= buf_len(&frames); step++) {
        struct dial_parser p = {0};
        struct buf said = BUF_INIT(1024);

        for (size_t at = 0; at < buf_len(&frames); at += step) {
            size_t left = buf_len(&frames) - at;

            tell(&p, buf_data(&frames) + at, left < step ? left : step, &said);
        }
        assert_string_equal(buf_str(&said), "127.0.0.1:80|.x|.$.");
        buf_deinit(&said);
    }
    buf_deinit(&frames);
}

static void test_a_frame_that_cannot_be_is_refused(void **state)
{
    struct dial_parser p = {0};
    struct buf said = BUF_INIT(1024);
    uint8_t header[DIAL_HEADER];

    (void)state;
    dial_put_header(header, DIAL_FRAME_MAX + 1);
    tell(&p, header, sizeof(header), &said);
    assert_string_equal(buf_str(&said), "!");
    buf_deinit(&said);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_frames_are_the_same_however_they_are_cut),
        cmocka_unit_test(test_a_frame_that_cannot_be_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
