/* Forms as browsers and SDKs send them, cut at every byte; and what is none. */
#include "runtime/local/agent/multipart.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define TYPE "multipart/form-data; boundary=XX"

/*
 * What a body is, as text: "name|filename|content;" for every part, "." at the end, "!" for an
 * error. It comes in two pieces, cut at `cut`, or byte by byte when cut is SIZE_MAX.
 */
static void tell(const char *type, const char *body, size_t body_len, size_t cut, struct buf *out)
{
    struct multipart m;
    size_t at = 0;

    if (!multipart_init(&m, type)) {
        buf_append_str(out, "!");
        multipart_deinit(&m);
        return;
    }
    while (at < body_len) {
        size_t n = cut == SIZE_MAX ? 1 : at < cut ? cut - at : body_len - at;
        /* A copy of its own size, so that reading beyond a piece is seen. */
        uint8_t *copy = malloc(n);
        const uint8_t *data = copy, *piece;
        enum multipart_event event;
        size_t len = n, piece_len;

        memcpy(copy, body + at, n);
        while ((event = multipart_next(&m, &data, &len, &piece, &piece_len)) != MULTIPART_MORE &&
               event != MULTIPART_ERROR) {
            if (event == MULTIPART_PART)
                buf_printf(out, "%s|%s|", m.name ? m.name : "-", m.filename ? m.filename : "-");
            else if (event == MULTIPART_DATA)
                buf_append(out, piece, piece_len);
            else if (event == MULTIPART_END)
                buf_append_str(out, ";");
            else if (event == MULTIPART_DONE)
                buf_append_str(out, ".");
        }
        free(copy);
        if (event == MULTIPART_ERROR) {
            buf_append_str(out, "!");
            break;
        }
        assert_int_equal(len, 0);
        at += n;
    }
    multipart_deinit(&m);
}

static void expect(const char *type, const char *body, size_t body_len, const char *wanted)
{
    for (size_t cut = 0; cut <= body_len; cut++) {
        struct buf out = BUF_INIT(65536);

        tell(type, body, body_len, cut == body_len ? SIZE_MAX : cut, &out);
        assert_string_equal(buf_str(&out), wanted);
        buf_deinit(&out);
    }
}

static void test_forms(void **state)
{
    static const struct {
        const char *body;
        const char *told;
    } cases[] = {
        {"--XX\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.txt\"\r\n"
         "Content-Type: text/plain\r\n\r\nhello\r\n--XX--\r\n",
         "file|a.txt|hello;."},
        /* Two, a preamble, an epilogue, blanks behind the delimiter, other order and case. */
        {"before\r\n--XX \t\r\ncontent-disposition: form-data; filename=b; name=file\r\n\r\n1"
         "\r\n--XX\r\nX: y\r\nContent-Disposition:form-data;name=\"c\"\r\n\r\n2\r\n--XX--after",
         "file|b|1;c|-|2;."},
        /* Content that looks like a delimiter for a while. */
        {"--XX\r\nContent-Disposition: form-data; "
         "name=f\r\n\r\n\r\r\n\r\n-\r\n--\r\n--X\r\n--Y--XX\n--XX"
         "\r\r\n--XX--",
         "f|-|\r\r\n\r\n-\r\n--\r\n--X\r\n--Y--XX\n--XX\r;."},
        /* Empty content; a part without fields. */
        {"--XX\r\nContent-Disposition: form-data; name=f\r\n\r\n\r\n--XX\r\n\r\nx\r\n--XX--",
         "f|-|;-|-|x;."},
        /* Directories in file names stay; quotes and backslashes are undone. */
        {"--XX\r\nContent-Disposition: form-data; name=\"file\"; filename=\"/a "
         "b/\\\"c\\\\d;e\"\r\n\r\n"
         "\r\n--XX--",
         "file|/a b/\"c\\d;e|;."},
        {"--XX--", "."},
        {"--XX\r\nContent-Disposition: form-data; name=f\r\n\r\nnever ends", "f|-|never ends"},
        {"--XXY\r\n\r\n", "!"},
        {"--XX\r\nContent-Disposition: form-data; name=f", ""},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
        expect(TYPE, cases[i].body, strlen(cases[i].body), cases[i].told);
}

static void test_content_may_be_any_bytes(void **state)
{
    static const char head[] = "--XX\r\nContent-Disposition: form-data; name=f\r\n\r\n";
    static const char tail[] = "\r\n--XX--";
    char body[2048];
    struct buf out = BUF_INIT(4096);
    size_t n = strlen(head);

    memcpy(body, head, n);
    for (int i = 0; i < 512; i++)
        body[n++] = (char)(i * 7);
    memcpy(body + n, tail, strlen(tail));
    n += strlen(tail);
    for (size_t cut = 0; cut < n; cut++) {
        tell(TYPE, body, n, cut, &out);
        assert_int_equal(buf_len(&out), strlen("f|-|") + 512 + strlen(";."));
        assert_memory_equal(buf_data(&out) + 4, body + strlen(head), 512);
        buf_clear(&out);
    }
    buf_deinit(&out);
}

static void test_boundaries(void **state)
{
    static const struct {
        const char *type;
        bool usable;
    } cases[] = {
        {"multipart/form-data; boundary=a", true},
        {"multipart/form-data; charset=x; Boundary=\"a b\"", true},
        {"multipart/form-data", false},
        {"multipart/form-data; boundary=", false},
        {"multipart/form-data; boundary=\"open", false},
        {"multipart/form-data; boundary="
         "123456789012345678901234567890123456789012345678901234567890123456789012",
         false},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct multipart m;

        assert_int_equal(multipart_init(&m, cases[i].type), cases[i].usable);
        multipart_deinit(&m);
    }
}

static void test_a_head_is_bounded(void **state)
{
    struct buf body = BUF_INIT(1 << 20), out = BUF_INIT(1 << 20);

    buf_append_str(&body, "--XX\r\n");
    for (int i = 0; i < 1000; i++)
        buf_printf(&body, "X-Field-%d: something to fill it with\r\n", i);
    tell(TYPE, (const char *)buf_data(&body), buf_len(&body), 7, &out);
    assert_string_equal(buf_str(&out), "!");
    buf_deinit(&body);
    buf_deinit(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forms),
        cmocka_unit_test(test_content_may_be_any_bytes),
        cmocka_unit_test(test_boundaries),
        cmocka_unit_test(test_a_head_is_bounded),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
