/*
 * What becomes of what an agent tells: an agent played by the test at the other end of the socket,
 * the loop turned by hand.
 */
#include "runtime/local/daemon/observer.h"

#include "common/base/cleanup.h"
#include "common/base/mem.h"
#include "common/http/net.h"
#include "runtime/local/edge/stream.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#define ID "iabcdefghij0123456789"
#define HEAD "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

static struct daemon d;
static struct sandbox *sandbox;
static char dir[64];
static int listener;

bool zygote_agent_path(const struct zygote *z, const char *id, char *to, size_t size)
{
    return snprintf(to, size, "%s/agent.sock", dir) < (int)size;
}

bool zygote_dial_path(const struct zygote *z, const char *id, char *to, size_t size)
{
    return false;
}

static int setup(void **state)
{
    char path[96];

    strcpy(dir, "/tmp/observer-test-XXXXXX");
    if (mkdtemp(dir) == NULL || !loop_init(&d.loop, NULL))
        return -1;
    zygote_agent_path(NULL, ID, path, sizeof(path));
    if (!net_listen_unix(path, SOCK_STREAM, &listener, NULL))
        return -1;
    registry_init(&d.registry);
    histories_init(&d.histories);
    d.scratch = xmalloc(STREAM_CHUNK);
    sandbox = registry_make(ID);
    strcpy(sandbox->access_token, "secret");
    sandbox->blueprint.limits.cpu_millis = 1500; /* two, in whole ones */
    registry_add(&d.registry, sandbox, 1, 1, 1);
    sandbox->history = history_open(&d.histories, ID);
    sandbox->observer = observer_start(&d, sandbox);
    return 0;
}

static int teardown(void **state)
{
    char path[96];

    observer_stop(sandbox->observer);
    registry_deinit(&d.registry);
    histories_deinit(&d.histories);
    loop_deinit(&d.loop);
    free(d.scratch);
    close(listener);
    zygote_agent_path(NULL, ID, path, sizeof(path));
    unlink(path);
    return rmdir(dir);
}

/* The next connection of the observer, its request read. */
static int accept_observer(void)
{
    char request[512] = "";
    int fd;

    while ((fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC)) < 0)
        loop_run_once(&d.loop, 100);
    loop_run_once(&d.loop, 0);
    assert_true(recv(fd, request, sizeof(request) - 1, 0) > 0);
    assert_non_null(strstr(request, "GET /events HTTP/1.1\r\n"));
    assert_non_null(strstr(request, "\r\nX-Access-Token: secret\r\n"));
    return fd;
}

static void say(int fd, const char *text)
{
    assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
    for (int i = 0; i < 5; i++)
        loop_run_once(&d.loop, 0);
}

static void say_line(int fd, const char *line)
{
    AUTO_FREE char *chunk = xasprintf("%zx\r\n%s\n\r\n", strlen(line) + 1, line);

    say(fd, chunk);
}

static void append_note(void *ctx, const struct note *note)
{
    char *to = ctx;

    sprintf(to + strlen(to), "%lld %s %s", (long long)note->time_ns, note_level_name(note->level),
            note->message);
    for (size_t i = 0; i < note->n_fields; i++)
        sprintf(to + strlen(to), " %s=%s", note->fields[i].name, note->fields[i].value);
    strcat(to, "\n");
}

static void expect_notes(const char *want)
{
    const struct note_query all = {.to_ns = INT64_MAX, .limit = 100};
    char got[4096] = "";

    logbook_find(&sandbox->history->log, &all, append_note, got);
    assert_string_equal(got, want);
}

static void test_events_and_metrics_are_written_down(void **state)
{
    int fd = accept_observer();
    const struct sample *s;

    say(fd, HEAD);
    say_line(fd, "{\"time_ns\":5,\"level\":\"info\",\"logger\":\"process\",\"message\":\"m\","
                 "\"fields\":{\"pid\":\"7\",\"cmd\":\"a \\u00e9\"}}");
    expect_notes("5 info m logger=process pid=7 cmd=a \xc3\xa9\n");
    say_line(fd, "{\"metrics\":{\"ts\":100,\"cpu_count\":8,\"cpu_used_pct\":12.5,\"mem_total\":40,"
                 "\"mem_used\":30,\"mem_cache\":1,\"disk_used\":2,\"disk_total\":3}}");
    s = series_newest(&sandbox->history->series);
    assert_non_null(s);
    assert_int_equal(s->at_s, 100);
    assert_int_equal(s->cpus, 2);
    assert_true(s->cpu_percent == 50); /* one of eight is half of two */
    assert_int_equal(s->memory_used, 30);
    assert_int_equal(s->disk_total, 3);
    close(fd);
}

static void test_lines_may_come_in_any_pieces(void **state)
{
    static const char line[] = "{\"time_ns\":5,\"level\":\"warn\",\"message\":\"in pieces\"}\n";
    int fd = accept_observer();

    for (const char *c = HEAD; *c != '\0'; c++)
        say(fd, (char[]){*c, '\0'});
    for (size_t i = 0; i < sizeof(line) - 1; i++) {
        char chunk[16];

        snprintf(chunk, sizeof(chunk), "1\r\n%c\r\n", line[i]);
        say(fd, chunk);
    }
    expect_notes("5 warn in pieces logger=agent\n");
    close(fd);
}

static void test_nonsense_is_left_out(void **state)
{
    static const char *const lines[] = {
        "",
        "null",
        "[]",
        "7",
        "{",
        "{}",
        "{\"message\":1}",
        "{\"message\":\"no time\"}",
        "{\"time_ns\":1,\"message\":\"no level\"}",
        "{\"time_ns\":1,\"level\":\"loud\",\"message\":\"x\"}",
        "{\"time_ns\":\"1\",\"level\":\"info\",\"message\":\"x\"}",
        "{\"time_ns\":1,\"level\":\"info\",\"message\":\"\xff\"}",
        "{\"metrics\":7}",
        "{\"metrics\":{}}",
        "{\"metrics\":{\"ts\":-1,\"cpu_count\":1}}",
        "{\"metrics\":{\"ts\":1,\"cpu_count\":-1}}",
        "{\"metrics\":{\"ts\":1,\"cpu_count\":1,\"cpu_used_pct\":-1}}",
    };
    AUTO_FREE char *endless = xcalloc(1, 100001);
    int fd = accept_observer();

    say(fd, HEAD);
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
        say_line(fd, lines[i]);
    memset(endless, 'x', 100000);
    say_line(fd, endless);
    assert_null(series_newest(&sandbox->history->series));
    expect_notes("");
    loop_run_once(&d.loop, 200); /* it had its share for now */
    say_line(fd, "{\"time_ns\":2,\"level\":\"info\",\"message\":\"still there\"}");
    expect_notes("2 info still there logger=agent\n");
    close(fd);
}

static void test_a_lost_connection_is_made_again(void **state)
{
    int fd = accept_observer();

    say(fd, HEAD);
    say_line(fd, "{\"time_ns\":5,\"level\":\"info\",\"message\":\"one\"}");
    say_line(fd, "{\"time_ns\":4,\"level\":\"info\",\"message\":\"clock set back\"}");
    close(fd);
    fd = accept_observer();
    say(fd, HEAD);
    say_line(fd, "{\"time_ns\":5,\"level\":\"info\",\"message\":\"one\"}");
    say_line(fd, "{\"time_ns\":6,\"level\":\"info\",\"message\":\"two\"}");
    expect_notes("4 info clock set back logger=agent\n5 info one logger=agent\n"
                 "6 info two logger=agent\n");
    /* And what is no agent's answer ends it as well. */
    say(fd, "nonsense\r\n");
    close(fd);
    fd = accept_observer();
    say(fd, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
    close(fd);
    close(accept_observer());
}

static void test_too_much_waits_its_turn(void **state)
{
    AUTO_FREE char *blank = xcalloc(1, 32001);
    int fd = accept_observer();
    size_t passed = 0;
    ssize_t n;

    say(fd, HEAD);
    memset(blank, '\n', 32000);
    say(fd, "fffffff\r\n"); /* a chunk without end */
    while ((n = send(fd, blank, 32000, MSG_DONTWAIT | MSG_NOSIGNAL)) > 0) {
        passed += (size_t)n;
        assert_true(passed < 8 << 20);
        for (int i = 0; i < 20; i++)
            loop_run_once(&d.loop, 0);
    }
    assert_int_equal(errno, EAGAIN);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_events_and_metrics_are_written_down, setup, teardown),
        cmocka_unit_test_setup_teardown(test_lines_may_come_in_any_pieces, setup, teardown),
        cmocka_unit_test_setup_teardown(test_nonsense_is_left_out, setup, teardown),
        cmocka_unit_test_setup_teardown(test_a_lost_connection_is_made_again, setup, teardown),
        cmocka_unit_test_setup_teardown(test_too_much_waits_its_turn, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
