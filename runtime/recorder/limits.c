/* See limits.h. Called in the command's process while it still has the recorder's rights. */
#include "runtime/recorder/limits.h"

#include <sys/resource.h>

/* soft and hard: what the kernel enforces, and how far the command itself may raise it. */
static bool set(int resource, uint64_t soft, uint64_t hard)
{
    struct rlimit wanted = {.rlim_cur = soft, .rlim_max = hard};

    return soft == 0 || setrlimit(resource, &wanted) == 0;
}

bool limits_apply(const struct command_limits *l, const char **ret_what)
{
    const struct {
        const char *name;
        int resource;
        uint64_t soft, hard;
    } limits[] = {
        {"memory", RLIMIT_AS, l->memory, l->memory},
        /* SIGXCPU at the first, SIGKILL at the second. */
        {"processor time", RLIMIT_CPU, l->cpu, l->cpu + 1},
        {"open files", RLIMIT_NOFILE, l->files, l->files},
        {"processes", RLIMIT_NPROC, l->processes, l->processes},
        {"file size", RLIMIT_FSIZE, l->file_size, l->file_size},
    };

    for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
        *ret_what = limits[i].name;
        if (!set(limits[i].resource, limits[i].soft, limits[i].hard))
            return false;
    }
    return true;
}
