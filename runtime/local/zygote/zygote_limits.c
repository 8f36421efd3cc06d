/*
 * The limits of a sandbox that nobody asked for (see zygote_limits.h). On both sides of the
 * zygote's connection: the daemon tells the agent what it has, the zygote enforces it.
 */
#include "runtime/local/zygote/zygote_limits.h"

#include "common/base/cleanup.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

enum { OPEN_FILES_MIN = 4096, OPEN_FILES_MAX = 65536 };

/* How many files the machine may have open; INT64_MAX: any number. */
static int64_t machine_files(void)
{
    AUTO_CLOSE int fd = open("/proc/sys/fs/file-max", O_RDONLY | O_CLOEXEC);
    char text[32];
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);

    if (n <= 0)
        return INT64_MAX;
    text[n] = '\0';
    return strtoll(text, NULL, 10);
}

/*
 * The kernel counts open files for each process and for the whole machine, not for a sandbox. So
 * that one sandbox cannot take all, each of its processes gets its share of half of them.
 */
static int64_t share_of_files(int64_t pids)
{
    int64_t share = machine_files() / 2 / pids;

    return share < OPEN_FILES_MIN   ? OPEN_FILES_MIN
           : share < OPEN_FILES_MAX ? share
                                    : OPEN_FILES_MAX;
}

struct zygote_limits zygote_limits(const struct zygote_limits *wanted)
{
    struct zygote_limits limits = *wanted;

    if (limits.memory_bytes <= 0)
        limits.memory_bytes = INT64_C(1) << 30;
    if (limits.disk_bytes <= 0)
        limits.disk_bytes = INT64_C(2) << 30;
    if (limits.files <= 0)
        limits.files = 200000;
    if (limits.pids <= 0)
        limits.pids = 512;
    if (limits.cpu_millis <= 0)
        limits.cpu_millis = 2000;
    if (limits.open_files <= 0)
        limits.open_files = share_of_files(limits.pids);
    return limits;
}
