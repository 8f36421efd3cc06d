/* The tracer against a collector of this test: what arrives, what is dropped, and that it ends. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/base/buf.h"
#include "common/base/cleanup.h"
#include "common/base/clock.h"
#include "common/base/list.h"
#include "common/http/body.h"
#include "common/http/net.h"
#include "common/http/server.h"
#include "service/metrics/metrics.h"
#include "service/trace/otlp.h"
#include "service/trace/tracer.h"

#include <curl/curl.h>
#include <json-c/json.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WAIT_MS = 60 * 1000 };

/* --- the collector --- */

static struct collector {
    struct loop loop;
    struct http_server *server;
    pthread_t thread;
    char url[80];
    struct task stop;

    pthread_mutex_t lock;
    pthread_cond_t changed;
    int answer; /* with which status; 0: never */
    int requests, spans;
    char target[80], header[80];
} collector = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static int count_spans(const uint8_t *body, size_t len)
{
    struct json_tokener *tokener = json_tokener_new();
    struct json_object *root = json_tokener_parse_ex(tokener, (const char *)body, (int)len), *o;
    int n;

    json_tokener_free(tokener);
    assert_non_null(root);
    o = json_object_object_get(root, "resourceSpans");
    o = json_object_object_get(json_object_array_get_idx(o, 0), "scopeSpans");
    o = json_object_object_get(json_object_array_get_idx(o, 0), "spans");
    n = (int)json_object_array_length(o);
    json_object_put(root);
    return n;
}

static void on_body(struct http_exchange *x, void *ctx, const uint8_t *data, size_t len)
{
    const char *header = http_header(http_request(x), "x-key");
    int status;

    pthread_mutex_lock(&collector.lock);
    status = collector.answer;
    collector.requests++;
    if (status == 200)
        collector.spans += count_spans(data, len);
    snprintf(collector.target, sizeof(collector.target), "%s", http_request(x)->target);
    snprintf(collector.header, sizeof(collector.header), "%s", header != NULL ? header : "");
    pthread_cond_broadcast(&collector.changed);
    pthread_mutex_unlock(&collector.lock);
    if (status != 0)
        http_reply(x, status, "application/json", "{}", 2);
}

static void on_request(struct http_exchange *x, void *ctx)
{
    http_collect(x, 64 << 20, on_body, NULL);
}

static void run_stop(struct task *task)
{
    http_server_free(collector.server);
    loop_stop(&collector.loop);
}

static void *run(void *arg)
{
    loop_run(&collector.loop);
    return NULL;
}

static int setup(void **state)
{
    const struct http_server_config config = {.request = on_request};
    struct status st = STATUS_INIT;
    char address[64];
    int fd;

    curl_global_init(CURL_GLOBAL_DEFAULT);
    if (!loop_init(&collector.loop, &st) || !net_listen_tcp("127.0.0.1:0", &fd, &st) ||
        !net_local_name(fd, address, sizeof(address)))
        return -1;
    snprintf(collector.url, sizeof(collector.url), "http://%s/", address);
    collector.server = http_server_new(&collector.loop, &config);
    collector.stop.run = run_stop;
    if (!http_server_listen(collector.server, fd, &st))
        return -1;
    return pthread_create(&collector.thread, NULL, run, NULL);
}

static int teardown(void **state)
{
    executor_post(loop_executor(&collector.loop), &collector.stop);
    pthread_join(collector.thread, NULL);
    loop_deinit(&collector.loop);
    curl_global_cleanup();
    return 0;
}

static void answer_with(int status)
{
    pthread_mutex_lock(&collector.lock);
    collector.answer = status;
    collector.requests = collector.spans = 0;
    pthread_mutex_unlock(&collector.lock);
}

/* Until so many spans, or requests, have come. */
static void wait_for(const int *number, int value)
{
    int64_t until_ns = clock_wall_ns() + WAIT_MS * NS_PER_MS;
    struct timespec until = {.tv_sec = until_ns / NS_PER_S, .tv_nsec = until_ns % NS_PER_S};
    int error = 0;

    pthread_mutex_lock(&collector.lock);
    while (*number < value && error == 0)
        error = pthread_cond_timedwait(&collector.changed, &collector.lock, &until);
    pthread_mutex_unlock(&collector.lock);
    assert_int_equal(error, 0);
}

/* --- the tests --- */

static struct tracer *make(enum sampler sampler, bool follows_parent, struct metrics *m)
{
    const struct tracer_config config = {
        .endpoint = collector.url,
        .headers = "x-other=1, x-key=a%20b",
        .service_name = "ours",
        .sampler = sampler,
        .follows_parent = follows_parent,
        .ratio = 0.25,
        .metrics = m,
    };
    struct status st = STATUS_INIT;
    struct tracer *t = NULL;

    assert_true(tracer_new(&config, &t, &st));
    return t;
}

static void end_spans(struct tracer *t, int n)
{
    struct trace *trace = trace_new(TRACE_SAMPLED);
    struct span span = {.trace = trace, .kind = SPAN_SERVER, .service = "s.v1.S", .name = "Get"};

    memcpy(span.id, trace->span, sizeof(span.id));
    while (n-- > 0)
        tracer_end(t, &span);
    trace_unref(trace);
}

static int64_t counted(struct metrics *m, const char *result)
{
    AUTO(buf_deinit) struct buf page = BUF_INIT(1 << 20);
    char name[80];
    const char *at;

    assert_true(metrics_write(m, &page));
    snprintf(name, sizeof(name), "sandboxd_spans_total{result=\"%s\"} ", result);
    at = strstr(buf_str(&page), name);
    assert_non_null(at);
    return strtoll(at + strlen(name), NULL, 10);
}

static void test_spans_arrive(void **state)
{
    struct metrics *m = metrics_new();
    struct tracer *t = make(SAMPLER_ALWAYS_ON, true, m);

    answer_with(200);
    end_spans(t, 3);
    wait_for(&collector.spans, 3);
    assert_string_equal(collector.target, "/v1/traces");
    assert_string_equal(collector.header, "a b");
    end_spans(t, 700); /* more than a batch; what is left goes out at the end */
    tracer_free(t);
    assert_int_equal(collector.spans, 703);
    assert_int_equal(counted(m, "exported"), 703);
    metrics_free(m);
}

static void test_a_collector_in_trouble_is_asked_again(void **state)
{
    struct metrics *m = metrics_new();
    struct tracer *t = make(SAMPLER_ALWAYS_ON, true, m);

    answer_with(503);
    end_spans(t, 1);
    wait_for(&collector.requests, 2);
    answer_with(200);
    wait_for(&collector.spans, 1);
    answer_with(400); /* it will never take these */
    end_spans(t, 2);
    wait_for(&collector.requests, 1);
    tracer_free(t);
    assert_int_equal(counted(m, "failed"), 2);
    metrics_free(m);
}

/* A collector that takes the connection and never answers: nobody waits, and nothing grows. */
static void test_what_does_not_fit_is_dropped(void **state)
{
    struct metrics *m = metrics_new();
    struct tracer *t = make(SAMPLER_ALWAYS_ON, true, m);
    int64_t begin;

    answer_with(0);
    end_spans(t, 1);
    wait_for(&collector.requests, 1); /* the thread is busy with it now */
    begin = clock_monotonic_ns();
    end_spans(t, TRACER_QUEUE + 100);
    assert_true(clock_monotonic_ns() - begin < 5 * NS_PER_S);
    assert_int_equal(counted(m, "dropped"), 100);
    begin = clock_monotonic_ns();
    tracer_free(t);
    assert_true(clock_monotonic_ns() - begin < 30 * NS_PER_S);
    metrics_free(m);
}

static const char sampled[] = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
static const char unsampled[] = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";

static void test_who_is_sampled(void **state)
{
    static const struct {
        enum sampler sampler;
        bool follows;
        bool root, child, silent; /* without a caller's trace, with a sampled one, with the other */
    } cases[] = {
        {SAMPLER_ALWAYS_ON, true, true, true, false},
        {SAMPLER_ALWAYS_OFF, true, false, true, false},
        {SAMPLER_ALWAYS_ON, false, true, true, true},
        {SAMPLER_ALWAYS_OFF, false, false, false, false},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct tracer *t = make(cases[i].sampler, cases[i].follows, NULL);
        struct trace *root = tracer_begin(t, NULL, NULL);
        struct trace *child = tracer_begin(t, sampled, "a=1");
        struct trace *silent = tracer_begin(t, unsampled, NULL);

        assert_int_equal(trace_is_sampled(root), cases[i].root);
        assert_int_equal(trace_is_sampled(child), cases[i].child);
        assert_int_equal(trace_is_sampled(silent), cases[i].silent);
        assert_string_equal(child->state, "a=1");
        trace_unref(root);
        trace_unref(child);
        trace_unref(silent);
        tracer_free(t);
    }
}

static void test_a_ratio_of_the_roots(void **state)
{
    struct tracer *t = make(SAMPLER_RATIO, true, NULL);
    int n = 0;

    for (int i = 0; i < 4000; i++) {
        struct trace *trace = tracer_begin(t, NULL, NULL);

        n += trace_is_sampled(trace);
        trace_unref(trace);
    }
    assert_in_range(n, 800, 1200); /* 7 standard deviations */
    tracer_free(t);
}

/* Without a tracer a trace goes on as it came, and none begins. */
static void test_nobody_traces(void **state)
{
    struct trace *t = tracer_begin(NULL, sampled, NULL);
    char text[TRACE_PARENT_SIZE];

    trace_format(t, t->span, text);
    assert_string_equal(text, sampled);
    trace_unref(t);
    assert_null(tracer_begin(NULL, NULL, NULL));
    assert_null(tracer_begin(NULL, "nonsense", "a=1"));
    end_spans(NULL, 1);
    tracer_free(NULL);
}

static void test_the_body(void **state)
{
    struct trace *root = trace_parse(sampled, "a=1"), *t = trace_child(root, TRACE_SAMPLED);
    struct span spans[] = {
        {.trace = t,
         .kind = SPAN_SERVER,
         .service = "s.v1.S",
         .name = "Get",
         .start_ns = 1,
         .end_ns = INT64_MAX,
         .code = CODE_UNAVAILABLE,
         .failed = true,
         .sandbox_id = "i\"1",
         .tenant = "blue"},
        {.trace = t, .kind = SPAN_CLIENT, .service = "", .name = "look", .http_status = 404},
    };
    AUTO_FREE char *body = NULL;

    memcpy(spans[0].parent, t->parent, sizeof(t->parent));
    body = otlp_pack("ours", "zone=a%2Cb,nonsense,=x", spans, 2);

    struct json_object *parsed = json_tokener_parse(body);

    assert_non_null(parsed);
    json_object_put(parsed);
    assert_non_null(strstr(body, "{\"key\":\"zone\",\"value\":{\"stringValue\":\"a,b\"}}"));
    assert_null(strstr(body, "nonsense"));
    assert_non_null(strstr(body, "\"parentSpanId\":\"00f067aa0ba902b7\""));
    assert_non_null(strstr(body, "\"traceState\":\"a=1\""));
    assert_non_null(strstr(body, "\"name\":\"s.v1.S/Get\",\"kind\":2,\"startTimeUnixNano\":\"1\","
                                 "\"endTimeUnixNano\":\"9223372036854775807\""));
    assert_non_null(strstr(body, "\"status\":{\"code\":2,\"message\":\"UNAVAILABLE\"}"));
    assert_non_null(strstr(body, "\"stringValue\":\"i\\\"1\""));
    assert_non_null(strstr(body, "\"name\":\"look\",\"kind\":3"));
    assert_non_null(strstr(body, "\"http.response.status_code\",\"value\":{\"intValue\":\"404\"}"));
    trace_unref(t);
    trace_unref(root);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_spans_arrive),
        cmocka_unit_test(test_a_collector_in_trouble_is_asked_again),
        cmocka_unit_test(test_what_does_not_fit_is_dropped),
        cmocka_unit_test(test_who_is_sampled),
        cmocka_unit_test(test_a_ratio_of_the_roots),
        cmocka_unit_test(test_nobody_traces),
        cmocka_unit_test(test_the_body),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
