/* Followers: what they write comes whole, with backpressure, and is kept when they are cut. */
#include "service/e2b/bench_sandbox.h"

#include "common/base/buf.h"
#include "common/base/list.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct reader {
    struct waiter w;
    struct e2b_stream *stream;
    struct e2b_output out;
    struct buf got;
    size_t headroom;
    bool hold; /* does not take */
};

static void take_all(struct reader *r)
{
    uint8_t *base;
    size_t len;

    while (e2b_stream_take(r->stream, r->headroom, &base, &len)) {
        memset(base, 0xee, r->headroom);
        assert_true(len > 0 && len <= 65536);
        assert_true(buf_append(&r->got, base + r->headroom, len));
        free(base);
        r->headroom = (r->headroom + 7) % 50;
    }
}

static void on_readable(struct e2b_op *op)
{
    struct reader *r = container_of(op, struct reader, w.op);

    assert_false(r->w.done);
    if (!r->hold)
        take_all(r);
}

static void reader_open(struct reader *r, struct bench *b)
{
    static const char *const args[] = {"follow", "--id=a", NULL};

    *r = (struct reader){.w = WAITER};
    buf_init(&r->got, 64 << 20);
    r->stream = e2b_stream_start(b->e2b, &r->w.op, "iabc", args, NULL, 0, on_readable, &r->out);
}

static void reader_close(struct reader *r)
{
    e2b_stream_free(r->stream);
    buf_deinit(&r->got);
}

enum { BIG = 12 << 20, CHUNK = 32768 };

static uint8_t pattern(size_t i)
{
    return (uint8_t)(i * 31 + (i >> 12));
}

/* BIG bytes in events of CHUNK, then exit code 5. n[VERBS]: bytes written so far. */
static void serve_big(struct fake_call *c, void *arg)
{
    struct bench *b = arg;
    struct buf data = BUF_INIT(1 << 20);
    uint8_t chunk[CHUNK];

    if (serve_sandbox(c, b))
        return;
    fake_stream(c, "application/connect+proto");
    fake_add_start(&data, 4711);
    for (size_t at = 0; at < BIG; at += CHUNK) {
        for (size_t i = 0; i < CHUNK; i++)
            chunk[i] = pattern(at + i);
        fake_add_data(&data, false, chunk, CHUNK);
        if (at % (5 * CHUNK) == 0)
            fake_add_keepalive(&data);
        fake_chunk(c, buf_data(&data), buf_len(&data));
        buf_clear(&data);
        atomic_fetch_add(&b->n[VERBS], CHUNK);
    }
    fake_add_exit(&data, 5, true);
    buf_append(&data, "\2\0\0\0\2{}", 7);
    fake_chunk(c, buf_data(&data), buf_len(&data));
    fake_end(c);
    buf_deinit(&data);
}

static void check_big(const struct reader *r)
{
    const uint8_t *data = buf_data(&r->got);

    assert_int_equal(buf_len(&r->got), BIG);
    for (size_t i = 0; i < BIG; i++) {
        if (data[i] != pattern(i))
            fail_msg("byte %zu is wrong", i);
    }
}

static void test_stream(void **state)
{
    struct bench b = {0};
    struct reader r;

    bench_open(&b, serve_big);
    reader_open(&r, &b);
    check(wait_for(&r.w), CODE_OK, 0);
    take_all(&r);
    check_big(&r);
    assert_int_equal(r.out.exit_code, 5);
    assert_null(r.out.out);
    reader_close(&r);
    bench_close(&b);
}

/* Nobody takes: the sandbox comes to a stand long before the end. Then all of it arrives. */
static void test_stream_backpressure(void **state)
{
    struct bench b = {0};
    struct reader r;
    int before = -1, now;

    bench_open(&b, serve_big);
    reader_open(&r, &b);
    r.hold = true;
    wait_until(&b.n[VERBS], 1);
    while ((now = atomic_load(&b.n[VERBS])) != before) { /* until it stands still */
        before = now;
        usleep(200000);
    }
    assert_true(now < BIG / 2); /* the rest is in the kernel's socket buffers */
    r.hold = false;
    take_all(&r);
    check(wait_for(&r.w), CODE_OK, 0);
    take_all(&r);
    check_big(&r);
    reader_close(&r);
    bench_close(&b);
}

static void test_stream_cut_keeps_what_came(void **state)
{
    struct bench b = {.mode = "cut"};
    struct reader r;

    bench_open(&b, serve_edge);
    reader_open(&r, &b);
    r.hold = true;
    check(wait_for(&r.w), CODE_UNAVAILABLE, REASON(E2B_UNAVAILABLE));
    take_all(&r);
    assert_string_equal(buf_str(&r.got), "xyz");
    reader_close(&r);
    bench_close(&b);
}

static void test_stream_cancel(void **state)
{
    for (int before_start = 0; before_start < 2; before_start++) {
        struct bench b = {0};
        struct reader r;

        bench_open(&b, serve_endless);
        atomic_store(&b.n[VERBS], !before_start);
        reader_open(&r, &b);
        if (before_start) {
            wait_until(&b.n[STARTS], 1);
        } else {
            while (buf_len(&r.got) < 5)
                pump_once();
        }
        e2b_cancel(&r.w.op);
        check(wait_for(&r.w), CODE_CANCELLED, 0);
        reader_close(&r);
        atomic_store(&b.n[VERBS], 1);
        wait_until(&b.n[KILLS], 1);
        bench_close(&b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stream),
        cmocka_unit_test(test_stream_backpressure),
        cmocka_unit_test(test_stream_cut_keeps_what_came),
        cmocka_unit_test(test_stream_cancel),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
