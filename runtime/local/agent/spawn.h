/* Starting a program as a user of the sandbox. */
#pragma once

#include "common/base/status.h"
#include "runtime/local/agent/config.h"
#include "runtime/local/agent/users.h"

#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/types.h>

struct spawn {
    const struct user *user;
    const char *cwd;
    const char *const *argv;        /* ends with NULL; argv[0] is looked for in the PATH of envp */
    const char *const *envp;        /* ends with NULL */
    bool with_stdin;                /* else /dev/null */
    const struct winsize *terminal; /* a terminal of that size for all three; NULL: pipes */
};

/* Why a program did not come to its exec(): written to failure_fd by the child. */
struct spawn_failure {
    char what[32];
    int error;
};

struct spawned {
    pid_t pid;
    int in_fd;       /* -1 without stdin; all of them are ours, non-blocking, closed on exec */
    int out_fd[3];   /* stdout and stderr, or the terminal; -1: none */
    int terminal_fd; /* one more for the terminal, to keep it open; -1: none */
    int failure_fd;  /* end of file: it runs (or there is no such program: exit 126 or 127) */
};

bool spawn_start(const struct spawn *spawn, struct spawned *ret, struct status *st);

/* Has it go before the agent when memory runs out. An agent that is root's has commands begin so.
 */
void spawn_offer_to_oom(pid_t pid);

/* The environment of a command: names of a later one win. Free with spawn_env_free(). */
const char **spawn_env_new(const struct config *config, const struct user *user,
                           const char *const *more, size_t n_more);
/* What every command of the sandbox gets, in the same form. */
const char **spawn_env_of_sandbox(const struct config *config);
void spawn_env_free(const char **env);
