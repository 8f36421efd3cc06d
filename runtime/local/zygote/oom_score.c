/* See oom_score.h. */
#include "runtime/local/zygote/oom_score.h"

#include "common/base/cleanup.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

bool oom_score_set(pid_t pid, int score)
{
    char path[64] = "/proc/self/oom_score_adj";
    AUTO_CLOSE int fd = -1;

    if (pid > 0)
        snprintf(path, sizeof path, "/proc/%d/oom_score_adj", (int)pid);
    fd = open(path, O_WRONLY | O_CLOEXEC);
    return fd >= 0 && dprintf(fd, "%d", score) > 0;
}
