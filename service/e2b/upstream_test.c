/* What is counted of requests to E2B, and which trace they are part of. */
#include "service/e2b/bench.h"

#include "common/base/buf.h"
#include "common/base/cleanup.h"
#include "service/metrics/metrics.h"
#include "service/trace/trace.h"

#include <stdio.h>
#include <string.h>

#define TRACEPARENT "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

static void serve(struct fake_call *c, void *arg)
{
    struct bench *b = arg;
    int nth = atomic_fetch_add(&b->n[0], 1);

    if (strcmp(b->mode, "500 twice") == 0 && nth < 2)
        fake_reply(c, 500, "", "{\"code\":500,\"message\":\"oops\"}");
    else if (strcmp(b->mode, "404") == 0)
        fake_reply(c, 404, "", NOT_FOUND_BODY);
    else if (strcmp(b->mode, "traced") == 0 &&
             !(fake_has(c, "traceparent: " TRACEPARENT) && fake_has(c, "tracestate: a=1")))
        fake_reply(c, 400, "", "{\"code\":400,\"message\":\"not traced\"}");
    else if (strcmp(b->mode, "untraced") == 0 && fake_has(c, "traceparent: "))
        fake_reply(c, 400, "", "{\"code\":400,\"message\":\"traced\"}");
    else
        fake_reply(c, 200, "", DETAIL("running", ""));
}

static void get(struct bench *b, enum code code, int reason)
{
    struct waiter w = WAITER;
    struct e2b_sandbox s = {0};

    e2b_get(b->e2b, &w.op, "iabc", &s);
    check(wait_for(&w), code, reason);
    e2b_sandbox_deinit(&s);
}

static void assert_counted(struct bench *b, const char *line)
{
    AUTO(buf_deinit) struct buf page = BUF_INIT(1 << 20);

    assert_true(metrics_write(b->metrics, &page));
    if (strstr(buf_str(&page), line) == NULL)
        print_error("%s is not among\n%s", line, buf_str(&page));
    assert_non_null(strstr(buf_str(&page), line));
}

static void test_every_attempt_is_counted(void **state)
{
    struct bench b = {.mode = "500 twice"};

    bench_open(&b, serve);
    get(&b, CODE_OK, 0);
    b.mode = "404";
    get(&b, CODE_NOT_FOUND, REASON(SANDBOX_NOT_FOUND));
    assert_counted(&b,
                   "\nsandboxd_upstream_requests_total{operation=\"get_sandbox\",code=\"OK\"} 1\n");
    assert_counted(
        &b,
        "\nsandboxd_upstream_requests_total{operation=\"get_sandbox\",code=\"UNAVAILABLE\"} 2\n");
    assert_counted(
        &b, "\nsandboxd_upstream_requests_total{operation=\"get_sandbox\",code=\"NOT_FOUND\"} 1\n");
    assert_counted(&b, "\nsandboxd_upstream_retries_total{operation=\"get_sandbox\"} 2\n");
    assert_counted(&b, "\nsandboxd_upstream_seconds_count{operation=\"get_sandbox\"} 4\n");
    assert_counted(&b, "\nsandboxd_upstream_seconds_count{operation=\"create_sandbox\"} 0\n");
    bench_close(&b);
}

/* Whoever starts an operation has not to say of which trace: its executor knows. */
static void test_the_trace_goes_on(void **state)
{
    struct trace *trace = trace_parse(TRACEPARENT, "a=1");
    struct bench b = {.mode = "traced"};

    bench_open(&b, serve);
    waiter_executor->trace = trace;
    get(&b, CODE_OK, 0);
    waiter_executor->trace = NULL;
    b.mode = "untraced";
    get(&b, CODE_OK, 0);
    bench_close(&b);
    trace_unref(trace);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_attempt_is_counted),
        cmocka_unit_test(test_the_trace_goes_on),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
