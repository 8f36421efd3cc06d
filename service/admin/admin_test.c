/* The port over real sockets: what it answers, to whom, and when. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/base/cleanup.h"
#include "common/http/net.h"
#include "service/admin/admin.h"
#include "service/config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static struct config config;
static struct metrics *metrics;
static struct metric *counted;
static struct admin *admin;
static char answer[64 * 1024];

static char *channelz(const char *kind, long number)
{
    char text[64];

    if (number == 99)
        return NULL;
    snprintf(text, sizeof(text), "{\"kind\":\"%s\",\"number\":%ld}", kind, number);
    return strdup(text);
}

static bool make(const char *listen, bool any_port, struct admin **ret, struct status *st)
{
    const struct admin_config c = {
        .listen = listen,
        .any_port = any_port,
        .metrics = metrics,
        .config = &config,
        .channelz = channelz,
    };

    return admin_new(&c, ret, st);
}

static int setup(void **state)
{
    const char *argv[] = {"sandboxd", "--e2b-api-key=e2b_very_secret",
                          "--e2b-api-url=http://me:hush@127.0.0.1:1", NULL};
    struct status st = STATUS_INIT;

    clearenv(); /* of what tells tests where programs are */
    setenv("SANDBOXD_WORKERS", "3", 1);
    if (config_read(&config, 3, (char **)argv, &st) != CONFIG_RUN)
        return -1;
    metrics = metrics_new();
    counted = metrics_add(metrics, &(struct metric_spec){.name = "n_total", .help = "N."});
    return make("127.0.0.1:0", false, &admin, &st) ? 0 : -1;
}

static int teardown(void **state)
{
    admin_free(admin);
    admin_free(NULL);
    metrics_free(metrics);
    return 0;
}

/* The whole answer; the status is at its front. */
static const char *ask_at(const char *address, const char *method, const char *target)
{
    struct status st = STATUS_INIT;
    AUTO_CLOSE int fd = -1;
    char request[256];
    size_t have = 0;
    ssize_t n;
    int len;

    assert_true(net_connect_tcp(address, &fd, &st));
    len = snprintf(request, sizeof(request),
                   "%s %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", method, target);
    assert_int_equal(write(fd, request, (size_t)len), len);
    while ((n = read(fd, answer + have, sizeof(answer) - 1 - have)) > 0)
        have += (size_t)n;
    answer[have] = '\0';
    assert_memory_equal(answer, "HTTP/1.1 ", 9);
    return answer + 9;
}

static const char *ask(const char *target)
{
    return ask_at(admin_address(admin), "GET", target);
}

static void assert_says(const char *text, const char *status, const char *what)
{
    assert_memory_equal(text, status, strlen(status));
    assert_non_null(strstr(text, what));
}

static void test_it_is_ready_between_starting_and_draining(void **state)
{
    assert_says(ask("/readyz"), "503", "\r\n\r\nstarting\n");
    admin_set_state(admin, ADMIN_READY);
    assert_says(ask("/readyz"), "200", "\r\n\r\nok\n");
    assert_says(ask("/readyz?verbose"), "200", "[+] started\n");
    admin_set_state(admin, ADMIN_DRAINING);
    assert_says(ask("/readyz"), "503", "\r\n\r\ndraining\n");
    assert_says(ask("/readyz?verbose=1"), "503", "[-] not draining\n");
    assert_says(ask("/livez"), "200", "\r\n\r\nok\n");
}

static void test_metrics(void **state)
{
    metric_count(counted, 0, 41);
    metric_count(counted, 0, 1);
    assert_says(ask("/metrics"), "200", "\nn_total 42\n");
    assert_non_null(strstr(answer, "Content-Type: text/plain; version=0.0.4"));
}

static void test_the_configuration_is_shown_but_for_secrets(void **state)
{
    assert_says(ask("/debug/config"), "200", "\"listen\"");
    assert_null(strstr(answer, "very_secret"));
    assert_null(strstr(answer, "hush"));
    assert_non_null(strstr(answer, "http://***@127.0.0.1:1"));
    assert_non_null(strstr(answer, "\"***\""));
    assert_non_null(strstr(strstr(answer, "\"workers\""), "\"environment\""));
    assert_non_null(strstr(strstr(answer, "\"e2b-api-url\""), "\"flag\""));
}

static void test_channelz(void **state)
{
    assert_says(ask("/debug/channelz"), "200", "{\"kind\":\"\",\"number\":0}");
    assert_says(ask("/debug/channelz?server=3"), "200", "{\"kind\":\"server\",\"number\":3}");
    assert_says(ask("/debug/channelz?socket=7"), "200", "{\"kind\":\"socket\",\"number\":7}");
    assert_says(ask("/debug/channelz?socket=99"), "404", "nothing");
}

static void test_what_it_does_not_do(void **state)
{
    static const struct {
        const char *method, *target, *status;
    } cases[] = {
        {"POST", "/metrics", "405"},      {"DELETE", "/", "405"},       {"GET", "/metricsx", "404"},
        {"GET", "/debug", "404"},         {"GET", "/debug/../", "404"}, {"HEAD", "/livez", "200"},
        {"GET", "/metrics?x=%zz", "200"}, {"GET", "/", "200"},          {"GET", "/version", "200"},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_memory_equal(ask_at(admin_address(admin), cases[i].method, cases[i].target),
                            cases[i].status, 3);
}

static void test_a_port_that_is_taken(void **state)
{
    struct status st = STATUS_INIT;
    struct admin *second = NULL;

    assert_false(make(admin_address(admin), false, &second, &st));
    assert_non_null(strstr(st.message, "the admin port"));
    assert_true(make(admin_address(admin), true, &second, &st));
    assert_string_not_equal(admin_address(second), admin_address(admin));
    assert_memory_equal(ask_at(admin_address(second), "GET", "/livez"), "200", 3);
    admin_free(second);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_it_is_ready_between_starting_and_draining),
        cmocka_unit_test(test_metrics),
        cmocka_unit_test(test_the_configuration_is_shown_but_for_secrets),
        cmocka_unit_test(test_channelz),
        cmocka_unit_test(test_what_it_does_not_do),
        cmocka_unit_test(test_a_port_that_is_taken),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
