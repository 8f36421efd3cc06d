/*
 * The server against a real client of gRPC core, over loopback. The methods are those of the
 * standard services with handlers of this test behind them: Check answers by name, Watch streams,
 * reflection echoes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/base/cleanup.h"
#include "common/base/clock.h"
#include "common/base/list.h"
#include "common/base/mem.h"
#include "google/rpc/error_details.pb-c.h"
#include "google/rpc/status.pb-c.h"
#include "grpc/health/v1/health.pb-c.h"
#include "grpc/reflection/v1/reflection.pb-c.h"
#include "sandbox/v1/errors.pb-c.h"
#include "service/rpc/call.h"
#include "service/rpc/client_for_test.h"
#include "service/rpc/server.h"

#include <grpc/grpc.h>
#include <grpc/support/time.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    CHUNK = 64 * 1024,
    POSTS = 500,
    PIPELINED = 200,
    BIG = 1000 * 1000,
    BIG_ASKED = 63,
    STORMS = 6,
    STORM_CALLS = 60
};

/* --- the methods --- */

struct watch {
    struct call *call;
    char kind[32];
    int left; /* messages to send */
    struct call_timer timer;
    struct task task;
    atomic_int posted;
    pthread_t thread;
};

static atomic_int created_count, gone_count, destroyed_count, drained_count;
static atomic_int gone_reason; /* of the last one */
static atomic_int sent_count, echo_count;

static void watch_destroy(void *state)
{
    struct watch *w = state;

    if (strcmp(w->kind, "posts") == 0)
        pthread_join(w->thread, NULL);
    free(w);
    atomic_fetch_add(&destroyed_count, 1);
}

static void watch_send(struct watch *w)
{
    while (w->left > 0 && call_can_send(w->call)) {
        uint8_t *block = xcalloc(1, CHUNK);

        /* An unknown field 15, length-delimited: a message of any size that still parses. */
        block[0] = 0x7a;
        block[1] = 0x80 | ((CHUNK - 4) & 0x7f);
        block[2] = 0x80 | (((CHUNK - 4) >> 7) & 0x7f);
        block[3] = (CHUNK - 4) >> 14;
        w->left--;
        atomic_fetch_add(&sent_count, 1);
        call_send_bytes_take(w->call, block, block, CHUNK, false);
    }
    if (w->left == 0 && call_can_send(w->call))
        call_finish(w->call, &STATUS_INIT);
}

static void watch_sent(void *state)
{
    struct watch *w = state;

    if (strcmp(w->kind, "stream") == 0)
        watch_send(w);
}

static void watch_gone(void *state)
{
    struct watch *w = state;
    struct status st;

    atomic_store(&gone_reason, (int)call_end_reason(w->call));
    atomic_fetch_add(&gone_count, 1);
    status_set(&st, call_end_reason(w->call), 0, "gone");
    call_finish(w->call, &st);
}

static void watch_drain(void *state)
{
    struct watch *w = state;
    struct status st;

    atomic_fetch_add(&drained_count, 1);
    status_set(&st, CODE_UNAVAILABLE, SANDBOX__V1__ERROR_REASON__ERROR_REASON_POD_DRAINING,
               "draining");
    st.retry_ms = 5;
    call_finish(w->call, &st);
}

static const struct call_handler watch_handler = {
    .on_sent = watch_sent,
    .on_gone = watch_gone,
    .on_drain = watch_drain,
    .destroy = watch_destroy,
};

static void on_timer(struct call_timer *t)
{
    struct watch *w = container_of(t, struct watch, timer);

    if (--w->left == 0)
        call_finish(w->call, &STATUS_INIT);
    else
        call_timer_start(w->call, t, clock_monotonic_ns() + NS_PER_MS);
}

static void on_post(struct task *task)
{
    struct watch *w = container_of(task, struct watch, task);

    if (--w->left == 0)
        call_finish(w->call, &STATUS_INIT);
    struct call *c = w->call;
    bool last = w->left == 0;

    atomic_fetch_add(&w->posted, 1);
    if (last)
        call_unref(c);
}

static void *poster(void *arg)
{
    struct watch *w = arg;

    for (int i = 0; i < POSTS; i++) {
        while (atomic_load(&w->posted) < i)
            sched_yield();
        executor_post(call_executor(w->call), &w->task);
    }
    return NULL;
}

static void start_watch(struct call *c, const ProtobufCMessage *message)
{
    const Grpc__Health__V1__HealthCheckRequest *r =
        (const Grpc__Health__V1__HealthCheckRequest *)message;
    struct watch *w = xcalloc(1, sizeof(*w));

    atomic_fetch_add(&created_count, 1);
    w->call = c;
    snprintf(w->kind, sizeof(w->kind), "%s", r->service);
    call_set_handler(c, &watch_handler, w);
    if (strcmp(w->kind, "stream") == 0) {
        w->left = 800;
        watch_send(w);
    } else if (strcmp(w->kind, "timer") == 0) {
        w->left = 20;
        w->timer.run = on_timer;
        call_timer_start(c, &w->timer, clock_monotonic_ns());
    } else if (strcmp(w->kind, "posts") == 0) {
        w->left = POSTS;
        w->task.run = on_post;
        call_ref(c);
        pthread_create(&w->thread, NULL, poster, w);
    } /* else it hangs until it is cancelled or drained */
}

static void start_check(struct call *c, const ProtobufCMessage *message)
{
    const Grpc__Health__V1__HealthCheckRequest *r =
        (const Grpc__Health__V1__HealthCheckRequest *)message;
    Grpc__Health__V1__HealthCheckResponse m = GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__INIT;
    struct status st;

    if (strcmp(r->service, "fail") == 0) {
        status_set(&st, CODE_RESOURCE_EXHAUSTED, SANDBOX__V1__ERROR_REASON__ERROR_REASON_E2B_QUOTA,
                   "100%% of the quota");
        status_detail(&st, "limit", "%d", 20);
        st.retry_ms = 1500;
        call_finish(c, &st);
        return;
    }
    m.status = GRPC__HEALTH__V1__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVING;
    call_reply(c, &m.base);
}

static void start_list(struct call *c, const ProtobufCMessage *message)
{
    Grpc__Health__V1__HealthListResponse m = GRPC__HEALTH__V1__HEALTH_LIST_RESPONSE__INIT;

    call_reply(c, &m.base);
}

struct echo {
    struct call *call;
};

static void echo_message(void *state, const ProtobufCMessage *message)
{
    struct echo *e = state;
    AUTO_FREE char *big = NULL;
    Grpc__Reflection__V1__ServerReflectionResponse m =
        GRPC__REFLECTION__V1__SERVER_REFLECTION_RESPONSE__INIT;

    if (message == NULL) {
        call_finish(e->call, &STATUS_INIT);
        return;
    }
    m.valid_host = ((const Grpc__Reflection__V1__ServerReflectionRequest *)message)->host;
    if (strlen(m.valid_host) == BIG_ASKED)
        m.valid_host = big = xcalloc(1, BIG + 1);
    if (big != NULL)
        memset(big, 'b', BIG);
    atomic_fetch_add(&echo_count, 1);
    call_hold(e->call);
    call_send(e->call, &m.base);
}

static void echo_sent(void *state)
{
    struct echo *e = state;

    call_release(e->call);
}

static void echo_gone(void *state)
{
    struct echo *e = state;
    struct status st;

    status_set(&st, call_end_reason(e->call), 0, "gone");
    call_finish(e->call, &st);
}

static void echo_drain(void *state)
{
    struct echo *e = state;
    struct status st;

    status_set(&st, CODE_UNAVAILABLE, 0, "draining");
    call_finish(e->call, &st);
}

static const struct call_handler echo_handler = {
    .on_message = echo_message,
    .on_sent = echo_sent,
    .on_gone = echo_gone,
    .on_drain = echo_drain,
    .destroy = free,
};

static void start_echo(struct call *c, const ProtobufCMessage *message)
{
    struct echo *e = xcalloc(1, sizeof(*e));

    e->call = c;
    call_set_handler(c, &echo_handler, e);
}

#define HEALTH &grpc__health__v1__health__descriptor
#define ECHO "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
#define REFLECTION &grpc__reflection__v1__server_reflection__descriptor

static const struct method methods[] = {
    {HEALTH, "Check", METHOD_UNARY, start_check},
    {HEALTH, "List", METHOD_UNARY, start_list},
    {HEALTH, "Watch", METHOD_SERVER_STREAM, start_watch},
    {REFLECTION, "ServerReflectionInfo", METHOD_BIDI, start_echo},
};

/* --- the server and its client --- */

static struct server *server;

static int setup(void **state)
{
    struct server_config config = {
        .listen = "127.0.0.1:0",
        .workers = 2,
        .max_message_bytes = 1 << 20,
        .methods = methods,
        .n_methods = sizeof(methods) / sizeof(methods[0]),
    };
    struct status st = STATUS_INIT;

    created_count = gone_count = destroyed_count = drained_count = sent_count = echo_count = 0;
    rpc_init();
    assert_true(server_new(&config, &server, &st));
    assert_true(server_start(server, &st));
    return 0;
}

static int teardown(void **state)
{
    server_shutdown(server, 5000);
    server_free(server);
    rpc_deinit();
    return 0;
}

static void send_request(struct client *k, const char *service)
{
    Grpc__Health__V1__HealthCheckRequest r = GRPC__HEALTH__V1__HEALTH_CHECK_REQUEST__INIT;
    uint8_t bytes[256];

    r.service = (char *)service;
    client_send(k, bytes, grpc__health__v1__health_check_request__pack(&r, bytes), true);
}

/* --- the tests --- */

static void test_unary_answers(void **state)
{
    struct client k;

    client_start(&k, server_address(server), "/grpc.health.v1.Health/Check", 0);
    send_request(&k, "");
    assert_int_equal(client_receive(&k), 2);
    assert_int_equal(client_status(&k), GRPC_STATUS_OK);
    assert_non_null(client_trailer(&k, "x-request-id"));
    client_end(&k);
}

static void test_an_error_carries_its_details(void **state)
{
    struct client k;

    client_start(&k, server_address(server), "/grpc.health.v1.Health/Check", 0);
    send_request(&k, "fail");
    assert_int_equal(client_receive(&k), -1);
    assert_int_equal(client_status(&k), GRPC_STATUS_RESOURCE_EXHAUSTED);
    assert_int_equal(grpc_slice_str_cmp(k.message, "100% of the quota"), 0);
    assert_int_equal(
        grpc_slice_str_cmp(client_trailer(&k, "grpc-retry-pushback-ms")->value, "1500"), 0);

    grpc_slice bytes = client_trailer(&k, "grpc-status-details-bin")->value;
    Google__Rpc__Status *status =
        google__rpc__status__unpack(NULL, GRPC_SLICE_LENGTH(bytes), GRPC_SLICE_START_PTR(bytes));

    assert_non_null(status);
    assert_int_equal(status->code, GRPC_STATUS_RESOURCE_EXHAUSTED);
    assert_int_equal(status->n_details, 4);
    assert_string_equal(status->details[0]->type_url, "type.googleapis.com/google.rpc.ErrorInfo");

    Google__Rpc__ErrorInfo *info = google__rpc__error_info__unpack(
        NULL, status->details[0]->value.len, status->details[0]->value.data);

    assert_string_equal(info->reason, "E2B_QUOTA");
    assert_string_equal(info->domain, "sandbox.v1");
    assert_string_equal(info->metadata[0]->key, "limit");
    assert_string_equal(info->metadata[0]->value, "20");
    google__rpc__error_info__free_unpacked(info, NULL);
    google__rpc__status__free_unpacked(status, NULL);
    client_end(&k);
}

static void expect_refusal(const char *path, const char *bytes, size_t len, grpc_status_code code)
{
    struct client k;

    client_start(&k, server_address(server), path, 0);
    client_send(&k, bytes, len, true);
    assert_int_equal(client_receive(&k), -1);
    assert_int_equal(client_status(&k), code);
    assert_non_null(client_trailer(&k, "grpc-status-details-bin"));
    client_end(&k);
}

static void test_bad_requests_are_refused(void **state)
{
    const char *check = "/grpc.health.v1.Health/Check";

    expect_refusal("/grpc.health.v1.Health/Chekc", "", 0, GRPC_STATUS_UNIMPLEMENTED);
    expect_refusal("/", "", 0, GRPC_STATUS_UNIMPLEMENTED);
    expect_refusal(check,
                   "\x0a\x05"
                   "abc",
                   5, GRPC_STATUS_INVALID_ARGUMENT);
    expect_refusal(check,
                   "\x0a\x03"
                   "a\0b",
                   5, GRPC_STATUS_INVALID_ARGUMENT);
    expect_refusal(check,
                   "\x0a\x02"
                   "\xc3(",
                   4, GRPC_STATUS_INVALID_ARGUMENT);
}

static void test_a_stream_is_whole_and_waits_for_its_reader(void **state)
{
    struct client k;
    long len, total = 0;

    client_start(&k, server_address(server), "/grpc.health.v1.Health/Watch", 0);
    send_request(&k, "stream");
    len = client_receive(&k);
    /* The reader stops here: what is sent on meanwhile is bounded by flow control. */
    int before;
    do {
        before = atomic_load(&sent_count);
        grpc_completion_queue_pluck(
            k.cq, &total, /* nothing comes: a wait of 50 ms */
            gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC), gpr_time_from_millis(50, GPR_TIMESPAN)),
            NULL);
    } while (atomic_load(&sent_count) != before);
    assert_true(before < 800);
    for (; len >= 0; len = client_receive(&k))
        total += len;
    assert_int_equal(total, 800L * CHUNK);
    assert_int_equal(client_status(&k), GRPC_STATUS_OK);
    client_end(&k);
}

static void test_timers_and_posts_run_on_the_call(void **state)
{
    const char *kinds[] = {"timer", "posts"};

    for (int i = 0; i < 2; i++) {
        struct client k;

        client_start(&k, server_address(server), "/grpc.health.v1.Health/Watch", 0);
        send_request(&k, kinds[i]);
        assert_int_equal(client_receive(&k), -1);
        assert_int_equal(client_status(&k), GRPC_STATUS_OK);
        client_end(&k);
    }
}

static void wait_for(atomic_int *count, int value)
{
    int64_t until = clock_monotonic_ns() + 10 * NS_PER_S;

    while (atomic_load(count) < value && clock_monotonic_ns() < until)
        sched_yield();
    assert_int_equal(atomic_load(count), value);
}

static void test_a_cancelled_call_ends_its_handler(void **state)
{
    struct client k;

    client_start(&k, server_address(server), "/grpc.health.v1.Health/Watch", 0);
    send_request(&k, "hang");
    wait_for(&created_count, 1);
    grpc_call_cancel(k.call, NULL);
    assert_int_equal(client_status(&k), GRPC_STATUS_CANCELLED);
    client_end(&k);
    wait_for(&destroyed_count, 1);
    assert_int_equal(atomic_load(&gone_reason), CODE_CANCELLED);
}

static void test_a_deadline_ends_its_handler(void **state)
{
    struct client k;
    int status;

    /* On a busy machine a call may expire before the server sees it. */
    for (int64_t ms = 100; atomic_load(&created_count) == 0; ms *= 2) {
        client_start(&k, server_address(server), "/grpc.health.v1.Health/Watch", ms);
        send_request(&k, "hang");
        /* Whose clock is first: the server's end of the stream looks like a cancel. */
        status = client_status(&k);
        assert_true(status == GRPC_STATUS_DEADLINE_EXCEEDED || status == GRPC_STATUS_CANCELLED);
        client_end(&k);
    }
    wait_for(&destroyed_count, 1);
    assert_int_equal(atomic_load(&gone_reason), CODE_DEADLINE_EXCEEDED);
}

static void expect_check_works(void)
{
    struct client k;

    client_start(&k, server_address(server), "/grpc.health.v1.Health/Check", 0);
    send_request(&k, "");
    assert_int_equal(client_receive(&k), 2);
    assert_int_equal(client_status(&k), GRPC_STATUS_OK);
    client_end(&k);
}

/* One way or another every call of a storm is given up by its client. */
static void storm_once(unsigned *seed)
{
    static const char *const kinds[] = {"hang", "stream", "posts", "timer", "stream", "hang"};
    unsigned choice = (unsigned)rand_r(seed);
    bool echo = choice % 8 == 7;
    int64_t deadline_ms = choice / 8 % 3 == 0 ? 1 + choice / 32 % 10 : 0;
    struct client k;

    client_start(&k, server_address(server), echo ? ECHO : "/grpc.health.v1.Health/Watch",
                 deadline_ms);
    if (echo)
        client_send(&k, "", 0, false);
    else if (choice % 16 != 0) /* else it is cancelled without ever asking */
        send_request(&k, kinds[choice % 6]);
    if (choice / 64 % 2 == 0 && (echo || choice % 6 == 1))
        client_receive(&k);
    if (deadline_ms == 0)
        grpc_call_cancel(k.call, NULL);
    client_status(&k);
    client_end(&k);
}

static void *storm(void *arg)
{
    unsigned seed = (unsigned)(uintptr_t)arg;

    for (int i = 0; i < STORM_CALLS; i++)
        storm_once(&seed);
    return NULL;
}

static void test_a_storm_of_cancels_leaves_nothing(void **state)
{
    pthread_t threads[STORMS];

    for (int i = 0; i < STORMS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, storm, (void *)(uintptr_t)(i + 1)), 0);
    for (int i = 0; i < STORMS; i++)
        pthread_join(threads[i], NULL);

    /* The server is as good as new, and every handler that was started has been freed. */
    expect_check_works();
    assert_true(atomic_load(&created_count) > 0);
    server_shutdown(server, 10000);
    assert_int_equal(atomic_load(&destroyed_count), atomic_load(&created_count));
}

/* A question with a host of len letters: the answer has it too. */
static void send_echo(struct client *k, int len, bool close)
{
    Grpc__Reflection__V1__ServerReflectionRequest r =
        GRPC__REFLECTION__V1__SERVER_REFLECTION_REQUEST__INIT;
    char host[64];
    uint8_t bytes[128];

    memset(host, 'h', sizeof(host));
    host[len] = '\0';
    r.host = host;
    client_send(k, bytes, grpc__reflection__v1__server_reflection_request__pack(&r, bytes), close);
}

static void test_bidi_echoes_in_order(void **state)
{
    struct client k;

    client_start(&k, server_address(server), ECHO, 0);
    for (int i = 0; i < 50; i++) {
        send_echo(&k, i, i == 49);
        assert_int_equal(client_receive(&k), i == 0 ? 0 : i + 2);
    }
    assert_int_equal(client_status(&k), GRPC_STATUS_OK);
    client_end(&k);
}

static void test_a_bidi_client_may_ask_before_it_reads(void **state)
{
    struct client k;

    client_start(&k, server_address(server), ECHO, 0);
    for (int i = 0; i < PIPELINED; i++)
        send_echo(&k, i % 50, i == PIPELINED - 1);
    for (int i = 0; i < PIPELINED; i++)
        assert_int_equal(client_receive(&k), i % 50 == 0 ? 0 : i % 50 + 2);
    assert_int_equal(client_receive(&k), -1);
    assert_int_equal(client_status(&k), GRPC_STATUS_OK);
    client_end(&k);
}

/* Of answers of 1 MB a few fit the client's window, which grows to 4 MB; then nothing is read. */
static void test_a_bidi_client_that_does_not_read_is_held_back(void **state)
{
    struct client k;

    client_start(&k, server_address(server), ECHO, 0);
    for (int i = 0; i < 20; i++)
        send_echo(&k, BIG_ASKED, i == 19);
    /* By the time that others were served, these would have been read. */
    for (int i = 0; i < 20 || atomic_load(&echo_count) == 0; i++)
        expect_check_works();
    assert_in_range(atomic_load(&echo_count), 1, 10);
    for (int i = 0; i < 20; i++)
        assert_in_range(client_receive(&k), BIG, BIG + 8);
    assert_int_equal(client_receive(&k), -1);
    assert_int_equal(client_status(&k), GRPC_STATUS_OK);
    assert_int_equal(atomic_load(&echo_count), 20);
    client_end(&k);
}

static void test_draining_tells_idle_bidi_calls(void **state)
{
    struct client before, after;

    client_start(&before, server_address(server), ECHO, 0);
    send_echo(&before, 1, false);
    assert_int_equal(client_receive(&before), 3);
    server_drain(server);
    client_start(&after, server_address(server), ECHO, 0); /* never says anything */
    assert_int_equal(client_status(&before), GRPC_STATUS_UNAVAILABLE);
    assert_int_equal(client_status(&after), GRPC_STATUS_UNAVAILABLE);
    client_end(&before);
    client_end(&after);
}

static void test_a_taken_port_is_an_error(void **state)
{
    struct server_config config = {
        .listen = server_address(server),
        .workers = 2,
        .max_message_bytes = 1 << 20,
        .methods = methods,
        .n_methods = sizeof(methods) / sizeof(methods[0]),
    };
    struct server *second = NULL;
    struct status st = STATUS_INIT;

    assert_true(server_new(&config, &second, &st));
    assert_false(server_start(second, &st));
    assert_int_equal(st.code, CODE_UNAVAILABLE);
    assert_non_null(strstr(st.message, config.listen));
    server_shutdown(second, 1000);
    server_free(second);
}

static void test_draining_tells_every_call_once(void **state)
{
    struct client clients[20];

    for (int i = 0; i < 20; i++) {
        client_start(&clients[i], server_address(server), "/grpc.health.v1.Health/Watch", 0);
        send_request(&clients[i], "hang");
    }
    server_drain(server);
    server_drain(server);
    for (int i = 0; i < 20; i++) { /* also those that the server saw only afterwards */
        assert_int_equal(client_status(&clients[i]), GRPC_STATUS_UNAVAILABLE);
        assert_non_null(client_trailer(&clients[i], "grpc-retry-pushback-ms"));
        client_end(&clients[i]);
    }
    wait_for(&drained_count, 20);
    wait_for(&destroyed_count, 20);
}

static void test_a_table_with_a_hole_is_refused(void **state)
{
    struct server_config config = {
        .listen = "127.0.0.1:0", .workers = 1, .methods = methods, .n_methods = 2};
    struct server *none = NULL;
    struct status st = STATUS_INIT;

    assert_false(server_new(&config, &none, &st));
    assert_string_equal(st.message, "/grpc.health.v1.Health/Watch is not bound");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_unary_answers),
        TEST(test_an_error_carries_its_details),
        TEST(test_bad_requests_are_refused),
        TEST(test_a_stream_is_whole_and_waits_for_its_reader),
        TEST(test_timers_and_posts_run_on_the_call),
        TEST(test_a_cancelled_call_ends_its_handler),
        TEST(test_a_deadline_ends_its_handler),
        TEST(test_a_storm_of_cancels_leaves_nothing),
        TEST(test_bidi_echoes_in_order),
        TEST(test_a_bidi_client_may_ask_before_it_reads),
        TEST(test_a_bidi_client_that_does_not_read_is_held_back),
        TEST(test_draining_tells_every_call_once),
        TEST(test_draining_tells_idle_bidi_calls),
        TEST(test_a_taken_port_is_an_error),
        cmocka_unit_test(test_a_table_with_a_hole_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
