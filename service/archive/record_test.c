/* Names, Records, journals on their way in, and what S3 answers: all that is pure. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/base/cleanup.h"
#include "common/base/mem.h"
#include "common/journal/verbs.h"
#include "service/archive/copy_journal.h"
#include "service/archive/record.h"
#include "service/archive/s3_answer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- names --- */

static void test_owners_are_told_apart(void **state)
{
    static const struct {
        const char *tenant, *key, *owner;
    } cases[] = {
        {NULL, NULL, "-"},
        {"acme", NULL, "t.acme"},
        {"acme", "key", "t.acme"},
        {"-", NULL, "t.-"},
        {"a.b/../c", NULL, "t.a.2eb.2f.2e.2e.2fc"},
        {NULL, "key", "k.2c70e12b7a0646f92279f427c7b38e73"},
    };
    char owner[RECORD_OWNER_MAX + 1], longest[RECORD_OWNER_MAX];

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_true(record_owner(cases[i].tenant, cases[i].key, owner));
        assert_string_equal(owner, cases[i].owner);
    }
    memset(longest, '/', sizeof(longest));
    longest[RECORD_OWNER_MAX / 3 + 1] = '\0';
    assert_false(record_owner(longest, NULL, owner));
}

static void add_name(struct store_names *l, int64_t start_ns, const char *id, uint64_t last_seq)
{
    struct record_name n = {.start_ns = start_ns, .last_seq = last_seq, .sha = {(uint8_t)last_seq}};
    AUTO_FREE char *key = NULL;

    strcpy(n.command_id, id);
    key = record_key("-", "s", &n);
    assert_memory_equal(key, "-/s/commands/", 13);
    store_names_add(l, key + 13, strlen(key + 13));
}

static void test_the_newest_of_each_command_counts(void **state)
{
    static const char *const others[] = {
        "", "x", "00000000000000000001.id.00000000000000000001.short",
        "99999999999999999999.id.00000000000000000001."
        "0000000000000000000000000000000000000000000000000000000000000000",
        "00000000000000000001.i d.00000000000000000001."
        "0000000000000000000000000000000000000000000000000000000000000000"};
    AUTO(store_names_deinit) struct store_names l = {0};
    AUTO_FREE struct record_name *names = NULL;

    add_name(&l, 50, "b-1", 7);
    add_name(&l, 20, "c", UINT64_MAX);
    add_name(&l, 50, "b-1", 12);
    add_name(&l, 50, "a", 1);
    add_name(&l, 50, "b-1", 9);
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
        store_names_add(&l, others[i], strlen(others[i]));
    assert_int_equal(record_names(&l, &names), 3);
    assert_string_equal(names[0].command_id, "c");
    assert_true(names[0].last_seq == UINT64_MAX);
    assert_string_equal(names[1].command_id, "a");
    assert_string_equal(names[2].command_id, "b-1");
    assert_int_equal(names[2].last_seq, 12);
    assert_int_equal(names[2].sha[0], 12);
}

/* --- records --- */

struct made {
    Archive__V1__Record r;
    Sandbox__V1__Command command;
    Google__Protobuf__Timestamp start;
    Archive__V1__Piece pieces[2], *list[2];
    uint8_t sha[RECORD_SHA_LEN];
    struct record_name name;
    struct buf object;
};

static void make(struct made *m)
{
    *m = (struct made){.r = ARCHIVE__V1__RECORD__INIT,
                       .command = SANDBOX__V1__COMMAND__INIT,
                       .start = GOOGLE__PROTOBUF__TIMESTAMP__INIT,
                       .name = {.start_ns = 3000000004, .command_id = "c", .last_seq = 9},
                       .object = BUF_INIT(4096)};
    m->start.seconds = 3;
    m->start.nanos = 4;
    m->command.command_id = m->name.command_id;
    m->command.start_time = &m->start;
    m->command.last_seq = 9;
    for (int i = 0; i < 2; i++) {
        archive__v1__piece__init(&m->pieces[i]);
        m->pieces[i].first_seq = i == 0 ? 1 : 6;
        m->pieces[i].last_seq = i == 0 ? 5 : 9;
        m->pieces[i].bytes_before = i == 0 ? 0 : 40;
        m->pieces[i].size = 100;
        m->pieces[i].sha256 = (ProtobufCBinaryData){RECORD_SHA_LEN, m->sha};
        m->list[i] = &m->pieces[i];
    }
    m->r.command = &m->command;
    m->r.pieces = m->list;
    m->r.n_pieces = 2;
    m->r.exited_seq = 9;
}

/* Whether it is read back, when its name fits its bytes. */
static bool is_read(struct made *m)
{
    Archive__V1__Record *r = NULL;
    struct status st = STATUS_INIT;
    size_t len = archive__v1__record__get_packed_size(&m->r);
    bool ok;

    archive__v1__record__pack(&m->r, buf_reserve(&m->object, len));
    buf_commit(&m->object, len);
    record_sha(buf_data(&m->object), len, m->name.sha);
    ok = record_read(&m->object, &m->name, &r, &st);
    if (ok)
        archive__v1__record__free_unpacked(r, NULL);
    else
        assert_int_equal(st.code, CODE_DATA_LOSS);
    buf_deinit(&m->object);
    return ok;
}

static void test_a_record_must_hold_together(void **state)
{
    struct made m;

    make(&m);
    assert_true(is_read(&m));
#define REFUSED(change)                                                                            \
    do {                                                                                           \
        make(&m);                                                                                  \
        change;                                                                                    \
        assert_false(is_read(&m));                                                                 \
    } while (0)
    REFUSED(m.r.command = NULL);
    REFUSED(m.command.command_id = (char[]){"d"});
    REFUSED(m.command.last_seq = 8);
    REFUSED(m.start.seconds = INT64_MAX);
    REFUSED(m.pieces[0].first_seq = 2);
    REFUSED(m.pieces[1].first_seq = 7);
    REFUSED(m.pieces[1].last_seq = UINT64_MAX);
    REFUSED(m.pieces[1].size = RECORD_PIECE_MAX + 1);
    REFUSED(m.pieces[0].size = 0);
    REFUSED(m.pieces[0].bytes_before = 41);
    REFUSED(m.pieces[1].sha256.len = 31);
    REFUSED(m.r.n_pieces = 1);
    REFUSED(m.r.exited_seq = 10);
    REFUSED(m.command.expired = true);
}

static void test_a_name_of_other_bytes_is_noticed(void **state)
{
    Archive__V1__Record *r = NULL;
    struct status st = STATUS_INIT;
    struct made m;

    make(&m);
    buf_append_str(&m.object, "no record");
    assert_false(record_read(&m.object, &m.name, &r, &st));
    assert_int_equal(st.code, CODE_DATA_LOSS);
    record_sha("no record", 9, m.name.sha);
    assert_false(record_read(&m.object, &m.name, &r, &st));
    buf_deinit(&m.object);
}

/* --- journals --- */

static size_t put_output(uint8_t *to, uint64_t seq, uint64_t offset, size_t len)
{
    size_t n = journal_encode_output_header(to, seq, 1, offset, JOURNAL_STDOUT, len);

    memset(to + n, 'x', len);
    return n + len;
}

/* Feeds bytes cut at every so many, and joins the pieces. */
static enum copy_journal_result feed(struct copy_journal *j, const uint8_t *data, size_t len,
                                     size_t step, struct buf *pieces, int *ret_n)
{
    enum copy_journal_result result = COPY_MORE;

    for (size_t at = 0; at < len && result == COPY_MORE; at += step) {
        result = copy_journal_feed(j, data + at, len - at < step ? len - at : step);
        while (result == COPY_PIECE) {
            assert_true(buf_len(&j->piece) <= RECORD_PIECE_MAX);
            buf_append(pieces, buf_data(&j->piece), buf_len(&j->piece));
            copy_journal_next_piece(j);
            ++*ret_n;
            result = copy_journal_feed(j, NULL, 0);
        }
    }
    buf_append(pieces, buf_data(&j->piece), buf_len(&j->piece));
    return result;
}

static void test_a_journal_becomes_pieces_wherever_it_is_cut(void **state)
{
    enum { EVENTS = 120, OUTPUT = 20000, SIZE = EVENTS * (OUTPUT + 200) };
    AUTO_FREE uint8_t *data = xmalloc(SIZE);
    const size_t steps[] = {1, 777, COPY_BLOCK_MAX};
    size_t len = journal_encode_started(data, 1, 1, 7), journal;

    for (uint64_t seq = 2; seq < EVENTS; seq++)
        len += put_output(data + len, seq, (seq - 2) * OUTPUT, OUTPUT);
    len += journal_encode_exited(data + len, EVENTS, 5, &(struct journal_exit){.code = 3});
    journal = len;
    data[len++] = FOLLOW_MARK_END;
    data[len++] = 1;
    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
        AUTO(buf_deinit) struct buf pieces = BUF_INIT(SIZE);
        struct copy_journal j;
        int n = 0;

        copy_journal_init(&j);
        assert_int_equal(feed(&j, data, len, steps[i], &pieces, &n), COPY_MORE);
        assert_int_equal(buf_len(&pieces), journal);
        assert_memory_equal(buf_data(&pieces), data, journal);
        assert_int_equal(n, 2);
        assert_true(j.complete);
        assert_int_equal(j.check.last_seq, EVENTS);
        assert_int_equal(j.exited_seq, EVENTS);
        assert_int_equal(j.exited_ns, 5);
        assert_int_equal(j.bytes, (EVENTS - 2) * (uint64_t)OUTPUT);
        assert_int_equal(j.piece_bytes_before + (EVENTS - j.piece_first) * OUTPUT, j.bytes);
        copy_journal_deinit(&j);
    }
}

static void test_what_is_no_journal_is_refused(void **state)
{
    uint8_t first[256], third[256];
    const struct {
        const void *data;
        size_t len;
    } cases[] = {
        {"\x12\x01x", 3},
        {(const uint8_t[]){FOLLOW_MARK_SEEN, 9}, 2},
        {(const uint8_t[]){FOLLOW_MARK_END, 2}, 2},
        {(const uint8_t[]){FOLLOW_MARK_END, 1, FOLLOW_MARK_END, 1}, 4},
        {third, put_output(third, 3, 0, 5)},
        {first, journal_encode_dropped(first, 1, 2, 9, 5)},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct copy_journal j;

        copy_journal_init(&j);
        assert_int_equal(copy_journal_feed(&j, cases[i].data, cases[i].len), COPY_CORRUPT);
        copy_journal_deinit(&j);
    }
}

/* --- S3 --- */

#define LISTING(rest)                                                                              \
    "<?xml version=\"1.0\"?>\n<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/\">" rest      \
    "</ListBucketResult>"
#define KEY(name) "<Contents><Key>" name "</Key><Size>1</Size></Contents>"

static void test_listings_are_read(void **state)
{
    static const char page[] =
        LISTING("<IsTruncated>true</IsTruncated>" KEY("p/b") KEY("p/a") KEY("q/x") KEY("p/d/e")
                    KEY("p/") "<NextContinuationToken>1/x&amp;&lt;=+</NextContinuationToken>");
    static const char *const wrong[] = {
        "",
        "<html><Key>p/a</Key></html>",
        LISTING(KEY("p/a")),
        LISTING("<IsTruncated>true</IsTruncated>"),
        LISTING("<IsTruncated>true</IsTruncated><NextContinuationToken></NextContinuationToken>"),
    };
    AUTO(store_names_deinit) struct store_names l = {0};
    AUTO_FREE char *token = NULL;

    assert_true(s3_read_list(page, strlen(page), "p/", &l, &token));
    assert_string_equal(token, "1/x&<=+");
    store_names_sort(&l);
    assert_int_equal(l.n, 2);
    assert_string_equal(l.at[0], "a");
    assert_string_equal(l.at[1], "b");
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        AUTO(store_names_deinit) struct store_names none = {0};
        AUTO_FREE char *no_token = NULL;

        assert_false(s3_read_list(wrong[i], strlen(wrong[i]), "p/", &none, &no_token));
        assert_null(no_token);
    }
    /* Cut anywhere, it is no listing, or one of fewer names; under the sanitizers, from memory that
     * ends there. */
    for (size_t len = 0; len < strlen(page); len++) {
        AUTO(store_names_deinit) struct store_names some = {0};
        AUTO_FREE char *some_token = NULL;
        AUTO_FREE char *copy = xmemdup(page, len + 1);

        copy = xrealloc(copy, len > 0 ? len : 1);
        s3_read_list(copy, len, "p/", &some, &some_token);
        assert_true(some.n <= 2);
    }
}

static void test_errors_are_named(void **state)
{
    static const struct {
        const char *xml, *code;
    } cases[] = {
        {"<Error><Code>NoSuchKey</Code><Message>x</Message></Error>", "NoSuchKey"},
        {"<html>502</html>", ""},
        {"<Code>a<b>c</Code>", ""},
        {"<Code>tab\tled</Code>", ""},
        {"<Code>open", ""},
    };
    char code[S3_CODE_MAX + 1];

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        s3_error_code(cases[i].xml, strlen(cases[i].xml), code);
        assert_string_equal(code, cases[i].code);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_owners_are_told_apart),
        cmocka_unit_test(test_the_newest_of_each_command_counts),
        cmocka_unit_test(test_a_record_must_hold_together),
        cmocka_unit_test(test_a_name_of_other_bytes_is_noticed),
        cmocka_unit_test(test_a_journal_becomes_pieces_wherever_it_is_cut),
        cmocka_unit_test(test_what_is_no_journal_is_refused),
        cmocka_unit_test(test_listings_are_read),
        cmocka_unit_test(test_errors_are_named),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
