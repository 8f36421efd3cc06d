/* Archives as they should be, and as nobody should make them; each is also read byte by byte. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/base/cleanup.h"
#include "common/base/mem.h"
#include "common/tar/header.h"
#include "common/tar/tar.h"

#include <stdio.h>
#include <string.h>

/* --- a source --- */

struct source {
    const uint8_t *data;
    size_t len, at, step; /* most bytes of one read */
};

static ssize_t read_source(void *arg, uint8_t *to, size_t len)
{
    struct source *s = arg;
    size_t n = s->len - s->at;

    n = n < len ? n : len;
    n = n < s->step ? n : s->step;
    memcpy(to, s->data + s->at, n);
    s->at += n;
    return (ssize_t)n;
}

static bool skip_source(void *arg, uint64_t len)
{
    struct source *s = arg;

    s->at = len < s->len - s->at ? s->at + (size_t)len : s->len;
    return true;
}

static bool skip_fails(void *arg, uint64_t len)
{
    return len == 0;
}

/* What is in it, a line each, to where it ends; the last line says how. */
static char *show(const struct buf *archive, size_t step, tar_skip_fn *skip)
{
    struct source s = {.data = buf_data(archive), .len = buf_len(archive), .step = step};
    AUTO(buf_deinit) struct buf text = BUF_INIT(1 << 20);
    AUTO(tar_reader_deinit) struct tar_reader r;
    enum tar_result got;
    struct tar_entry e;

    tar_reader_init(&r, read_source, skip, &s);
    while ((got = tar_next(&r, &e)) == TAR_ENTRY) {
        uint8_t content[16];
        size_t n = 0;
        ssize_t more = skip == NULL;

        while (more > 0 && n < sizeof(content)) {
            more = tar_content(&r, content + n, sizeof(content) - n);
            n += more > 0 ? (size_t)more : 0;
        }

        buf_printf(&text, "%d %s>%s %o %llu %lld.%u %.*s\n", e.type, e.path, e.link, e.mode,
                   (unsigned long long)e.size, (long long)e.mtime_s, e.mtime_ns, (int)n,
                   (const char *)content);
    }
    buf_append_str(&text, got == TAR_END ? "end" : got == TAR_BAD ? r.why : "failed");
    return buf_take_str(&text);
}

/* --- making archives --- */

static void add_block(struct buf *to, const char *name, char type, const char *link, size_t size,
                      void (*change)(struct tar_header *h))
{
    struct tar_header h = {.type = type};

    memcpy(h.name, name, strnlen(name, sizeof(h.name)));
    memcpy(h.link, link, strnlen(link, sizeof(h.link)));
    strcpy(h.mode, "0000644");
    strcpy(h.mtime, "00000000007");
    snprintf(h.size, sizeof(h.size), "%011zo", size);
    memcpy(h.magic, "ustar", 6);
    memcpy(h.version, "00", 2);
    if (change != NULL)
        change(&h);
    snprintf(h.checksum, sizeof(h.checksum), "%06o", tar_header_sum(&h));
    h.checksum[7] = ' ';
    buf_append(to, &h, sizeof(h));
}

static void add_content(struct buf *to, const void *data, size_t len)
{
    static const uint8_t zeros[TAR_BLOCK];

    buf_append(to, data, len);
    buf_append(to, zeros, tar_padding(len));
}

/* --- what is read --- */

static void set_prefix(struct tar_header *h)
{
    strcpy(h->prefix, "the/prefix");
}

static void set_gnu_times(struct tar_header *h)
{
    memcpy(h->magic, "ustar  ", 8);
    strcpy(h->prefix, "01234567012");
}

static void set_binary(struct tar_header *h)
{
    memcpy(h->size, "\x80\0\0\0\0\0\0\0\0\0\0\x03", 12);
    memset(h->mtime, 0xff, sizeof(h->mtime));
}

static void set_blanks(struct tar_header *h)
{
    memcpy(h->mode, "   644 ", 8);
    memcpy(h->size, "          3 ", 12);
    memset(h->mtime, 0, sizeof(h->mtime));
}

static void set_mode_with_type(struct tar_header *h)
{
    strcpy(h->mode, "0104755");
}

static void test_forms_of_headers(void **state)
{
    static const struct {
        const char *name;
        char type;
        const char *link;
        const char *content;
        void (*change)(struct tar_header *h);
        const char *expected;
    } cases[] = {
        {"file", '0', "", "abc", NULL, "1 file> 644 3 7.0 abc\nend"},
        {"file", '\0', "", "abc", NULL, "1 file> 644 3 7.0 abc\nend"},
        {"file", '7', "", "abc", NULL, "1 file> 644 3 7.0 abc\nend"},
        {"./a//./b", '0', "", "", NULL, "1 a/b> 644 0 7.0 \nend"},
        {"./", '5', "", "", NULL, "2 > 644 0 7.0 \nend"},
        {"dir/", '5', "", "", NULL, "2 dir> 644 0 7.0 \nend"},
        {"a/l", '2', "../x/", "", NULL, "3 a/l>../x/ 644 0 7.0 \nend"},
        {"h", '1', "./a/b", "", NULL, "4 h>a/b 644 0 7.0 \nend"},
        {"pipe", '6', "", "", NULL, "5 pipe> 644 0 7.0 \nend"},
        {"file", '0', "", "abc", set_prefix, "1 the/prefix/file> 644 3 7.0 abc\nend"},
        {"file", '0', "", "abc", set_gnu_times, "1 file> 644 3 7.0 abc\nend"},
        {"file", '0', "", "abc", set_binary, "1 file> 644 3 -1.0 abc\nend"},
        {"file", '0', "", "abc", set_blanks, "1 file> 644 3 0.0 abc\nend"},
        {"file", '0', "", "", set_mode_with_type, "1 file> 4755 0 7.0 \nend"},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        AUTO(buf_deinit) struct buf archive = BUF_INIT(1 << 16);
        AUTO_FREE char *whole = NULL, *bytes = NULL;
        size_t len = strlen(cases[i].content);

        add_block(&archive, cases[i].name, cases[i].type, cases[i].link, len, cases[i].change);
        add_content(&archive, cases[i].content, len);
        tar_add_end(&archive);
        whole = show(&archive, SIZE_MAX, NULL);
        bytes = show(&archive, 1, NULL);
        assert_string_equal(whole, cases[i].expected);
        assert_string_equal(bytes, whole);
    }
}

static void test_extended_headers(void **state)
{
    static const struct {
        char type;
        const char *text;
        const char *expected;
    } cases[] = {
        {'x', "11 path=xy\n", "1 xy>"},
        {'x', "16 linkpath=xyz\n11 path=xy\n", "1 xy>"},
        {'x', "18 mtime=12.34567\n", "1 file> 644 3 12.345670000 abc"},
        {'x', "12 mtime=-5\n", "1 file> 644 3 -5.0 abc"},
        {'x', "9 size=2\n", "1 file> 644 2 7.0 ab"},
        {'x', "18 comment=a=b=c!\n", "1 file>"},
        {'g', "15 comment=abc\n", "1 file>"},
        {'g', "11 mtime=9\n", "1 file> 644 3 7.0"},
        {'L', "long/name", "1 long/name>"},
        {'K', "ignored", "1 file>"},
        {'x', "11 path=xy", "a pax header does not hold together"},
        {'x', "12 path=xy\n", "a pax header does not hold together"},
        {'x', "10 path=xy\n", "a pax header does not hold together"},
        {'x', "0 path=xy\n", "a pax header does not hold together"},
        {'x', "3 =\n", "a pax header does not hold together"},
        {'x', "99999999999 path=xy\n", "a pax header does not hold together"},
        {'x', "18446744073709551627 path=xy\n", "a pax header does not hold together"},
        {'x', "-11 path=xy\n", "a pax header does not hold together"},
        {'x', "9 path xy\n", "a pax header does not hold together"},
        {'x', "7 path\n", "a pax header does not hold together"},
        {'x', "junk", "a pax header does not hold together"},
        {'x', "10 size=x\n", "a size in a pax header is no number"},
        {'x', "11 size=-1\n", "a size in a pax header is no number"},
        {'x', "8 size=\n", "a size in a pax header is no number"},
        {'x', "28 size=9223372036854775807\n", "an entry is too large to be true"},
        {'x', "29 size=18446744073709551616\n", "a size in a pax header is no number"},
        {'x', "11 mtime=x\n", "a time in a pax header is none"},
        {'x', "13 mtime=1.x\n", "a time in a pax header is none"},
        {'x', "11 mtime=-\n", "a time in a pax header is none"},
        {'x', "22 GNU.sparse.major=1\n", "it has sparse files"},
        {'x', "14 path=../xy\n", "../xy: an entry's path must be relative"},
        {'x', "12 path=/xy\n", "/xy: an entry's path must be relative"},
        {'x', "9 path=/\n", "/: an entry's path must be relative"},
        {'x', "8 path=\n", "an entry has no name"},
        {'x', "12 path=xy/\n", "xy: a file is named like a directory"},
        {'g', "11 path=xy\n", "a global pax header says what belongs to one entry"},
        {'g', "9 size=2\n", "a global pax header says what belongs to one entry"},
        {'L', "/absolute", "/absolute: an entry's path must be relative"},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        AUTO(buf_deinit) struct buf archive = BUF_INIT(1 << 16);
        size_t len = strlen(cases[i].text);
        AUTO_FREE char *whole = NULL, *bytes = NULL;

        add_block(&archive, "x", cases[i].type, "", len, NULL);
        add_content(&archive, cases[i].text, len);
        add_block(&archive, "file", '0', "", 3, NULL);
        add_content(&archive, "abc", 3);
        tar_add_end(&archive);
        whole = show(&archive, SIZE_MAX, NULL);
        bytes = show(&archive, 7, NULL);
        if (strncmp(whole, cases[i].expected, strlen(cases[i].expected)) != 0)
            fail_msg("%s: %s", cases[i].text, whole);
        assert_string_equal(bytes, whole);
    }
}

static void spoil_magic(struct tar_header *h)
{
    memset(h->magic, 0, sizeof(h->magic));
}

static void spoil_size(struct tar_header *h)
{
    strcpy(h->size, "0000000009");
}

static void spoil_size_less(struct tar_header *h)
{
    memset(h->size, 0xff, sizeof(h->size));
}

static void spoil_size_more(struct tar_header *h)
{
    memset(h->size, 0x7f, sizeof(h->size));
    h->size[0] = (char)0xbf;
}

static void spoil_mode(struct tar_header *h)
{
    strcpy(h->mode, "rw-r--r");
}

static void test_what_is_refused(void **state)
{
    static const struct {
        const char *name;
        char type;
        const char *link;
        size_t size;
        void (*change)(struct tar_header *h);
        const char *expected;
    } cases[] = {
        {"/etc/passwd", '0', "", 0, NULL, "/etc/passwd: an entry's path must be relative"},
        {"..", '5', "", 0, NULL, "..: an entry's path must be relative"},
        {"a/../b", '0', "", 0, NULL, "a/../b: an entry's path must be relative"},
        {"a/..", '5', "", 0, NULL, "a/..: an entry's path must be relative"},
        {"", '0', "", 0, NULL, "an entry has no name"},
        {".", '2', "x", 0, NULL, "an entry has no name"},
        {"h", '1', "../x", 0, NULL, "h: a hard link leads out of the archive"},
        {"h", '1', "/x", 0, NULL, "h: a hard link leads out of the archive"},
        {"h", '1', "", 0, NULL, "h: a hard link leads out of the archive"},
        {"l", '2', "", 0, NULL, "l: a link leads nowhere"},
        {"d", '5', "", 1, NULL, "an entry that is no file has content"},
        {"l", '2', "x", 1, NULL, "an entry that is no file has content"},
        {"s", 'S', "", 0, NULL, "s: an entry of type S"},
        {"m", 'M', "", 0, NULL, "m: an entry of type M"},
        {"v", 'V', "", 0, NULL, "v: an entry of type V"},
        {"z", '\x01', "", 0, NULL, "z: an entry of type ?"},
        {"x", 'x', "", 0, NULL, "an extended header has 0 bytes"},
        {"x", 'x', "", 2000000, NULL, "an extended header has 2000000 bytes"},
        {"f", '0', "", 0, spoil_magic, "it is no tar archive"},
        {"f", '0', "", 0, spoil_size, "the size of an entry is no number"},
        {"f", '0', "", 0, spoil_size_less, "the size of an entry is no number"},
        {"f", '0', "", 0, spoil_size_more, "the size of an entry is no number"},
        {"f", '0', "", 0, spoil_mode, "the mode of an entry is no number"},
        {"f", '0', "", 5000, NULL, "1 f> 644 5000 7.0"},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        AUTO(buf_deinit) struct buf archive = BUF_INIT(1 << 16);
        AUTO_FREE char *got = NULL;

        add_block(&archive, cases[i].name, cases[i].type, cases[i].link, cases[i].size,
                  cases[i].change);
        tar_add_end(&archive);
        got = show(&archive, SIZE_MAX, NULL);
        if (strncmp(got, cases[i].expected, strlen(cases[i].expected)) != 0)
            fail_msg("%zu: %s", i, got);
        assert_null(strstr(got, "\nend"));
    }
}

static void test_every_byte_of_a_header_counts(void **state)
{
    AUTO(buf_deinit) struct buf archive = BUF_INIT(1 << 16);

    add_block(&archive, "file", '0', "", 0, NULL);
    tar_add_end(&archive);
    for (size_t i = 0; i < TAR_BLOCK; i++) {
        AUTO_FREE char *got = NULL;

        if (i == offsetof(struct tar_header, checksum) + 6) /* what ends the number may differ */
            continue;
        buf_data(&archive)[i] ^= 1;
        got = show(&archive, SIZE_MAX, NULL);
        if (i != offsetof(struct tar_header, checksum) + 7)
            assert_int_not_equal(strcmp(got + strlen(got) - 3, "end"), 0);
        buf_data(&archive)[i] ^= 1;
    }
}

static void test_a_cut_is_seen_wherever_it_is(void **state)
{
    AUTO(buf_deinit) struct buf archive = BUF_INIT(1 << 16);
    size_t whole;

    add_block(&archive, "x", 'x', "", 11, NULL);
    add_content(&archive, "11 path=xy\n", 11);
    add_block(&archive, "file", '0', "", 600, NULL);
    whole = buf_len(&archive);
    buf_commit(&archive, (buf_reserve(&archive, 1024) != NULL) * 1024);
    memset(buf_data(&archive) + whole, 'c', 600);
    memset(buf_data(&archive) + whole + 600, 0, 424);
    whole = buf_len(&archive);
    tar_add_end(&archive);
    for (size_t len = 0; len < whole + TAR_BLOCK; len += 37) {
        AUTO_FREE char *read = NULL, *skipped = NULL;

        archive.len = len;
        read = show(&archive, 100, NULL);
        skipped = show(&archive, SIZE_MAX, skip_source);
        assert_non_null(strstr(read, "the archive is cut short"));
        assert_non_null(strstr(skipped, "the archive is cut short"));
    }
    archive.len = whole + TAR_BLOCK; /* one block of zeros is enough */

    AUTO_FREE char *got = show(&archive, SIZE_MAX, NULL);
    AUTO_FREE char *failed = show(&archive, SIZE_MAX, skip_fails);

    assert_string_equal(got + strlen(got) - 3, "end");
    assert_string_equal(failed, "failed");
}

static void test_too_many_headers_for_one_entry(void **state)
{
    AUTO(buf_deinit) struct buf archive = BUF_INIT(1 << 16);

    for (int i = 0; i < 20; i++) {
        add_block(&archive, "x", 'x', "", 11, NULL);
        add_content(&archive, "11 path=xy\n", 11);
    }
    add_block(&archive, "file", '0', "", 0, NULL);

    AUTO_FREE char *got = show(&archive, SIZE_MAX, NULL);

    assert_string_equal(got, "an entry has too many headers");
    archive.len = 1024;
    tar_add_end(&archive);

    AUTO_FREE char *other = show(&archive, SIZE_MAX, NULL);

    assert_string_equal(other, "the archive ends behind an extended header");
}

/* --- paths --- */

static void test_paths_that_are_too_long(void **state)
{
    char raw[2 * TAR_PATH_MAX], clean[TAR_PATH_MAX + 1];

    memset(raw, 'a', sizeof(raw));
    assert_true(tar_path_clean(raw, TAR_NAME_MAX, clean));
    assert_false(tar_path_clean(raw, TAR_NAME_MAX + 1, clean));
    for (size_t i = 200; i < sizeof(raw); i += 200)
        raw[i] = '/';
    assert_true(tar_path_clean(raw, TAR_PATH_MAX, clean));
    assert_int_equal(strlen(clean), TAR_PATH_MAX);
    assert_false(tar_path_clean(raw, TAR_PATH_MAX + 1, clean));
    assert_false(tar_path_clean("a\0b", 3, clean));
}

static void test_where_links_lead(void **state)
{
    static const struct {
        const char *path, *target;
        bool inside;
    } cases[] = {
        {"l", "x", true},
        {"l", "./x/y/", true},
        {"l", ".", true},
        {"l", "..", false},
        {"l", "../x", false},
        {"l", "/", false},
        {"l", "/etc/passwd", false},
        {"l", "", false},
        {"a/l", "..", true},
        {"a/l", "../b", true},
        {"a/l", "../..", false},
        {"a/b/l", "../..", true},
        {"a/b/l", ".././../x", true},
        {"a/b/l", "../x/..", false},
        {"a/l", "x/../y", false},
        {"l", "x//y", true},
        {"l", "...", true},
        {"l", "..x", true},
        {"a/l", "..//..", false},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        if (tar_link_is_inside(cases[i].path, cases[i].target) != cases[i].inside)
            fail_msg("%s -> %s", cases[i].path, cases[i].target);
    }
}

static void test_the_order_of_a_walk(void **state)
{
    static const char *const order[] = {"",    "a",   "a/b", "a/b/c", "a/c", "a\x01",
                                        "a b", "a.b", "aa",  "b",     "\xff"};
    size_t n = sizeof(order) / sizeof(order[0]);

    for (size_t i = 0; i < n; i++) {
        for (size_t k = 0; k < n; k++) {
            int got = tar_path_order(order[i], order[k]);

            assert_true(i < k ? got < 0 : i > k ? got > 0 : got == 0);
        }
    }
    assert_true(tar_path_is_below("a/b", "a") && tar_path_is_below("a", ""));
    assert_false(tar_path_is_below("ab", "a") || tar_path_is_below("a", "a"));
}

/* --- what is written --- */

static void test_what_is_written_is_read_the_same(void **state)
{
    char deep[TAR_PATH_MAX + 1], split[200], wide[256];

    memset(deep, 'd', sizeof(deep));
    for (size_t i = 255; i < sizeof(deep); i += 256)
        deep[i] = '/';
    deep[TAR_PATH_MAX] = '\0';
    memset(split, 's', sizeof(split));
    split[120] = '/';
    split[199] = '\0';
    memset(wide, 'w', sizeof(wide));
    wide[255] = '\0';

    const struct tar_entry cases[] = {
        {.type = TAR_FILE, .path = "f", .mode = 0644, .size = 3, .mtime_s = 1600000000},
        {.type = TAR_FILE, .path = "f", .mode = 07777, .size = UINT64_C(8) << 30},
        {.type = TAR_FILE, .path = "f", .size = (UINT64_C(8) << 30) - 1},
        {.type = TAR_FILE, .path = "f", .size = INT64_MAX - TAR_BLOCK, .mtime_s = -1},
        {.type = TAR_FILE, .path = "f", .mtime_s = INT64_C(1) << 40},
        {.type = TAR_DIRECTORY, .path = "dir", .mode = 0755},
        {.type = TAR_DIRECTORY, .path = deep},
        {.type = TAR_FILE, .path = deep},
        {.type = TAR_FILE, .path = split},
        {.type = TAR_DIRECTORY, .path = split},
        {.type = TAR_FILE, .path = wide},
        {.type = TAR_FILE, .path = "größe\n"},
        {.type = TAR_FILE, .path = "no\xffutf8"},
        {.type = TAR_SYMLINK, .path = "l", .link = deep},
        {.type = TAR_SYMLINK, .path = "l", .link = "\xfe"},
        {.type = TAR_SYMLINK, .path = deep, .link = "../x"},
        {.type = TAR_HARD_LINK, .path = "h", .link = wide},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        AUTO(buf_deinit) struct buf archive = BUF_INIT(TAR_HEADER_MAX);
        AUTO(tar_reader_deinit) struct tar_reader r;
        const struct tar_entry *e = &cases[i];
        struct tar_entry got;
        struct source s;

        assert_true(tar_add_header(&archive, e));
        assert_int_equal(buf_len(&archive) % TAR_BLOCK, 0);
        s = (struct source){buf_data(&archive), buf_len(&archive), 0, SIZE_MAX};
        tar_reader_init(&r, read_source, NULL, &s);
        assert_int_equal(tar_next(&r, &got), TAR_ENTRY);
        assert_int_equal(got.type, e->type);
        assert_string_equal(got.path, e->path);
        assert_string_equal(got.link, e->link != NULL ? e->link : "");
        assert_int_equal(got.mode, e->mode);
        assert_true(got.size == e->size && got.mtime_s == e->mtime_s);
    }
}

static void test_a_header_that_does_not_fit_is_not_begun(void **state)
{
    const struct tar_entry e = {.type = TAR_FILE, .path = "größe"};

    for (size_t cap = 0; cap < 3 * TAR_BLOCK; cap += 100) {
        AUTO(buf_deinit) struct buf archive = BUF_INIT(cap);

        assert_false(tar_add_header(&archive, &e));
        assert_int_equal(buf_len(&archive), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forms_of_headers),
        cmocka_unit_test(test_extended_headers),
        cmocka_unit_test(test_what_is_refused),
        cmocka_unit_test(test_every_byte_of_a_header_counts),
        cmocka_unit_test(test_a_cut_is_seen_wherever_it_is),
        cmocka_unit_test(test_too_many_headers_for_one_entry),
        cmocka_unit_test(test_paths_that_are_too_long),
        cmocka_unit_test(test_where_links_lead),
        cmocka_unit_test(test_the_order_of_a_walk),
        cmocka_unit_test(test_what_is_written_is_read_the_same),
        cmocka_unit_test(test_a_header_that_does_not_fit_is_not_begun),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
