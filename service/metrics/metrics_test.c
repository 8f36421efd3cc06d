#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "service/metrics/metrics.h"
#include "service/metrics/process.h"

#include <pthread.h>
#include <string.h>

static struct buf page = BUF_INIT(1 << 20);

static const char *write_page(struct metrics *m)
{
    buf_clear(&page);
    assert_true(metrics_write(m, &page));
    return buf_str(&page);
}

static const char *const colours[] = {"colour=\"red\"", "colour=\"green\""};

static void test_counters_and_gauges(void **state)
{
    struct metrics *m = metrics_new();
    struct metric *plain =
        metrics_add(m, &(struct metric_spec){.name = "plain_total", .help = "Plain."});
    struct metric *gauge = metrics_add(m, &(struct metric_spec){.name = "lamps",
                                                                .help = "Lamps.",
                                                                .type = METRIC_GAUGE,
                                                                .labels = colours,
                                                                .n_series = 2});
    struct metric *sparse = metrics_add(
        m, &(struct metric_spec){
               .name = "rare", .help = "Rare.", .labels = colours, .n_series = 2, .sparse = true});

    metric_count(plain, 0, INT64_C(1) << 50);
    metric_count(plain, 0, 1);
    metric_count(gauge, 0, 2);
    metric_count(gauge, 0, -3);
    metric_set(gauge, 1, 7);
    metric_set(gauge, 1, 8);
    metric_count(sparse, 1, 1);
    assert_string_equal(write_page(m), "# HELP plain_total Plain.\n"
                                       "# TYPE plain_total counter\n"
                                       "plain_total 1125899906842625\n"
                                       "# HELP lamps Lamps.\n"
                                       "# TYPE lamps gauge\n"
                                       "lamps{colour=\"red\"} -1\n"
                                       "lamps{colour=\"green\"} 8\n"
                                       "# HELP rare Rare.\n"
                                       "# TYPE rare counter\n"
                                       "rare{colour=\"green\"} 1\n");
    metrics_free(m);
}

static void test_histograms(void **state)
{
    struct metrics *m = metrics_new();
    struct metric *h = metrics_add(m, &(struct metric_spec){.name = "took_seconds",
                                                            .help = "Took.",
                                                            .type = METRIC_HISTOGRAM,
                                                            .labels = colours,
                                                            .n_series = 2});
    const char *text;

    metric_observe(h, 1, 1000); /* a bound belongs to its bucket */
    metric_observe(h, 1, 1001);
    metric_observe(h, 1, INT64_C(90000000));
    text = write_page(m);
    assert_non_null(strstr(text, "took_seconds_bucket{colour=\"green\",le=\"0.001\"} 1\n"));
    assert_non_null(strstr(text, "took_seconds_bucket{colour=\"green\",le=\"0.0025\"} 2\n"));
    assert_non_null(strstr(text, "took_seconds_bucket{colour=\"green\",le=\"60\"} 2\n"));
    assert_non_null(strstr(text, "took_seconds_bucket{colour=\"green\",le=\"+Inf\"} 3\n"));
    assert_non_null(strstr(text, "took_seconds_sum{colour=\"green\"} 90.002001\n"));
    assert_non_null(strstr(text, "took_seconds_count{colour=\"green\"} 3\n"));
    assert_non_null(strstr(text, "took_seconds_count{colour=\"red\"} 0\n"));
    metrics_free(m);
}

enum { THREADS = 24, ROUNDS = 10000 };

static void *count(void *arg)
{
    struct metric **metrics = arg;

    for (int i = 0; i < ROUNDS; i++) {
        metric_count(metrics[0], 1, 1);
        metric_observe(metrics[1], 0, 5);
    }
    return NULL;
}

/* More threads than rows: none of what they count is lost, while pages are made. */
static void test_many_threads(void **state)
{
    struct metrics *m = metrics_new();
    struct metric *both[] = {
        metrics_add(
            m, &(struct metric_spec){.name = "n", .help = "N.", .labels = colours, .n_series = 2}),
        metrics_add(m, &(struct metric_spec){.name = "h", .help = "H.", .type = METRIC_HISTOGRAM}),
    };
    pthread_t threads[THREADS];

    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, count, both), 0);
    for (int i = 0; i < 20; i++)
        write_page(m);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    assert_non_null(strstr(write_page(m), "n{colour=\"green\"} 240000\n"));
    assert_non_null(strstr(write_page(m), "h_count 240000\n"));
    assert_non_null(strstr(write_page(m), "h_sum 1.2\n"));
    metrics_free(m);
}

static void test_the_process(void **state)
{
    static const char *const names[] = {
        "process_cpu_seconds_total",  "process_resident_memory_bytes",
        "process_open_fds",           "process_max_fds",
        "process_start_time_seconds", "sandboxd_build_info{version=",
    };
    struct metrics *m = metrics_new();
    const char *text;

    metrics_add_process(m);
    text = write_page(m);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        assert_non_null(strstr(text, names[i]));
    metrics_free(m);
}

static void test_nobody_wants_them(void **state)
{
    struct metric *none = metrics_add(NULL, &(struct metric_spec){.name = "n", .help = "N."});

    assert_null(none);
    metric_count(none, 0, 1);
    metric_set(none, 0, 1);
    metric_observe(none, 0, 1);
    metrics_add_process(NULL);
    metrics_free(NULL);
}

static void test_a_page_that_is_too_large(void **state)
{
    struct metrics *m = metrics_new();
    struct buf small = BUF_INIT(16);

    metrics_add(m, &(struct metric_spec){.name = "a_name_of_some_length", .help = "N."});
    assert_false(metrics_write(m, &small));
    buf_deinit(&small);
    metrics_free(m);
}

static void test_labels_are_escaped(void **state)
{
    char escaped[32];

    metrics_escape("a\"b\\c\nd", escaped);
    assert_string_equal(escaped, "a\\\"b\\\\c\\nd");
}

static int end(void **state)
{
    buf_deinit(&page);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_counters_and_gauges), cmocka_unit_test(test_histograms),
        cmocka_unit_test(test_many_threads),        cmocka_unit_test(test_the_process),
        cmocka_unit_test(test_nobody_wants_them),   cmocka_unit_test(test_a_page_that_is_too_large),
        cmocka_unit_test(test_labels_are_escaped),
    };

    return cmocka_run_group_tests(tests, NULL, end);
}
