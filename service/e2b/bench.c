/* See bench.h. */
#include "service/e2b/bench.h"

#include "common/base/buf.h"
#include "common/base/cleanup.h"
#include "service/metrics/metrics.h"

#include <pthread.h>
#include <string.h>
#include <unistd.h>

const uint8_t bench_recorder[] = "not really a program";
const uint8_t bench_foreign_recorder[] = "nor is this one";

/* --- the caller's thread: an executor that the test pumps --- */

struct pump {
    struct executor executor;
    pthread_mutex_t lock;
    pthread_cond_t some;
    struct task *first, **end;
};

static void pump_post(struct executor *e, struct task *task)
{
    struct pump *p = container_of(e, struct pump, executor);

    pthread_mutex_lock(&p->lock);
    task->next = NULL;
    *p->end = task;
    p->end = &task->next;
    pthread_cond_signal(&p->some);
    pthread_mutex_unlock(&p->lock);
}

static struct pump pump = {
    .executor.post = pump_post,
    .lock = PTHREAD_MUTEX_INITIALIZER,
    .some = PTHREAD_COND_INITIALIZER,
    .end = &pump.first,
};

void pump_once(void)
{
    struct task *task;

    pthread_mutex_lock(&pump.lock);
    while (pump.first == NULL)
        pthread_cond_wait(&pump.some, &pump.lock);
    task = pump.first;
    pump.first = task->next;
    if (pump.first == NULL)
        pump.end = &pump.first;
    pthread_mutex_unlock(&pump.lock);
    task->run(task);
}

const struct e2b_caller anyone = {.tenant = NULL};
struct executor *const waiter_executor = &pump.executor;

void waiter_done(struct e2b_op *op)
{
    container_of(op, struct waiter, op)->done = true;
}

const struct status *wait_for(struct waiter *w)
{
    while (!w->done)
        pump_once();
    return &w->op.st;
}

void wait_until(atomic_int *what, int at_least)
{
    while (atomic_load(what) < at_least)
        usleep(1000);
}

/* --- the bench: a fake and an adapter that talks to it --- */

struct e2b_config config_for(const char *url)
{
    return (struct e2b_config){
        .api_key = "e2b_0123",
        .domain = "e2b.app",
        .api_url = url,
        .sandbox_url = url,
        .template = "base",
        .request_timeout_ms = 20000,
        .lease_ms = 600000,
        .threads = 2,
        .stream_buffer_bytes = 65536,
        .read_file_max_bytes = 100000,
        .recorders = {{"x86_64", bench_recorder, sizeof bench_recorder},
                      {"aarch64", bench_foreign_recorder, sizeof bench_foreign_recorder}},
    };
}

void bench_open(struct bench *b, void (*serve)(struct fake_call *c, void *arg))
{
    struct e2b_config config;
    struct status st;

    b->fake = fake_new(serve, b);
    config = config_for(fake_url(b->fake));
    if (b->request_timeout_ms != 0)
        config.request_timeout_ms = b->request_timeout_ms;
    b->metrics = metrics_new();
    config.metrics = b->metrics;
    assert_true(e2b_new(&config, &b->e2b, &st));
}

/* Whatever a test did, each request had a name in the table of upstream.c: a new one needs a row.
 */
static void check_operations(struct bench *b)
{
    AUTO(buf_deinit) struct buf page = BUF_INIT(1 << 20);

    assert_true(metrics_write(b->metrics, &page));
    assert_null(strstr(buf_str(&page), "sandboxd_upstream_requests_total{operation=\"other\""));
}

void bench_close(struct bench *b)
{
    e2b_free(b->e2b);
    fake_free(b->fake);
    check_operations(b);
    metrics_free(b->metrics);
}

void check(const struct status *st, enum code code, int reason)
{
    if (st->code != code || st->reason != reason)
        print_error("%s (%d): %s\n", code_name(st->code), st->reason, st->message);
    assert_int_equal(st->code, code);
    assert_int_equal(st->reason, reason);
}
