/*
 * Verbs of the recorder in a sandbox: where it is installed first, and where E2B is at its worst.
 */
#include "service/e2b/bench_sandbox.h"

#include "common/base/buf.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The connection ends between the two lines. */
static void start_half_an_answer(struct fake_call *c)
{
    struct buf b = BUF_INIT(1 << 20);

    fake_add_start(&b, 4711);
    fake_add_data(&b, false, "user\n", 5);
    fake_stream(c, "application/connect+proto");
    fake_chunk(c, buf_data(&b), buf_len(&b));
    c->close = true;
    buf_deinit(&b);
}

#define ROOT_RECORDER "/var/lib/sandboxd/bin/recorder-"
#define HOME_RECORDER ".sandboxd/bin/recorder-"

/* A sandbox where the recorder has to be installed first. */
static void serve_install(struct fake_call *c, void *arg)
{
    struct bench *b = arg;
    bool home = strcmp(b->mode, "no root") == 0, arm = strcmp(b->mode, "arm64") == 0;
    char what[2048];

    if (serve_sandbox(c, b))
        return;
    if (fake_is(c, "POST", "/files")) {
        bool as_root = strstr(c->path, "&username=root") != NULL;

        if (home && as_root) {
            fake_reply(c, 401, "", "{\"code\":401,\"message\":\"error looking up user\"}");
            return;
        }
        if (strstr(c->path, home ? "path=.sandboxd%2Fbin%2F.upload-"
                                 : "path=%2Fvar%2Flib%2Fsandboxd%2Fbin%2F.upload-") &&
            c->body_len == (arm ? sizeof bench_foreign_recorder : sizeof bench_recorder)) {
            snprintf(b->seen, sizeof b->seen, "%.40s", strstr(c->path, ".upload-"));
            atomic_fetch_add(&b->n[UPLOADS], 1);
        } else if (strstr(c->path, home ? "path=.sandboxd%2Fspec%2F"
                                        : "path=%2Fvar%2Flib%2Fsandboxd%2Fspec%2F") &&
                   c->body_len == 4)
            atomic_fetch_add(&b->n[SPECS], 1);
        fake_reply(c, 200, "", "[{\"path\":\"/x\",\"name\":\"x\",\"type\":\"file\"}]");
        return;
    }
    describe_start(c, what, sizeof what);
    if (home && strncmp(what, "root", 4) == 0) {
        answer_stream_error(c,
                            "{\"error\":{\"code\":\"unauthenticated\",\"message\":\"no root\"}}");
        return;
    }
    if (strcmp(what, "||/bin/sh|-c|uname -m && id -un && pwd") == 0) {
        if (strcmp(b->mode, "cut") == 0 && atomic_fetch_add(&b->n[ASKED], 1) == 0) {
            start_half_an_answer(c);
            return;
        }
        answer_start(c,
                     arm                               ? "aarch64\nuser\n/home/user\n"
                     : strcmp(b->mode, "unknown") == 0 ? "riscv64\nuser\n/home/user\n"
                                                       : "x86_64\nuser\n/home/user\n",
                     "", 0);
        return;
    }
    if (strncmp(what, home ? "|~|/bin/sh|-c|f=" : "root|/|/bin/sh|-c|f=", home ? 16 : 20) == 0) {
        bool uploaded = atomic_load(&b->n[UPLOADS]) > 0 && strstr(what, b->seen) != NULL;
        bool told = strstr(what, "|--default-user=user|--default-cwd=/home/user") != NULL;

        if (told == home) {
            fake_reply(c, 400, "", "not as it should be");
            return;
        }
        atomic_fetch_add(&b->n[SETUPS], 1);
        answer_start(c, "", "", uploaded ? 0 : 1);
        return;
    }
    if (strstr(what, home ? "|~|" HOME_RECORDER : "root|/|" ROOT_RECORDER) == NULL) {
        fake_reply(c, 400, "", "not as it should be");
        return;
    }
    if (atomic_load(&b->n[SETUPS]) == 0) {
        answer_start(c, "", "sh: 1: exec: not found\n", 127);
        return;
    }
    if (strstr(what, "--spec=") != NULL)
        wait_until(&b->n[SPECS], atomic_load(&b->n[VERBS]) + 1); /* as the recorder does */
    atomic_fetch_add(&b->n[VERBS], 1);
    answer_start(c, what, "a word\n", 3);
}

static void run_verb(struct bench *b, const uint8_t *spec, struct e2b_output *out)
{
    static const char *const args[] = {"show", "--id=a", NULL};
    struct waiter w = WAITER;

    e2b_verb(b->e2b, &w.op, "iabc", args, spec, spec ? 4 : 0, true, out);
    check(wait_for(&w), CODE_OK, 0);
}

static void test_verb_installs_once(void **state)
{
    static const char *const modes[] = {"root", "no root", "arm64"};

    for (int i = 0; i < 6; i++) {
        struct bench b = {.mode = modes[i % 3]};
        const uint8_t *spec = i < 3 ? NULL : (const uint8_t *)"spec";
        struct e2b_output out;
        int starts;

        bench_open(&b, serve_install);
        run_verb(&b, spec, &out);
        assert_int_equal(out.exit_code, 3);
        assert_string_equal(out.err, "a word");
        assert_non_null(strstr((char *)out.out, i % 3 == 1 ? "|~|" HOME_RECORDER : "root|/|"));
        assert_non_null(strstr((char *)out.out, "|show|--id=a"));
        assert_int_equal(strstr((char *)out.out, "|--spec=") != NULL, spec != NULL);
        free(out.out);
        assert_int_equal(atomic_load(&b.n[UPLOADS]), 1);
        assert_int_equal(atomic_load(&b.n[SETUPS]), 1);
        assert_int_equal(atomic_load(&b.n[VERBS]), 1);
        assert_int_equal(atomic_load(&b.n[LOOKS]), 1);

        starts = atomic_load(&b.n[STARTS]);
        run_verb(&b, spec, &out);
        free(out.out);
        assert_int_equal(atomic_load(&b.n[STARTS]), starts + 1);
        assert_int_equal(atomic_load(&b.n[UPLOADS]), 1);
        assert_int_equal(atomic_load(&b.n[LOOKS]), 1);
        assert_int_equal(atomic_load(&b.n[SPECS]), spec ? 2 : 0);
        bench_close(&b);
    }
}

static void test_verb_where_no_recorder_fits(void **state)
{
    static const char *const args[] = {"show", NULL};
    struct bench b = {.mode = "unknown"};
    struct waiter w = WAITER;
    const struct status *st;
    struct e2b_output out;

    bench_open(&b, serve_install);
    e2b_verb(b.e2b, &w.op, "iabc", args, NULL, 0, true, &out);
    st = wait_for(&w);
    check(st, CODE_UNIMPLEMENTED, REASON(UNSUPPORTED));
    assert_non_null(strstr(st->message, "riscv64"));
    assert_int_equal(atomic_load(&b.n[UPLOADS]), 0);
    bench_close(&b);
}

/* What the first answer held must not stand in front of the second one's. */
static void test_an_answer_cut_in_two_is_asked_for_again(void **state)
{
    struct bench b = {.mode = "cut"};
    struct e2b_output out;

    bench_open(&b, serve_install);
    run_verb(&b, NULL, &out);
    assert_int_equal(out.exit_code, 3);
    assert_int_equal(atomic_load(&b.n[ASKED]), 2);
    assert_int_equal(atomic_load(&b.n[SETUPS]), 1);
    free(out.out);
    bench_close(&b);
}

static void serve_broken_install(struct fake_call *c, void *arg)
{
    char what[2048];

    if (serve_sandbox(c, arg))
        return;
    if (fake_is(c, "POST", "/files")) {
        fake_reply(c, 507, "", "{\"code\":507,\"message\":\"not enough disk space\"}");
        return;
    }
    describe_start(c, what, sizeof what);
    if (strstr(what, "id -un") != NULL)
        answer_start(c, "x86_64\nuser\n/home/user\n", "", 0);
    else
        answer_start(c, "", "not found", 127);
}

static void test_verb_where_the_disk_is_full(void **state)
{
    static const char *const args[] = {"show", NULL};
    struct bench b = {0};
    struct waiter w = WAITER;
    struct e2b_output out;

    bench_open(&b, serve_broken_install);
    e2b_verb(b.e2b, &w.op, "iabc", args, NULL, 0, true, &out);
    check(wait_for(&w), CODE_RESOURCE_EXHAUSTED, REASON(DISK_FULL));
    bench_close(&b);
}

static void test_verb_failures(void **state)
{
    static const struct {
        const char *mode;
        bool idempotent;
        enum code code;
        int reason;
        int starts;
    } cases[] = {
        {"gone", false, CODE_NOT_FOUND, REASON(SANDBOX_NOT_FOUND), 1},
        {"paused", false, CODE_FAILED_PRECONDITION, REASON(SANDBOX_PAUSED), 1},
        {"closed", false, CODE_UNAVAILABLE, REASON(E2B_UNAVAILABLE), 3},
        {"closed once", false, CODE_OK, 0, 2},
        {"new token", false, CODE_OK, 0, 2},
        {"connections", true, CODE_RESOURCE_EXHAUSTED, REASON(E2B_QUOTA), 1},
        {"html", true, CODE_UNAVAILABLE, REASON(E2B_UNAVAILABLE), 3},
        {"early end", true, CODE_UNAVAILABLE, REASON(E2B_UNAVAILABLE), 3},
        {"early end", false, CODE_UNAVAILABLE, REASON(E2B_UNAVAILABLE), 1},
        {"cut", false, CODE_UNAVAILABLE, REASON(E2B_UNAVAILABLE), 1},
        {"cut once", true, CODE_OK, 0, 2},
        {"killed", false, CODE_UNAVAILABLE, REASON(E2B_UNAVAILABLE), 1},
    };
    static const char *const args[] = {"show", NULL};

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct bench b = {.mode = cases[i].mode};
        struct waiter w = WAITER;
        struct e2b_output out;

        bench_open(&b, serve_edge);
        e2b_verb(b.e2b, &w.op, "iabc", args, NULL, 0, cases[i].idempotent, &out);
        check(wait_for(&w), cases[i].code, cases[i].reason);
        if (cases[i].code == CODE_OK) /* nothing of an attempt before */
            assert_string_equal((char *)out.out, "fine");
        free(out.out);
        /* Kills of lost followers come to the same server: at least these were Starts. */
        assert_true(atomic_load(&b.n[STARTS]) >= cases[i].starts);
        if (strncmp(cases[i].mode, "cut", 3) != 0)
            assert_int_equal(atomic_load(&b.n[STARTS]), cases[i].starts);
        bench_close(&b);
    }
}

/* Neither the control plane nor the sandbox says a word: each attempt has its time, and the caller
 * hears of it. */
static void serve_silence(struct fake_call *c, void *arg)
{
    struct bench *b = arg;

    if (strcmp(b->mode, "sandbox") == 0 && fake_is(c, "GET", "/sandboxes/")) {
        fake_reply(c, 200, "", DETAIL("running", ""));
        return;
    }
    atomic_fetch_add(&b->n[STARTS], 1);
    fake_wait_gone(c);
}

static void test_silence_ends_an_attempt(void **state)
{
    static const char *const args[] = {"show", NULL};
    static const struct {
        const char *mode;
        bool idempotent;
        int attempts;
    } cases[] = {{"sandbox", false, 1}, {"sandbox", true, 3}, {"control plane", false, 3}};

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct bench b = {.mode = cases[i].mode, .request_timeout_ms = 150};
        struct waiter w = WAITER;
        struct e2b_output out;

        bench_open(&b, serve_silence);
        e2b_verb(b.e2b, &w.op, "iabc", args, NULL, 0, cases[i].idempotent, &out);
        check(wait_for(&w), CODE_UNAVAILABLE, REASON(E2B_UNAVAILABLE));
        assert_int_equal(atomic_load(&b.n[STARTS]), cases[i].attempts);
        bench_close(&b);
    }
}

static void test_cancelled_verb_is_killed(void **state)
{
    static const char *const args[] = {"follow", NULL};

    for (int before_start = 0; before_start < 2; before_start++) {
        struct bench b = {0};
        struct waiter w = WAITER;
        struct e2b_output out;

        bench_open(&b, serve_endless);
        atomic_store(&b.n[VERBS], !before_start);
        e2b_verb(b.e2b, &w.op, "iabc", args, NULL, 0, true, &out);
        if (before_start)
            wait_until(&b.n[STARTS], 1);
        else
            wait_until(&b.n[SETUPS], 1);
        e2b_cancel(&w.op);
        check(wait_for(&w), CODE_CANCELLED, 0);
        atomic_store(&b.n[VERBS], 1); /* only now does it start, and nobody is there */
        wait_until(&b.n[KILLS], 1);
        bench_close(&b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_verb_installs_once),
        cmocka_unit_test(test_verb_where_no_recorder_fits),
        cmocka_unit_test(test_an_answer_cut_in_two_is_asked_for_again),
        cmocka_unit_test(test_verb_where_the_disk_is_full),
        cmocka_unit_test(test_verb_failures),
        cmocka_unit_test(test_silence_ends_an_attempt),
        cmocka_unit_test(test_cancelled_verb_is_killed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
