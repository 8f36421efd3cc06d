/*
 * See sandbox_zygote.h. One thread and one loop: sandbox_lives.c has the sandboxes, sandbox_desk.c
 * the daemon. Here is what the process is: a session of its own, nothing of the daemon's but the
 * agent program and one connection, a data directory, a tier.
 */
#include "runtime/local/zygote/sandbox_zygote.h"

#include "common/base/cleanup.h"
#include "common/base/mem.h"
#include "runtime/local/zygote/oom_score.h"
#include "runtime/local/zygote/sandbox_desk.h"
#include "runtime/local/zygote/sandbox_tree.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { LOCK_TRIES = 500, LOCK_WAIT_MS = 10 };

struct server {
    struct sandbox_host host;
    struct loop loop;
    struct sandbox_lives lives;
    struct sandbox_desk desk;
    struct loop_fd signals;
    struct rlimit files; /* as it was before we raised it */
};

/* One daemon per data directory; a previous one may still be clearing up. */
static bool enter_data_dir(const char *data_dir, struct status *st)
{
    int fd;

    if (mkdir(data_dir, 0711) < 0 && errno != EEXIST)
        return status_set(st, CODE_FAILED_PRECONDITION, 0,
                          "the data directory %s cannot be made: %s", data_dir, strerror(errno));
    if (chdir(data_dir) < 0 || (fd = open("lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600)) < 0)
        return status_set(st, CODE_FAILED_PRECONDITION, 0,
                          "the data directory %s cannot be used: %s", data_dir, strerror(errno));
    for (int tries = 0; flock(fd, LOCK_EX | LOCK_NB) < 0; tries++) {
        if (tries == LOCK_TRIES)
            return status_set(st, CODE_FAILED_PRECONDITION, 0,
                              "the data directory %s is used by another daemon: give each its own",
                              data_dir);
        nanosleep(&(struct timespec){.tv_nsec = LOCK_WAIT_MS * 1000000}, NULL);
    }
    sandbox_tree_remove(AT_FDCWD, "sandboxes"); /* of a daemon that was killed with its zygote */
    if (mkdir("sandboxes", 0700) < 0 || (mkdir("snapshots", 0700) < 0 && errno != EEXIST) ||
        (mkdir("base", 0711) < 0 && errno != EEXIST) || chmod("base", 0711) < 0 ||
        chdir("base") < 0)
        return status_set(st, CODE_FAILED_PRECONDITION, 0,
                          "the data directory %s cannot be used: %s", data_dir, strerror(errno));
    return true;
}

/* The same name for the same data directory, so that leftovers are found. */
static void name_cgroup(char *to, size_t size)
{
    struct stat info;

    if (stat("..", &info) < 0)
        memset(&info, 0, sizeof info);
    snprintf(to, size, "e2b-local-%llx-%llx", (unsigned long long)info.st_dev,
             (unsigned long long)info.st_ino);
}

/* Makes a sandbox and ends it again: what works once works. */
static bool probe(struct sandbox_host *host, struct status *st)
{
    static const char config[] = "id=probe\0template=probe";
    const struct zygote_limits none = {0};
    struct sandbox_order order = {.limits = zygote_limits(&none), .files_fd = -1};
    AUTO_CLOSE int config_fd = memfd_create("config", MFD_CLOEXEC);
    struct sandbox *sandbox;
    bool serves;

    if (config_fd < 0 || write(config_fd, config, sizeof config) != sizeof config)
        return status_set(st, CODE_INTERNAL, 0, "no file in memory: %s", strerror(errno));
    order.config_fd = config_fd;
    sandbox = sandbox_spawn(host, "probe", &order, st);
    if (!sandbox)
        return false;
    serves = sandbox_await(sandbox, st);
    sandbox_end(host, sandbox);
    return serves;
}

static bool try_tier(struct server *s, enum zygote_tier tier, const struct zygote_process *process,
                     struct status *st)
{
    char name[64];

    name_cgroup(name, sizeof name);
    if (sandbox_host_init(&s->host, tier, process->agent_fd, name, st)) {
        s->host.files = s->files;
        sandbox_net_init(&s->host.net, process->net_proxy);
        if (probe(&s->host, st))
            return true;
    }
    sandbox_host_deinit(&s->host);
    return false;
}

/*
 * Root may still be refused what tier A takes: in a container, or in a user namespace of its own.
 * Then the summary says why.
 */
static bool choose_tier(struct server *s, const struct zygote_process *process,
                        struct zygote_hello *hello)
{
    struct status refused = STATUS_INIT;
    size_t used;

    if ((geteuid() != 0 || !try_tier(s, ZYGOTE_TIER_A, process, &refused)) &&
        !try_tier(s, ZYGOTE_TIER_B, process, &hello->status))
        return false;
    hello->tier = s->host.tier;
    hello->redirects = s->host.net.redirects;
    sandbox_host_describe(&s->host, hello->summary, sizeof hello->summary);
    used = strlen(hello->summary);
    if (refused.code != CODE_OK)
        snprintf(hello->summary + used, sizeof hello->summary - used, " (tier A is refused: %s)",
                 refused.message);
    return true;
}

/*
 * A terminal's signals do not come here (own session), and a service manager's are the daemon's to
 * deal with while there is one.
 */
static void on_signal(struct loop_fd *io, uint32_t events)
{
    struct server *s = container_of(io, struct server, signals);
    struct signalfd_siginfo info;

    if (read(io->fd, &info, sizeof info) == sizeof info && !s->desk.greeted)
        loop_stop(&s->loop);
}

static bool watch_signals(struct server *s, struct status *st)
{
    sigset_t set;

    signal(SIGHUP, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigprocmask(SIG_BLOCK, &set, NULL);
    s->signals =
        (struct loop_fd){.fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK), .ready = on_signal};
    if (s->signals.fd < 0)
        return status_set(st, CODE_INTERNAL, 0, "no signals: %s", strerror(errno));
    return loop_add(&s->loop, &s->signals, EPOLLIN, st);
}

/*
 * Whatever the daemon had open would stay open behind it. What is said on stderr goes into a pipe
 * for whichever daemon there is; when nobody reads it is lost, and nobody waits. Returns its end.
 */
static int leave_descriptors(const struct zygote_process *process)
{
    int kept[] = {process->agent_fd, process->daemon_fd}, log[2];
    unsigned from = STDERR_FILENO + 1;
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);

    if (kept[0] > kept[1]) {
        kept[0] = process->daemon_fd;
        kept[1] = process->agent_fd;
    }
    dup2(null, STDIN_FILENO);
    dup2(null, STDOUT_FILENO);
    for (size_t i = 0; i < sizeof kept / sizeof *kept; i++) {
        if (from < (unsigned)kept[i])
            syscall(SYS_close_range, from, (unsigned)kept[i] - 1, 0);
        from = (unsigned)kept[i] + 1;
    }
    syscall(SYS_close_range, from, ~0U, 0);
    if (pipe2(log, O_CLOEXEC | O_NONBLOCK) < 0) {
        dup2(STDIN_FILENO, STDERR_FILENO);
        return -1;
    }
    dup2(log[1], STDERR_FILENO);
    close(log[1]);
    return log[0];
}

/* Each sandbox has a few descriptors here; in it, the limit is what it was. */
static void raise_descriptor_limit(struct rlimit *ret_before)
{
    struct rlimit limit = {0, 0};

    getrlimit(RLIMIT_NOFILE, &limit);
    *ret_before = limit;
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

static bool open_desk(struct server *s, const struct zygote_process *process, int log_fd,
                      struct zygote_hello *hello)
{
    s->desk = (struct sandbox_desk){.data_dir = process->data_dir, .log_fd = log_fd};
    if (!loop_init(&s->loop, &hello->status) || !watch_signals(s, &hello->status) ||
        !sandbox_lives_init(&s->lives, &s->loop, &s->host, &hello->status))
        return false;
    s->desk.hello = *hello;
    return sandbox_desk_init(&s->desk, &s->loop, &s->lives, &hello->status);
}

_Noreturn void sandbox_zygote_run(const struct zygote_process *process)
{
    struct server s = {.desk.door.fd = -1};
    struct zygote_hello hello = {.protocol = ZYGOTE_PROTOCOL, .status = STATUS_INIT};
    int log_fd;

    setsid();
    prctl(PR_SET_NAME, "e2b-zygote");
    log_fd = leave_descriptors(process);
    raise_descriptor_limit(&s.files);
    oom_score_set(0, OOM_SCORE_OURS);
    if (!enter_data_dir(process->data_dir, &hello.status) || !choose_tier(&s, process, &hello) ||
        !open_desk(&s, process, log_fd, &hello)) {
        sandbox_host_deinit(&s.host);
        zygote_send(process->daemon_fd, &hello, sizeof hello, NULL, 0, 0);
        _exit(1);
    }
    sandbox_desk_seat(&s.desk, process->daemon_fd);
    loop_run(&s.loop);
    sandbox_desk_close(&s.desk);
    sandbox_lives_deinit(&s.lives);
    sandbox_host_deinit(&s.host);
    if (process->own_dir)
        sandbox_tree_remove(AT_FDCWD, process->data_dir);
    _exit(0);
}
