/*
 * What a recorder that was tampered with could say of a directory, and what becomes of it; what a
 * good one says, cut at every byte and gone on with by another process.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/base/cleanup.h"
#include "common/base/mem.h"
#include "common/tar/tar.h"
#include "recorder/v1/recorder.pb-c.h"
#include "sandbox/v1/errors.pb-c.h"
#include "service/handlers/tree_relay.h"

#include <stdio.h>
#include <string.h>

#define REASON(name) SANDBOX__V1__ERROR_REASON__ERROR_REASON_##name

enum { F = 1, D = 2, L = 3 };

/* --- what a recorder writes --- */

static Recorder__V1__TreeFrame frame_of(int which)
{
    Recorder__V1__TreeFrame f;

    recorder__v1__tree_frame__init(&f);
    f.frame_case = which;
    return f;
}

static void add_frame(struct buf *to, const Recorder__V1__TreeFrame *f)
{
    size_t len = recorder__v1__tree_frame__get_packed_size(f);
    AUTO_FREE uint8_t *data = xmalloc(len + 1);

    for (int i = 0; i < 4; i++)
        buf_append_byte(to, (uint8_t)(len >> (24 - 8 * i)));
    buf_append(to, data, recorder__v1__tree_frame__pack(f, data));
}

static void add_head(struct buf *to)
{
    Recorder__V1__TreeFrame f = frame_of(RECORDER__V1__TREE_FRAME__FRAME_HEAD);

    f.head = (ProtobufCBinaryData){3, (uint8_t *)"\x0a\x01x"};
    add_frame(to, &f);
}

static void add_flag(struct buf *to, int which)
{
    Recorder__V1__TreeFrame f = frame_of(which);

    if (which == RECORDER__V1__TREE_FRAME__FRAME_END)
        f.end = true;
    else
        f.changed = true;
    add_frame(to, &f);
}

static void add_end(struct buf *to)
{
    add_flag(to, RECORDER__V1__TREE_FRAME__FRAME_END);
}

struct thing {
    unsigned type; /* 0: none */
    const char *path;
    const char *link;
    const char *content;
    const char *version;
    size_t from; /* content is sent from here on */
};

static void add_thing(struct buf *to, const struct thing *t)
{
    Recorder__V1__TreeFrame f = frame_of(RECORDER__V1__TREE_FRAME__FRAME_ENTRY);
    Recorder__V1__TreeEntry e = RECORDER__V1__TREE_ENTRY__INIT;
    const char *link = t->link != NULL ? t->link : "";
    const char *content = t->content != NULL ? t->content : "";

    e.path = (ProtobufCBinaryData){strlen(t->path), (uint8_t *)t->path};
    e.type = t->type;
    e.mode = 06755;
    e.size = strlen(content);
    e.mtime = 7;
    e.link = (ProtobufCBinaryData){strlen(link), (uint8_t *)link};
    e.version = (char *)(t->version != NULL ? t->version : "v1");
    f.entry = &e;
    add_frame(to, &f);
    buf_append(to, content + t->from, strlen(content) - t->from);
}

/* --- what comes out --- */

struct source {
    const uint8_t *data;
    size_t len;
};

static ssize_t read_source(void *arg, uint8_t *to, size_t len)
{
    struct source *s = arg;
    size_t n = s->len < len ? s->len : len;

    memcpy(to, s->data, n);
    s->data += n;
    s->len -= n;
    return (ssize_t)n;
}

/* Paths and what links hold, a line each. */
static char *names_in(const struct buf *archive)
{
    struct source s = {buf_data(archive), buf_len(archive)};
    AUTO(buf_deinit) struct buf text = BUF_INIT(1 << 20);
    AUTO(tar_reader_deinit) struct tar_reader r;
    enum tar_result got;
    struct tar_entry e;

    tar_reader_init(&r, read_source, NULL, &s);
    while ((got = tar_next(&r, &e)) == TAR_ENTRY) {
        assert_true(e.mode == 0755 && e.mtime_s == 7);
        buf_printf(&text, "%s>%s\n", e.path, e.link);
    }
    buf_append_str(&text, got == TAR_END ? "end" : "cut");
    return buf_take_str(&text);
}

/* Feeds it all, in pieces. */
static void feed(struct tree_relay *t, const struct buf *in, size_t step, struct buf *to,
                 struct status *st)
{
    size_t at = 0;

    while (at < buf_len(in) && st->code == CODE_OK) {
        AUTO(buf_deinit) struct buf out = BUF_INIT(TREE_RELAY_OUT_MAX);
        size_t len = buf_len(in) - at;

        at += tree_relay_feed(t, buf_data(in) + at, len < step ? len : step, &out, st);
        buf_append(to, buf_data(&out), buf_len(&out));
    }
}

static const struct thing good[] = {
    {D, "a", NULL, NULL, NULL, 0},         {F, "a/b", NULL, "content", NULL, 0},
    {L, "a/l", "../c", NULL, NULL, 0},     {F, "a.b", NULL, "", NULL, 0},
    {F, "c", NULL, "more of it", NULL, 0}, {D, "d", NULL, NULL, NULL, 0},
    {F, "\xff", NULL, "x", NULL, 0},
};

enum { N_GOOD = sizeof(good) / sizeof(good[0]) };

static void write_good(struct buf *to, size_t first, size_t from)
{
    add_head(to);
    for (size_t i = first; i < N_GOOD; i++) {
        struct thing t = good[i];

        t.from = i == first ? from : 0;
        add_thing(to, &t);
    }
    add_end(to);
}

static void whole_archive(size_t step, struct buf *to)
{
    AUTO(buf_deinit) struct buf in = BUF_INIT(1 << 20);
    AUTO(tree_relay_deinit) struct tree_relay t;
    struct status st = STATUS_INIT;
    uint8_t sha256[32];

    tree_relay_init(&t, 0, 0);
    write_good(&in, 0, 0);
    feed(&t, &in, step, to, &st);
    assert_int_equal(st.code, CODE_OK);
    assert_true(tree_relay_finish(&t, to, sha256, &st));
    assert_int_equal(t.counts.files, 4);
    assert_int_equal(t.counts.directories, 2);
    assert_int_equal(t.counts.links, 1);
    assert_int_equal(t.counts.bytes, 18);
}

static void test_a_directory_becomes_an_archive(void **state)
{
    AUTO(buf_deinit) struct buf whole = BUF_INIT(1 << 20);
    AUTO_FREE char *names = NULL;

    whole_archive(SIZE_MAX, &whole);
    names = names_in(&whole);
    assert_string_equal(names, "a>\na/b>\na/l>../c\na.b>\nc>\nd>\n\xff>\nend");
    for (size_t step = 1; step < 40; step++) {
        AUTO(buf_deinit) struct buf pieces = BUF_INIT(1 << 20);

        whole_archive(step, &pieces);
        assert_int_equal(buf_len(&pieces), buf_len(&whole));
        assert_memory_equal(buf_data(&pieces), buf_data(&whole), buf_len(&whole));
    }
}

/* --- another process, or another pod --- */

/* What the recorder does when it is asked to go on. */
static void write_rest(const struct tree_relay *t, struct buf *to)
{
    size_t i = 0;

    while (i < N_GOOD && t->path[0] != '\0' && strcmp(good[i].path, t->path) != 0)
        i++;
    if (t->version[0] != '\0')
        write_good(to, i, t->offset);
    else
        write_good(to, t->path[0] != '\0' ? i + 1 : 0, 0);
}

static void check_cut(size_t at, bool by_cursor, const struct buf *whole)
{
    AUTO(buf_deinit)
    struct buf in = BUF_INIT(1 << 20), rest = BUF_INIT(1 << 20), got = BUF_INIT(1 << 20),
               cursor = BUF_INIT(1 << 16);
    AUTO(tree_relay_deinit) struct tree_relay first, second;
    struct tree_relay *t = &first;
    struct status st = STATUS_INIT;
    uint8_t sha256[32];

    tree_relay_init(&first, 0, 0);
    tree_relay_init(&second, 0, 0);
    write_good(&in, 0, 0);
    if (at > buf_len(&in))
        return;
    in.len = at;
    feed(&first, &in, 5, &got, &st);
    tree_relay_add_cursor(&first, &cursor, 1);
    by_cursor = by_cursor && buf_len(&cursor) > 0; /* there is none before the first entry */
    if (by_cursor) {
        t = &second;
        assert_true(tree_relay_set_cursor(t, buf_data(&cursor) + 2, buf_len(&cursor) - 2));
    } else {
        tree_relay_restart(t);
    }
    write_rest(t, &rest);
    feed(t, &rest, 1000, &got, &st);
    assert_true(tree_relay_finish(t, &got, sha256, &st));
    assert_int_equal(st.code, CODE_OK);
    assert_int_equal(t->counts.bytes, 18);
    assert_int_equal(t->counts.files, 4);
    assert_true((t->sha256 == NULL) == by_cursor);
    assert_int_equal(buf_len(&got), buf_len(whole));
    assert_memory_equal(buf_data(&got), buf_data(whole), buf_len(whole));
}

static void test_it_goes_on_wherever_it_was_cut(void **state)
{
    AUTO(buf_deinit) struct buf whole = BUF_INIT(1 << 20), in = BUF_INIT(1 << 20);

    whole_archive(SIZE_MAX, &whole);
    write_good(&in, 0, 0);
    for (size_t at = 0; at < buf_len(&in); at++) {
        check_cut(at, false, &whole);
        check_cut(at, true, &whole);
    }
}

static void test_a_cursor_behind_the_end(void **state)
{
    AUTO(buf_deinit)
    struct buf in = BUF_INIT(1 << 20), out = BUF_INIT(1 << 20), cursor = BUF_INIT(1 << 16);
    AUTO(tree_relay_deinit) struct tree_relay first, second;
    struct status st = STATUS_INIT;
    uint8_t sha256[32];

    tree_relay_init(&first, 0, 0);
    tree_relay_init(&second, 0, 0);
    write_good(&in, 0, 0);
    feed(&first, &in, SIZE_MAX, &out, &st);
    assert_true(tree_relay_finish(&first, &out, sha256, &st));
    tree_relay_add_cursor(&first, &cursor, 1);
    assert_true(tree_relay_set_cursor(&second, buf_data(&cursor) + 2, buf_len(&cursor) - 2));
    buf_clear(&in);
    buf_clear(&out);
    add_head(&in);
    add_end(&in);
    feed(&second, &in, SIZE_MAX, &out, &st);
    assert_true(second.at_end && tree_relay_finish(&second, &out, sha256, &st));
    assert_int_equal(buf_len(&out), 0);
}

static void test_another_file_is_not_gone_on_with(void **state)
{
    static const struct thing others[] = {
        {F, "c", NULL, "content", "v1", 3}, {F, "b", NULL, "content", "v2", 3},
        {L, "b", "x", NULL, "v1", 0},       {D, "b", NULL, NULL, "v1", 0},
        {F, "b", NULL, "con", "v1", 3},
    };

    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        AUTO(buf_deinit) struct buf in = BUF_INIT(1 << 20), out = BUF_INIT(1 << 20);
        AUTO(tree_relay_deinit) struct tree_relay t;
        struct status st = STATUS_INIT;

        tree_relay_init(&t, 0, 0);
        add_head(&in);
        add_thing(&in, &(struct thing){F, "b", NULL, "content", "v1", 0});
        in.len -= 4;
        feed(&t, &in, SIZE_MAX, &out, &st);
        tree_relay_restart(&t);
        buf_clear(&in);
        add_head(&in);
        add_thing(&in, &others[i]);
        feed(&t, &in, SIZE_MAX, &out, &st);
        assert_int_equal(st.code, CODE_DATA_LOSS);
    }
}

/* --- a recorder that is none of ours --- */

static void test_entries_that_are_refused(void **state)
{
    static const struct thing cases[][3] = {
        {{F, "/etc/passwd"}},
        {{F, "../x"}},
        {{F, "a/../x"}},
        {{F, "./a"}},
        {{F, "a//b"}},
        {{F, "a/"}},
        {{F, ""}},
        {{4, "device"}},
        {{77, "unknown"}},
        {{D, "dir", NULL, "content"}},
        {{L, "link", "x", "content"}},
        {{F, "a"}, {F, "a"}},             /* twice */
        {{F, "b"}, {F, "a"}},             /* out of order */
        {{L, "a", "b"}, {F, "a/x"}},      /* through a link */
        {{L, "a", "/etc"}, {F, "a/x"}},   /* through one that was left out */
        {{F, "a"}, {F, "a/x"}},           /* below a file */
        {{D, "a"}, {F, "a/x"}, {D, "a"}}, /* a directory again */
        {{F, "a", NULL, "x", ""}},        /* of no version */
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        AUTO(buf_deinit) struct buf in = BUF_INIT(1 << 20), out = BUF_INIT(1 << 20);
        AUTO(tree_relay_deinit) struct tree_relay t;
        struct status st = STATUS_INIT;
        size_t n = 0;

        tree_relay_init(&t, 0, 0);
        add_head(&in);
        while (n < 3 && cases[i][n].type != 0)
            add_thing(&in, &cases[i][n++]);
        feed(&t, &in, SIZE_MAX, &out, &st);
        if (st.code != CODE_DATA_LOSS)
            fail_msg("%zu: %s", i, cases[i][0].path);
        assert_true(buf_len(&out) <= (n - 1) * TAR_BLOCK);
    }
}

static void test_bytes_that_are_refused(void **state)
{
    static const struct {
        const char *data;
        size_t len;
        bool with_head;
    } cases[] = {
        {"\0\0\0\0", 4, true},   /* says nothing */
        {"\0\x02\0\1", 4, true}, /* longer than any frame */
        {"\xff\xff\xff\xff", 4, true},
        {"\0\0\0\2\x0a\x05", 6, true}, /* no message */
        {"\0\0\0\3\x12\x01\xff", 7, true},
        {"\0\0\0\2\x12\x00", 6, false},     /* an entry before the head */
        {"\0\0\0\2\x28\x01", 6, false},     /* the end before it */
        {"\0\0\0\2\x28\x01junk", 10, true}, /* something behind the end */
        {"\0\0\0\2\x28\x01\0\0\0\0", 10, true},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        AUTO(buf_deinit) struct buf in = BUF_INIT(1 << 20), out = BUF_INIT(1 << 20);
        AUTO(tree_relay_deinit) struct tree_relay t;
        struct status st = STATUS_INIT;
        uint8_t sha256[32];

        tree_relay_init(&t, 0, 0);
        if (cases[i].with_head)
            add_head(&in);
        buf_append(&in, cases[i].data, cases[i].len);
        feed(&t, &in, SIZE_MAX, &out, &st);
        if (st.code == CODE_OK) /* what is missing is seen at the end */
            tree_relay_finish(&t, &out, sha256, &st);
        if (st.code != CODE_DATA_LOSS)
            fail_msg("%zu", i);
    }
}

static void test_an_end_that_is_none(void **state)
{
    AUTO(buf_deinit) struct buf in = BUF_INIT(1 << 20);
    uint8_t sha256[32];

    write_good(&in, 0, 0);
    for (size_t at = 0; at < buf_len(&in); at++) {
        AUTO(buf_deinit) struct buf out = BUF_INIT(1 << 20), part = BUF_INIT(1 << 20);
        AUTO(tree_relay_deinit) struct tree_relay t;
        struct status st = STATUS_INIT;

        tree_relay_init(&t, 0, 0);
        buf_append(&part, buf_data(&in), at);
        feed(&t, &part, SIZE_MAX, &out, &st);
        assert_false(tree_relay_finish(&t, &out, sha256, &st));
        assert_int_equal(st.code, CODE_DATA_LOSS);
    }
}

static void test_what_is_left_out_is_told(void **state)
{
    AUTO(buf_deinit) struct buf in = BUF_INIT(1 << 20), out = BUF_INIT(1 << 20);
    AUTO(tree_relay_deinit) struct tree_relay t;
    Recorder__V1__TreeFrame f = frame_of(RECORDER__V1__TREE_FRAME__FRAME_SKIP);
    Recorder__V1__TreeSkip s = RECORDER__V1__TREE_SKIP__INIT;
    struct status st = STATUS_INIT;
    char name[16];

    tree_relay_init(&t, 0, 0);
    add_head(&in);
    add_thing(&in, &(struct thing){L, "away", "../x"});
    f.skip = &s;
    s.why = (char *)"a \xff socket";
    for (int i = 0; i < 200; i++) {
        snprintf(name, sizeof(name), "s%03d\xff", i);
        s.path = (ProtobufCBinaryData){strlen(name), (uint8_t *)name};
        add_frame(&in, &f);
    }
    add_flag(&in, RECORDER__V1__TREE_FRAME__FRAME_CHANGED);
    feed(&t, &in, SIZE_MAX, &out, &st);
    assert_int_equal(st.code, CODE_OK);
    assert_int_equal(buf_len(&out), 0);
    assert_int_equal(t.counts.skipped, 201);
    assert_int_equal(t.counts.others, 1);
    assert_int_equal(t.n_skipped, TREE_RELAY_SKIPPED_MAX);
    assert_string_equal(t.skipped[0]->path, "away");
    assert_string_equal(t.skipped[1]->path, "s000\xef\xbf\xbd");
    assert_string_equal(t.skipped[1]->reason, "a \xef\xbf\xbd socket");
}

static void test_limits(void **state)
{
    static const struct {
        uint64_t bytes, entries;
        bool fits;
    } cases[] = {{18, 7, true}, {17, 0, false}, {0, 6, false}, {0, 0, true}, {1, 1, false}};

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        AUTO(buf_deinit) struct buf in = BUF_INIT(1 << 20), out = BUF_INIT(1 << 20);
        AUTO(tree_relay_deinit) struct tree_relay t;
        struct status st = STATUS_INIT;

        tree_relay_init(&t, cases[i].bytes, cases[i].entries);
        write_good(&in, 0, 0);
        feed(&t, &in, SIZE_MAX, &out, &st);
        assert_int_equal(st.code, cases[i].fits ? CODE_OK : CODE_FAILED_PRECONDITION);
        if (!cases[i].fits)
            assert_int_equal(st.reason, REASON(FILE_TOO_LARGE));
    }
}

static void test_a_message_is_never_much_larger_than_what_fills_it(void **state)
{
    AUTO(buf_deinit) struct buf in = BUF_INIT(1 << 20), out = BUF_INIT(TREE_RELAY_OUT_MAX);
    AUTO(tree_relay_deinit) struct tree_relay t;
    struct status st = STATUS_INIT;
    char path[TAR_PATH_MAX + 1];
    size_t n;

    tree_relay_init(&t, 0, 0);
    memset(path, 'p', sizeof(path));
    for (size_t i = 200; i < sizeof(path); i += 200)
        path[i] = '/';
    path[TAR_PATH_MAX] = '\0';
    add_head(&in);
    for (char c = 'a'; c <= 'z'; c++) {
        path[0] = c;
        add_thing(&in, &(struct thing){F, path});
    }
    n = tree_relay_feed(&t, buf_data(&in), buf_len(&in), &out, &st);
    assert_int_equal(st.code, CODE_OK);
    assert_true(n < buf_len(&in));
    assert_true(buf_len(&out) >= TREE_RELAY_FULL && buf_len(&out) <= TREE_RELAY_OUT_MAX);
}

static void test_cursors_that_are_none(void **state)
{
    static const struct {
        const char *data;
        size_t len;
    } cases[] = {
        {"\xff", 1},
        {"hello", 5},
        {"\x0a\x04../x", 6},
        {"\x0a\x02/x", 4},
        {"\x0a\x03x\0y", 5},
        {"\x22\x01\xff", 3},                                  /* counts */
        {"\x18\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11}, /* offset */
    };
    AUTO(tree_relay_deinit) struct tree_relay t;

    tree_relay_init(&t, 0, 0);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_false(tree_relay_set_cursor(&t, (const uint8_t *)cases[i].data, cases[i].len));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_directory_becomes_an_archive),
        cmocka_unit_test(test_it_goes_on_wherever_it_was_cut),
        cmocka_unit_test(test_a_cursor_behind_the_end),
        cmocka_unit_test(test_another_file_is_not_gone_on_with),
        cmocka_unit_test(test_entries_that_are_refused),
        cmocka_unit_test(test_bytes_that_are_refused),
        cmocka_unit_test(test_an_end_that_is_none),
        cmocka_unit_test(test_what_is_left_out_is_told),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_a_message_is_never_much_larger_than_what_fills_it),
        cmocka_unit_test(test_cursors_that_are_none),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
