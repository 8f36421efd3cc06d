/* Who goes first when memory runs out: from -1000, never, to 1000, before all others. */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

enum {
    OOM_SCORE_OURS = -500, /* daemon and zygote, where we may: all sandboxes hang on them */
    OOM_SCORE_SANDBOX = 0, /* below that nobody in a sandbox can get */
};

/* 0: the caller's. Lower than it was takes CAP_SYS_RESOURCE, and is the lowest from then on. */
bool oom_score_set(pid_t pid, int score);
