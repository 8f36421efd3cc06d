/*
 * See wait.h. The writer says when the command exits, and its connection ends when it is closed.
 */
#include "runtime/recorder/wait.h"

#include "common/base/cleanup.h"
#include "common/base/clock.h"
#include "runtime/recorder/control.h"
#include "runtime/recorder/lost.h"
#include "runtime/recorder/meta.h"

#include <poll.h>
#include <unistd.h>

enum { AGAIN_MS = 5, OLD_WRITER_MS = 100 };

static bool has_ended(int dir, bool closed)
{
    struct end_record end;

    return end_read(dir, &end) && (!closed || end.last_seq != 0);
}

static void sleep_ms(int64_t ms)
{
    if (ms > 0)
        usleep((useconds_t)(ms * 1000));
}

static int64_t left_ms(int64_t deadline_ns)
{
    int64_t left = deadline_ns - clock_monotonic_ns();

    return left > 0 ? left / NS_PER_MS + 1 : 0;
}

/* Until the writer says something, or is gone. */
static void listen_to(int fd, int64_t deadline_ns)
{
    static struct control_packet packet;
    struct pollfd p = {.fd = fd, .events = POLLIN};
    int64_t left = left_ms(deadline_ns);

    if (poll(&p, 1, (int)left) <= 0 || control_receive(fd, &packet, 0) <= 0)
        return;
    if (packet.m.kind == CONTROL_RESULT) /* it is older and does not know */
        sleep_ms(left < OLD_WRITER_MS ? left : OLD_WRITER_MS);
}

bool wait_for_end(int dir, bool closed, int64_t timeout_ms, struct status *st)
{
    int64_t deadline_ns = clock_monotonic_ns() + timeout_ms * NS_PER_MS;

    while (!has_ended(dir, closed) && left_ms(deadline_ns) > 0) {
        AUTO_CLOSE int fd = control_connect(dir);
        struct control_message m = {.kind = closed ? CONTROL_WAIT_CLOSED : CONTROL_WAIT_EXITED};

        if (fd >= 0 && control_send(fd, &m, NULL, 0)) {
            listen_to(fd, deadline_ns);
            continue;
        }
        switch (lost_settle(dir, st)) {
        case SETTLE_FAILED:
            return false;
        case SETTLE_ENDED:
            return true;
        case SETTLE_ALIVE:
            sleep_ms(AGAIN_MS);
            break;
        }
    }
    return true;
}
