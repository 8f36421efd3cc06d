/* See bench.h. */
#include "common/http/bench.h"

#include "common/base/buf.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

/* More than it takes from one end through a proxy to the other. */
enum { ROUNDS = 10 };

int bench_dial(struct http_server *s)
{
    int fds[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
    http_server_adopt(s, fds[0]);
    return fds[1];
}

void bench_turn(struct loop *l)
{
    for (int i = 0; i < ROUNDS; i++)
        loop_run_once(l, 0);
}

void bench_say(struct loop *l, int fd, const char *text, size_t step)
{
    size_t len = strlen(text);

    for (size_t at = 0; at < len; at += step) {
        size_t n = step < len - at ? step : len - at;

        assert_int_equal(send(fd, text + at, n, MSG_NOSIGNAL), n);
        bench_turn(l);
    }
}

char *bench_hear(struct loop *l, int fd, bool *ret_eof)
{
    struct buf text = BUF_INIT(1 << 20);
    char piece[4096];
    ssize_t n;

    bench_turn(l);
    while ((n = recv(fd, piece, sizeof(piece), 0)) > 0)
        buf_append(&text, piece, (size_t)n);
    if (ret_eof != NULL)
        *ret_eof = n == 0 || errno == ECONNRESET;
    return buf_take_str(&text);
}
