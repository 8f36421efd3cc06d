/*
 * See output.h. stdout is a pipe that others may hold too, and O_NONBLOCK belongs to the open file:
 * so a pipe is opened again, through /proc, for ourselves.
 */
#include "runtime/recorder/output.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

void output_init(struct output *o, int fd)
{
    struct stat info;
    char path[32];
    int own = -1;

    if (fstat(fd, &info) == 0 && S_ISFIFO(info.st_mode)) {
        snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        own = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
    }
    *o = (struct output){.fd = own >= 0 ? own : fd, .owned = own >= 0};
}

void output_deinit(struct output *o)
{
    if (o->owned)
        close(o->fd);
    o->owned = false;
}

bool output_write(struct output *o, const void *data, size_t len, void (*moved)(void *arg),
                  void *arg)
{
    enum { STEP = 64 * 1024 }; /* where it blocks after all, so that progress is still seen */

    while (len > 0) {
        ssize_t n = write(o->fd, data, o->owned || len < STEP ? len : STEP);

        if (n >= 0) {
            data = (const char *)data + n;
            len -= (size_t)n;
            moved(arg);
        } else if (errno == EAGAIN) {
            struct pollfd p = {.fd = o->fd, .events = POLLOUT};

            poll(&p, 1, -1);
        } else if (errno != EINTR) {
            o->gone = true;
            return false;
        }
    }
    return true;
}
