/* What the archive's figures say after copies that are made, fail, and are made after all. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/base/buf.h"
#include "sandbox/v1/errors.pb-c.h"
#include "service/archive/figures.h"
#include "service/metrics/metrics.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static struct metrics *metrics;
static struct archive_figures *figures;

static int setup(void **state)
{
    metrics = metrics_new();
    figures = archive_figures_new(metrics);
    return 0;
}

static int teardown(void **state)
{
    metrics_free(metrics);
    archive_figures_free(figures);
    return 0;
}

/* A series' value on the page. */
static double value(const char *series)
{
    struct buf page = BUF_INIT(1 << 20);
    char line[128];
    const char *at;
    double found;

    assert_true(metrics_write(metrics, &page));
    snprintf(line, sizeof(line), "\n%s ", series);
    at = strstr(buf_str(&page), line);
    assert_non_null(at);
    found = strtod(at + strlen(line), NULL);
    buf_deinit(&page);
    return found;
}

static double missing_s(void)
{
    return value("sandboxd_archive_missing_seconds");
}

static const struct status down = {.code = CODE_UNAVAILABLE};
static const struct status gone = {
    .code = CODE_NOT_FOUND,
    .reason = SANDBOX__V1__ERROR_REASON__ERROR_REASON_SANDBOX_NOT_FOUND,
};

static void test_copies_and_reads_are_counted(void **state)
{
    archive_figures_copied(figures, "a", 1000);
    archive_figures_copied(figures, "a", 24);
    archive_figures_not_copied(figures, "b", &down);
    archive_figures_not_copied(figures, "c", &gone);
    archive_figures_read(figures, &STATUS_INIT);
    archive_figures_read(figures, &gone);
    archive_figures_read(figures, &down);
    assert_int_equal(value("sandboxd_archive_copies_total{outcome=\"done\"}"), 2);
    assert_int_equal(value("sandboxd_archive_copies_total{outcome=\"failed\"}"), 1);
    assert_int_equal(value("sandboxd_archive_copies_total{outcome=\"gone\"}"), 1);
    assert_int_equal(value("sandboxd_archive_copied_bytes_total"), 1024);
    assert_int_equal(value("sandboxd_archive_reads_total{outcome=\"found\"}"), 1);
    assert_int_equal(value("sandboxd_archive_reads_total{outcome=\"absent\"}"), 1);
    assert_int_equal(value("sandboxd_archive_reads_total{outcome=\"failed\"}"), 1);
}

static void test_a_copy_is_missing_until_it_is_made(void **state)
{
    const struct timespec moment = {.tv_nsec = 30 * 1000 * 1000};
    double older;

    assert_true(missing_s() == 0);
    archive_figures_not_copied(figures, "old", &down);
    nanosleep(&moment, NULL);
    archive_figures_not_copied(figures, "new", &down);
    archive_figures_not_copied(figures, "old", &down); /* again: since the first time */
    older = missing_s();
    assert_true(older >= 0.03);
    archive_figures_copied(figures, "old", 1);
    assert_true(missing_s() > 0 && missing_s() < older + 60);
    archive_figures_not_copied(figures, "new", &gone);
    assert_true(missing_s() == 0);
}

/* However many fail, the first of them is the one that is told. */
static void test_the_oldest_of_many_is_told(void **state)
{
    char id[16];
    double before;

    archive_figures_not_copied(figures, "first", &down);
    for (int i = 0; i < 1000; i++) {
        snprintf(id, sizeof(id), "s%d", i);
        archive_figures_not_copied(figures, id, &down);
    }
    before = missing_s();
    assert_true(before > 0);
    for (int i = 0; i < 1000; i++) {
        snprintf(id, sizeof(id), "s%d", i);
        archive_figures_copied(figures, id, 0);
    }
    assert_true(missing_s() >= before);
    archive_figures_copied(figures, "first", 0);
    assert_true(missing_s() == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_copies_and_reads_are_counted, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_copy_is_missing_until_it_is_made, setup, teardown),
        cmocka_unit_test_setup_teardown(test_the_oldest_of_many_is_told, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
