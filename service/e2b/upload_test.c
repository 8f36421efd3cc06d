/* Uploads of unknown length, and input for processes, to an E2B that takes them, stalls, refuses or
 * goes away. */
#include "service/e2b/bench.h"

#include "common/base/mem.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { POSTS, GO, GOT, WRITABLE }; /* bench.n[] */

enum { BLOCK = 64 * 1024, BLOCKS = 64 };

/* Reads the chunked body to its end; how many bytes that were, chunk heads included. */
static int read_body(struct fake_call *c)
{
    char tail[5] = "", block[16384];
    int total = 0;
    const uint8_t *data = c->more;
    ssize_t n = (ssize_t)c->more_len;

    for (;;) {
        for (ssize_t i = 0; i < n; i++) {
            memmove(tail, tail + 1, 4);
            tail[4] = (char)data[i];
        }
        total += (int)n;
        if (memcmp(tail, "0\r\n\r\n", 5) == 0)
            return total;
        n = recv(c->fd, block, sizeof block, 0);
        if (n <= 0)
            return -1;
        data = (const uint8_t *)block;
    }
}

/* Resets the connection; what takes the place of its socket is the fake's to close. */
static void cut(struct fake_call *c)
{
    struct linger now = {.l_onoff = 1};
    int nothing = open("/dev/null", O_RDWR | O_CLOEXEC);

    setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    dup3(nothing, c->fd, O_CLOEXEC);
    close(nothing);
}

/* As envd answers, as one that has no such process does, and as neither would. */
static void serve_input(struct fake_call *c, struct bench *b)
{
    static const char good[] = "\0\0\0\0\0\2\0\0\0\2{}";
    static const char bad[] =
        "\2\0\0\0\x30{\"error\":{\"code\":\"not_found\",\"message\":\"pid 1\"}}";
    static const char *const type = "Content-Type: application/connect+proto\r\n";

    if (!fake_has(c, "Transfer-Encoding: chunked") || !fake_has(c, "Connect-Protocol-Version: 1") ||
        !fake_has(c, "Content-Type: application/connect+proto")) {
        fake_reply(c, 400, "", "not as it should be");
        return;
    }
    if (strcmp(b->mode, "cut") == 0) {
        cut(c);
        return;
    }
    if (strcmp(b->mode, "stall") == 0)
        wait_until(&b->n[GO], 1);
    atomic_store(&b->n[GOT], read_body(c));
    if (strcmp(b->mode, "none") == 0)
        fake_reply_bytes(c, 200, type, bad, sizeof(bad) - 1);
    else if (strcmp(b->mode, "odd") == 0)
        fake_reply(c, 200, type, "<html>");
    else if (strcmp(b->mode, "endless") == 0)
        fake_reply_bytes(c, 200, type, good, 5);
    else
        fake_reply_bytes(c, 200, type, good, sizeof(good) - 1);
}

static void serve(struct fake_call *c, void *arg)
{
    struct bench *b = arg;

    if (fake_is(c, "GET", "/sandboxes/iabc")) {
        if (strcmp(b->mode, "gone") == 0 && atomic_load(&b->n[POSTS]) > 0)
            fake_reply(c, 404, "", NOT_FOUND_BODY);
        else
            fake_reply(c, 200, "", DETAIL("running", ""));
        return;
    }
    c->close = true;
    atomic_fetch_add(&b->n[POSTS], 1);
    if (fake_is(c, "POST", "/process.Process/StreamInput")) {
        serve_input(c, b);
        return;
    }
    if (!fake_is(c, "POST", "/files?path=%2Fa%20b&username=me") ||
        !fake_has(c, "Transfer-Encoding: chunked") || !fake_has(c, "X-Access-Token: t0") ||
        !fake_has(c, "Content-Type: application/octet-stream")) {
        fake_reply(c, 400, "", "not as it should be");
        return;
    }
    if (strcmp(b->mode, "cut") == 0) {
        cut(c);
        return;
    }
    if (strcmp(b->mode, "gone") == 0) {
        fake_reply(c, 502, "", "{\"message\":\"The sandbox was not found\",\"code\":502}");
        return;
    }
    if (strcmp(b->mode, "full") == 0) {
        fake_reply(c, 507, "", "{\"code\":507,\"message\":\"not enough disk space\"}");
        return;
    }
    if (strcmp(b->mode, "stall") == 0)
        wait_until(&b->n[GO], 1);
    atomic_store(&b->n[GOT], read_body(c));
    fake_reply(c, 200, "", "[{\"path\":\"/a b\",\"name\":\"a b\",\"type\":\"file\"}]");
}

static struct bench *current;

static void on_writable(struct e2b_op *op)
{
    atomic_fetch_add(&current->n[WRITABLE], 1);
}

/* Writes as a handler does: not while it is full, for as long as it is not over. */
static void write_all_blocks(struct e2b_upload *u, struct waiter *w,
                             void (*write)(struct e2b_upload *u, const uint8_t *data, size_t len))
{
    uint8_t *block = xcalloc(1, BLOCK);

    for (int i = 0; i < BLOCKS && !w->done; i++) {
        int seen = atomic_load(&current->n[WRITABLE]);

        write(u, block, BLOCK);
        if (!e2b_upload_is_full(u))
            continue;
        atomic_store(&current->n[GO], 1); /* the peer that stalls reads only from here on */
        while (!w->done && atomic_load(&current->n[WRITABLE]) == seen)
            pump_once();
    }
    free(block);
}

static void upload(struct bench *b, enum code code, int reason)
{
    struct waiter w = WAITER;
    struct e2b_upload *u;

    current = b;
    bench_open(b, serve);
    u = e2b_upload_start(b->e2b, &w.op, "iabc", "me", "/a b", on_writable);
    write_all_blocks(u, &w, e2b_upload_write);
    e2b_upload_end(u);
    check(wait_for(&w), code, reason);
    e2b_upload_free(u);
    bench_close(b);
}

static void test_upload(void **state)
{
    static const struct {
        const char *mode;
        enum code code;
        int reason;
    } cases[] = {
        {"", CODE_OK, 0},
        {"stall", CODE_OK, 0},
        {"cut", CODE_UNAVAILABLE, REASON(E2B_UNAVAILABLE)},
        {"full", CODE_RESOURCE_EXHAUSTED, REASON(DISK_FULL)},
        {"gone", CODE_NOT_FOUND, REASON(SANDBOX_NOT_FOUND)},
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct bench b = {.mode = cases[i].mode};

        upload(&b, cases[i].code, cases[i].reason);
        if (cases[i].code == CODE_OK)
            assert_true(atomic_load(&b.n[GOT]) > BLOCK * BLOCKS);
        if (strcmp(cases[i].mode, "stall") == 0)
            assert_true(atomic_load(&b.n[WRITABLE]) > 0);
        /* Once bytes were taken nothing is sent a second time. */
        if (strcmp(cases[i].mode, "gone") != 0)
            assert_int_equal(atomic_load(&b.n[POSTS]), 1);
    }
}

static void test_input(void **state)
{
    static const struct {
        const char *mode;
        enum code code;
        int reason;
    } cases[] = {
        {"", CODE_OK, 0},
        {"stall", CODE_OK, 0},
        {"cut", CODE_UNAVAILABLE, REASON(E2B_UNAVAILABLE)},
        {"odd", CODE_UNAVAILABLE, REASON(E2B_UNAVAILABLE)},
        {"endless", CODE_UNAVAILABLE, REASON(E2B_UNAVAILABLE)},
        {"none", CODE_UNAVAILABLE, REASON(E2B_UNAVAILABLE)},
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct bench b = {.mode = cases[i].mode};
        struct waiter w = WAITER;
        struct e2b_upload *u;

        current = &b;
        bench_open(&b, serve);
        u = e2b_input_start(b.e2b, &w.op, "iabc", 4711, on_writable);
        write_all_blocks(u, &w, e2b_input_write);
        e2b_upload_end(u);
        check(wait_for(&w), cases[i].code, cases[i].reason);
        e2b_upload_free(u);
        if (strcmp(cases[i].mode, "cut") != 0)
            assert_true(atomic_load(&b.n[GOT]) > BLOCK * BLOCKS);
        assert_int_equal(atomic_load(&b.n[POSTS]), 1); /* it is never sent a second time */
        bench_close(&b);
    }
}

static void test_upload_that_is_cancelled(void **state)
{
    struct bench b = {.mode = "stall"};
    struct waiter w = WAITER;
    struct e2b_upload *u;
    uint8_t block[1000] = {0};

    current = &b;
    bench_open(&b, serve);
    u = e2b_upload_start(b.e2b, &w.op, "iabc", "me", "/a b", on_writable);
    e2b_upload_write(u, block, sizeof block);
    wait_until(&b.n[POSTS], 1);
    e2b_cancel(&w.op);
    check(wait_for(&w), CODE_CANCELLED, 0);
    e2b_upload_write(u, block, sizeof block); /* late, and harmless */
    e2b_upload_free(u);
    atomic_store(&b.n[GO], 1);
    bench_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_upload),
        cmocka_unit_test(test_input),
        cmocka_unit_test(test_upload_that_is_cancelled),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
