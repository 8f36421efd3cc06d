/*
 * See spawn.h. The child, between fork() and exec(), gives up what the agent has and its command
 * must not: capabilities, the blocked signals, the number of descriptors. A program that is not
 * there ends like it does in a shell (127, a line on stderr), because that is what E2B's clients
 * see.
 */
#include "runtime/local/agent/spawn.h"

#include "common/base/cleanup.h"
#include "common/base/mem.h"
#include "common/base/signals.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    OOM_SCORE = 100,
    FILES = 1024,
    PIPE_SIZE = 256 << 10,
    EXIT_CANNOT_RUN = 126,
    EXIT_NOT_FOUND = 127
};

#define DEFAULT_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

static _Noreturn void give_up(int fd, const char *what)
{
    struct spawn_failure failure = {.error = errno};

    snprintf(failure.what, sizeof(failure.what), "%s", what);
    if (write(fd, &failure, sizeof(failure)) < 0)
        _exit(EXIT_CANNOT_RUN);
    _exit(EXIT_NOT_FOUND);
}

void spawn_offer_to_oom(pid_t pid)
{
    char path[64];
    int fd;

    snprintf(path, sizeof(path), "/proc/%d/oom_score_adj", (int)pid);
    fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    dprintf(fd, "%d", OOM_SCORE);
    close(fd);
}

/* Nobody but root has capabilities; the bounding set stays, for those who become root by sudo. */
static bool become(const struct user *user, const gid_t *groups, size_t n_groups)
{
    if (user->uid == geteuid() && user->uid != 0)
        return true;
    return setgroups(n_groups, groups) == 0 && setresgid(user->gid, user->gid, user->gid) == 0 &&
           setresuid(user->uid, user->uid, user->uid) == 0;
}

static _Noreturn void run_program(const struct spawn *spawn)
{
    const char *why;
    int code;

    environ = (char **)spawn->envp;
    execvp(spawn->argv[0], (char *const *)spawn->argv);
    why = errno == ENOENT ? "not found" : strerror(errno);
    code = errno == ENOENT ? EXIT_NOT_FOUND : EXIT_CANNOT_RUN;
    dprintf(STDERR_FILENO, "/bin/sh: 1: exec: %s: %s\n", spawn->argv[0], why);
    _exit(code);
}

struct child_files {
    int stdio[3];
    int failure;
    bool is_terminal;
};

static _Noreturn void run_child(const struct spawn *spawn, const struct child_files *files,
                                const gid_t *groups, size_t n_groups)
{
    struct rlimit limit;

    signals_reset();
    if (geteuid() == 0)
        spawn_offer_to_oom(getpid());
    if (files->is_terminal && (setsid() < 0 || ioctl(files->stdio[0], TIOCSCTTY, 0) < 0))
        give_up(files->failure, "take the terminal of");
    for (int fd = 0; fd < 3; fd++)
        if (dup2(files->stdio[fd], fd) < 0)
            give_up(files->failure, "dup2");
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_max > FILES) {
        limit.rlim_cur = FILES;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
    if (!become(spawn->user, groups, n_groups))
        give_up(files->failure, "change the user");
    if (chdir(spawn->cwd) < 0)
        give_up(files->failure, "chdir");
    run_program(spawn);
}

static void close_pair(int (*pair)[2])
{
    for (int i = 0; i < 2; i++)
        cleanup_close(&(*pair)[i]);
}

/* Ours does not block, theirs does. */
static bool open_pipe(int pair[2], int ours)
{
    if (pipe2(pair, O_CLOEXEC) < 0) {
        pair[0] = pair[1] = -1;
        return false;
    }
    /* A refusal (the user has many pipes already) only makes it slower. */
    fcntl(pair[ours], F_SETPIPE_SZ, PIPE_SIZE);
    return fcntl(pair[ours], F_SETFL, O_NONBLOCK | (ours ? O_WRONLY : O_RDONLY)) == 0;
}

/* What a command is connected to: our ends, and its own. */
struct ends {
    int in[2];
    int out[2];
    int err[2];
    int failure[2];
    int terminal[2]; /* ours, the command's */
    int kept;        /* ours once more */
};

static void close_ends(struct ends *e)
{
    close_pair(&e->in);
    close_pair(&e->out);
    close_pair(&e->err);
    close_pair(&e->failure);
    close_pair(&e->terminal);
    cleanup_close(&e->kept);
}

/* The command may open it by its name, too: for its user it is as if logged in. */
static bool open_terminal(int pair[2], const struct spawn *spawn)
{
    int locked = 0;

    pair[0] = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
    if (pair[0] < 0 || ioctl(pair[0], TIOCSPTLCK, &locked) < 0 ||
        ioctl(pair[0], TIOCSWINSZ, spawn->terminal) < 0)
        return false;
    pair[1] = ioctl(pair[0], TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
    return pair[1] >= 0 && (spawn->user->uid == geteuid() ||
                            fchown(pair[1], spawn->user->uid, (gid_t)-1) == 0 || errno == EPERM);
}

static bool open_ends(struct ends *e, const struct spawn *spawn)
{
    if (!open_pipe(e->failure, 0))
        return false;
    if (spawn->terminal)
        return open_terminal(e->terminal, spawn) &&
               (e->in[1] = fcntl(e->terminal[0], F_DUPFD_CLOEXEC, 0)) >= 0 &&
               (e->kept = fcntl(e->terminal[0], F_DUPFD_CLOEXEC, 0)) >= 0;
    if (!open_pipe(e->out, 0) || !open_pipe(e->err, 0))
        return false;
    if (spawn->with_stdin)
        return open_pipe(e->in, 1);
    e->in[0] = open("/dev/null", O_RDONLY | O_CLOEXEC);
    return e->in[0] >= 0;
}

bool spawn_start(const struct spawn *spawn, struct spawned *ret, struct status *st)
{
    AUTO(close_ends)
    struct ends e = {{-1, -1}, {-1, -1}, {-1, -1}, {-1, -1}, {-1, -1}, -1};
    gid_t groups[USER_GROUPS_MAX];
    size_t n_groups = user_groups(spawn->user, groups);

    if (!open_ends(&e, spawn))
        return status_set(st, CODE_RESOURCE_EXHAUSTED, 0, "no %s for the command: %s",
                          spawn->terminal ? "terminal" : "pipes", strerror(errno));
    ret->pid = fork();
    if (ret->pid == 0) {
        struct child_files files = {{e.in[0], e.out[1], e.err[1]}, e.failure[1], false};

        if (spawn->terminal)
            files = (struct child_files){
                {e.terminal[1], e.terminal[1], e.terminal[1]}, e.failure[1], true};
        run_child(spawn, &files, groups, n_groups);
    }
    if (ret->pid < 0)
        return status_set(st, CODE_RESOURCE_EXHAUSTED, 0, "no process for the command: %s",
                          strerror(errno));
    ret->in_fd = take_fd(&e.in[1]);
    ret->out_fd[0] = take_fd(&e.out[0]);
    ret->out_fd[1] = take_fd(&e.err[0]);
    ret->out_fd[2] = take_fd(&e.terminal[0]);
    ret->terminal_fd = take_fd(&e.kept);
    ret->failure_fd = take_fd(&e.failure[0]);
    return true;
}

/* ---- the environment ---- */

struct env {
    const char **list; /* owned, and so are its strings */
    size_t n;
};

static void env_set(struct env *env, char *pair)
{
    size_t len = strcspn(pair, "=");
    size_t i = 0;

    while (i < env->n && (strncmp(env->list[i], pair, len) != 0 || env->list[i][len] != '='))
        i++;
    if (i < env->n) {
        free((char *)env->list[i]);
        env->list[i] = pair;
        return;
    }
    env->list = xrealloc(env->list, (env->n + 2) * sizeof(*env->list));
    env->list[env->n++] = pair;
    env->list[env->n] = NULL;
}

static void add_of_sandbox(struct env *env, const struct config *config)
{
    for (size_t i = 0; i < config->n_envs; i++)
        env_set(env, xstrdup(config->envs[i]));
    /* What the sandbox is, its creator cannot change; the command's own environment can. */
    env_set(env, xstrdup("E2B_SANDBOX=true"));
    env_set(env, xasprintf("E2B_SANDBOX_ID=%s", config->id));
    env_set(env, xasprintf("E2B_TEMPLATE_ID=%s", config->template_id));
}

const char **spawn_env_of_sandbox(const struct config *config)
{
    struct env env = {0};

    add_of_sandbox(&env, config);
    return env.list;
}

const char **spawn_env_new(const struct config *config, const struct user *user,
                           const char *const *more, size_t n_more)
{
    struct env env = {0};

    env_set(&env, xstrdup("PATH=" DEFAULT_PATH));
    env_set(&env, xasprintf("HOME=%s", user->home));
    env_set(&env, xasprintf("USER=%s", user->name));
    env_set(&env, xasprintf("LOGNAME=%s", user->name));
    add_of_sandbox(&env, config);
    for (size_t i = 0; i < n_more; i++)
        env_set(&env, xstrdup(more[i]));
    return env.list;
}

void spawn_env_free(const char **env)
{
    for (size_t i = 0; env && env[i]; i++)
        free((char *)env[i]);
    free(env);
}
