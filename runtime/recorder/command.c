/*
 * See command.h. The child works in the order in which rights are lost: everything that can be
 * looked up is, by the parent; the child changes its user, then its directory (as that user), then
 * its program. PDEATHSIG comes after the change of user, which clears it. What goes wrong is told
 * through the gate, a socket that a successful exec closes.
 */
#include "runtime/recorder/command.h"

#include "common/base/cleanup.h"
#include "common/base/fd.h"
#include "common/base/mem.h"
#include "runtime/recorder/files.h"
#include "runtime/recorder/limits.h"
#include "runtime/recorder/terminal.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

enum { CANNOT_RUN = 126, NOT_FOUND = 127, GROUPS_MAX = 256, PIPE_SIZE = 256 * 1024 };

static const char DEFAULT_PATH[] = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

struct identity {
    char *name, *home, *shell; /* owned */
    uid_t uid;
    gid_t gid, groups[GROUPS_MAX];
    int n_groups;
    bool change; /* it is another user than ours */
};

static void identity_deinit(struct identity *who)
{
    free(who->name);
    free(who->home);
    free(who->shell);
}

static bool fail(struct start_failure *ret, int code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

static bool fail(struct start_failure *ret, int code, const char *fmt, ...)
{
    va_list args;

    ret->code = code;
    va_start(args, fmt);
    vsnprintf(ret->message, sizeof(ret->message), fmt, args);
    va_end(args);
    return false;
}

char *command_own_user(void)
{
    const struct passwd *user = getpwuid(geteuid());

    return user != NULL ? xstrdup(user->pw_name) : xasprintf("%u", (unsigned)geteuid());
}

static bool look_up(const char *name, struct identity *ret, struct start_failure *failure)
{
    const struct passwd *user = name[0] != '\0' ? getpwnam(name) : getpwuid(geteuid());

    if (user == NULL && name[0] != '\0')
        return fail(failure, CANNOT_RUN, "there is no user %s in the sandbox", name);
    *ret = (struct identity){.uid = geteuid(), .gid = getegid(), .n_groups = GROUPS_MAX};
    if (user == NULL) { /* a number without a name */
        const char *home = getenv("HOME");

        ret->name = command_own_user();
        ret->home = xstrdup(home != NULL ? home : "/");
        ret->shell = xstrdup("/bin/sh");
        return true;
    }
    ret->name = xstrdup(user->pw_name);
    ret->home = xstrdup(user->pw_dir[0] == '/' ? user->pw_dir : "/");
    ret->shell = xstrdup(user->pw_shell[0] == '/' ? user->pw_shell : "/bin/sh");
    ret->uid = user->pw_uid;
    ret->gid = user->pw_gid;
    ret->change = ret->uid != geteuid();
    if (ret->change && geteuid() != 0)
        return fail(failure, CANNOT_RUN,
                    "the command cannot run as %s: the recorder has no root in this sandbox", name);
    if (getgrouplist(ret->name, ret->gid, ret->groups, &ret->n_groups) < 0)
        ret->n_groups = GROUPS_MAX;
    return true;
}

/* --- environment --- */

static bool same_name(const char *a, const char *b)
{
    size_t len = strcspn(a, "=");

    return strncmp(a, b, len) == 0 && b[len] == '=';
}

/* Adds NAME=value, in the place of one that is there. */
static void set_env(char ***envs, const char *pair)
{
    for (size_t i = 0; *envs != NULL && (*envs)[i] != NULL; i++) {
        if (same_name((*envs)[i], pair)) {
            free((*envs)[i]);
            (*envs)[i] = xstrdup(pair);
            return;
        }
    }
    strings_add(envs, pair, strlen(pair));
}

static void set_env_pair(char ***envs, const char *name, const char *value)
{
    AUTO_FREE char *pair = xasprintf("%s=%s", name, value);

    set_env(envs, pair);
}

/* What is about the recorder itself, and not the sandbox's. */
static bool is_own(const char *pair)
{
    static const char *const own[] = {"HOME=", "USER=", "LOGNAME=", "SHELL=", "PWD=", "OLDPWD="};

    for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++)
        if (same_name(own[i], pair))
            return true;
    return strchr(pair, '=') == NULL;
}

/* The user's basics, then the sandbox's variables, then the command's own. */
static char **make_environment(const struct identity *who, const struct command_spec *s)
{
    extern char **environ;
    char **envs = NULL;

    set_env_pair(&envs, "HOME", who->home);
    set_env_pair(&envs, "USER", who->name);
    set_env_pair(&envs, "LOGNAME", who->name);
    set_env_pair(&envs, "SHELL", who->shell);
    set_env_pair(&envs, "PATH", DEFAULT_PATH);
    for (char **pair = environ; pair != NULL && *pair != NULL; pair++)
        if (!is_own(*pair))
            set_env(&envs, *pair);
    if (s->meta.terminal)
        set_env_pair(&envs, "TERM", "xterm-256color");
    for (char **pair = s->envs; pair != NULL && *pair != NULL; pair++)
        set_env(&envs, *pair);
    return envs;
}

static const char *env_value(char **envs, const char *name)
{
    size_t len = strlen(name);

    for (; *envs != NULL; envs++)
        if (strncmp(*envs, name, len) == 0 && (*envs)[len] == '=')
            return *envs + len + 1;
    return "";
}

/* --- in the child --- */

struct plan {
    const struct identity *who;
    const struct command_spec *spec;
    char **envs;
    int in, out, err; /* its three descriptors */
    int gate;
    pid_t parent;
};

static void __attribute__((noreturn))
child_fails(const struct plan *p, const struct start_failure *why)
{
    fd_write_all(p->gate, why, sizeof(*why));
    _exit(why->code);
}

static void become_user(const struct plan *p)
{
    const struct identity *who = p->who;
    struct start_failure why;

    if (!who->change)
        return;
    if (setgroups((size_t)who->n_groups, who->groups) == 0 &&
        setresgid(who->gid, who->gid, who->gid) == 0 &&
        setresuid(who->uid, who->uid, who->uid) == 0)
        return;
    fail(&why, CANNOT_RUN, "the command cannot run as %s: %s", who->name, strerror(errno));
    child_fails(p, &why);
}

static void set_limits(const struct plan *p)
{
    struct start_failure why;
    const char *what;

    if (limits_apply(&p->spec->limits, &what))
        return;
    fail(&why, CANNOT_RUN, "the limit of %s cannot be set: %s", what, strerror(errno));
    child_fails(p, &why);
}

static void enter_directory(const struct plan *p)
{
    const char *cwd = p->spec->meta.cwd;
    struct start_failure why;
    int error;

    if (chdir(p->who->home) != 0 && (cwd[0] == '\0' || cwd[0] == '/') && chdir("/") != 0)
        cwd = p->who->home; /* nowhere to be: say so below */
    if (cwd[0] == '\0' || chdir(cwd) == 0)
        return;
    error = errno;
    if (error == ENOENT)
        fail(&why, CANNOT_RUN, "the working directory %s does not exist", cwd);
    else
        fail(&why, CANNOT_RUN, "the working directory %s cannot be entered: %s", cwd,
             strerror(error));
    child_fails(p, &why);
}

/* Why exec of a file that seems to be there failed. */
static void explain(const char *path, int error, struct start_failure *why)
{
    if (error == ENOENT && access(path, F_OK) == 0)
        fail(why, CANNOT_RUN, "%s cannot be run: its interpreter does not exist", path);
    else if (error == ENOENT || error == ENOTDIR)
        fail(why, NOT_FOUND, "%s does not exist", path);
    else if (error == ENOEXEC)
        fail(why, CANNOT_RUN, "%s is not a program that this machine can run", path);
    else if (error == E2BIG)
        fail(why, CANNOT_RUN, "the arguments and the environment are too large");
    else
        fail(why, CANNOT_RUN, "%s cannot be run: %s", path, strerror(error));
}

static bool is_directory(const char *path)
{
    struct stat info;

    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

/* Looks through PATH as execvp() does, but remembers what stood in the way. */
static void search_path(const struct plan *p, struct start_failure *why)
{
    char *const *args = p->spec->meta.args;
    const char *at = env_value(p->envs, "PATH");

    fail(why, NOT_FOUND, "%s was not found in PATH", args[0]);
    while (args[0][0] != '\0') {
        size_t len = strcspn(at, ":");
        AUTO_FREE char *path = xasprintf("%.*s%s%s", (int)len, at, len > 0 ? "/" : "./", args[0]);

        if (!is_directory(path)) {
            execve(path, args, p->envs);
            if ((errno != ENOENT && errno != ENOTDIR && errno != EACCES) || access(path, F_OK) == 0)
                explain(path, errno, why);
        }
        if (at[len] == '\0')
            return;
        at += len + 1;
    }
}

static void take_terminal(const struct plan *p)
{
    struct start_failure why;

    if (!p->spec->meta.terminal || terminal_control(STDIN_FILENO))
        return;
    fail(&why, CANNOT_RUN, "the terminal cannot be taken over: %s", strerror(errno));
    child_fails(p, &why);
}

static void set_descriptors(const struct plan *p)
{
    dup2(p->in, STDIN_FILENO);
    dup2(p->out, STDOUT_FILENO);
    dup2(p->err, STDERR_FILENO);
}

static void __attribute__((noreturn)) child_main(const struct plan *p)
{
    struct start_failure why;
    sigset_t none;
    char go;

    setsid();
    set_descriptors(p);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    umask(022);
    if (read(p->gate, &go, 1) != 1)
        _exit(CANNOT_RUN); /* the writer is gone */
    take_terminal(p);
    set_limits(p);
    become_user(p);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != p->parent)
        _exit(CANNOT_RUN);
    enter_directory(p);

    const char *program = p->spec->meta.args[0];

    if (strchr(program, '/') == NULL) {
        search_path(p, &why);
    } else {
        execve(program, p->spec->meta.args, p->envs);
        explain(program, is_directory(program) ? EISDIR : errno, &why);
    }
    child_fails(p, &why);
}

/* --- in the parent --- */

static bool make_pipe(int *ret_read, int *ret_write, int flags)
{
    int ends[2];

    if (pipe2(ends, O_CLOEXEC | flags) != 0)
        return false;
    fcntl(ends[1], F_SETPIPE_SZ, PIPE_SIZE); /* as large as it may be */
    *ret_read = ends[0];
    *ret_write = ends[1];
    return true;
}

static void set_nonblocking(int fd)
{
    if (fd >= 0)
        fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
}

/* The terminal is one thing, with a descriptor for each of its two directions on our side. */
static bool open_terminal(struct command *c, struct terminal_size size, uid_t uid, int *ret_in,
                          int *ret_out, int *ret_err)
{
    if (!terminal_open(size, uid, &c->out, ret_in))
        return false;
    c->in = fcntl(c->out, F_DUPFD_CLOEXEC, 0);
    *ret_out = fcntl(*ret_in, F_DUPFD_CLOEXEC, 0);
    *ret_err = fcntl(*ret_in, F_DUPFD_CLOEXEC, 0);
    return c->in >= 0 && *ret_out >= 0 && *ret_err >= 0;
}

static bool open_streams(struct command *c, const struct command_spec *s, uid_t uid, int *ret_in,
                         int *ret_out, int *ret_err)
{
    if (s->meta.terminal)
        return open_terminal(c, s->meta.initial, uid, ret_in, ret_out, ret_err);
    /* In packets: what a watch writes at once is one event. */
    if (!make_pipe(&c->out, ret_out, s->watch_path != NULL ? O_DIRECT : 0) ||
        !make_pipe(&c->err, ret_err, 0))
        return false;
    if (s->stdin_pipe)
        return make_pipe(ret_in, &c->in, 0);
    *ret_in = open("/dev/null", O_RDONLY | O_CLOEXEC);
    return *ret_in >= 0;
}

static void drop_handlers(void)
{
    /* Dispositions of our own; exec would pass ignored ones on. */
    signal(SIGPIPE, SIG_DFL);
    signal(SIGHUP, SIG_DFL);
    signal(SIGINT, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
    signal(SIGQUIT, SIG_DFL);
}

bool command_prepare(struct command *c, const struct command_spec *s, struct start_failure *ret)
{
    AUTO(identity_deinit) struct identity who = {0};
    AUTO_CLOSE int in = -1, out = -1, err = -1, gate = -1;
    int gates[2];

    if (!look_up(s->meta.user, &who, ret))
        return false;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, gates) != 0)
        return fail(ret, CANNOT_RUN, "no process can be started: %s", strerror(errno));
    c->gate = gates[0];
    gate = gates[1];
    if (!open_streams(c, s, who.uid, &in, &out, &err))
        return fail(ret, CANNOT_RUN, "no %s can be made: %s",
                    s->meta.terminal ? "terminal" : "pipes", strerror(errno));

    struct plan plan = {.who = &who,
                        .spec = s,
                        .envs = make_environment(&who, s),
                        .in = in,
                        .out = out,
                        .err = err,
                        .gate = gate,
                        .parent = getpid()};

    c->pid = fork();
    if (c->pid == 0) {
        drop_handlers();
        close(c->gate);
        child_main(&plan);
    }
    strings_free(plan.envs);
    if (c->pid < 0)
        return fail(ret, CANNOT_RUN, "no process can be started: %s", strerror(errno));
    set_nonblocking(c->in);
    set_nonblocking(c->out);
    set_nonblocking(c->err);
    return true;
}

bool command_run(struct command *c, struct start_failure *ret)
{
    AUTO_CLOSE int gate = take_fd(&c->gate);
    size_t have = 0;

    if (fd_write_all(gate, "", 1)) {
        while (have < sizeof(*ret)) {
            ssize_t n = read(gate, (char *)ret + have, sizeof(*ret) - have);

            if (n < 0 && errno == EINTR)
                continue;
            if (n <= 0)
                break;
            have += (size_t)n;
        }
    }
    return have < sizeof(*ret);
}

void command_deinit(struct command *c)
{
    cleanup_close(&c->in);
    cleanup_close(&c->out);
    cleanup_close(&c->err);
    cleanup_close(&c->gate);
    *c = COMMAND_INIT;
}
