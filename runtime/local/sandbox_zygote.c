/*
 * See sandbox_zygote.h. One thread, one poll loop over: requests, exits not yet told, dead
 * children.
 *
 * Exits are told without blocking, in the order they happened; what the daemon has not read yet
 * stays in a list here, so that a busy daemon waiting for a reply can never be waited for in turn.
 */
#include "runtime/local/sandbox_zygote.h"

#include "common/base/cleanup.h"
#include "common/base/mem.h"
#include "runtime/local/sandbox_spawn.h"
#include "runtime/local/sandbox_tree.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { LOCK_TRIES = 500, LOCK_WAIT_MS = 10 };

struct untold {
    struct list node;
    struct zygote_exit exit;
};

struct server {
    struct sandbox_host host;
    struct list sandboxes;
    struct list untold;
    int request_fd;
    int exit_fd;
    int signal_fd;
};

static struct sandbox *find(struct server *s, const char *id)
{
    LIST_FOR_EACH (node, &s->sandboxes) {
        struct sandbox *sandbox = container_of(node, struct sandbox, node);

        if (strcmp(sandbox->id, id) == 0)
            return sandbox;
    }
    return NULL;
}

/* NULL: st says why. */
static struct sandbox *create(struct server *s, const struct zygote_request *request, int config_fd,
                              struct status *st)
{
    struct zygote_limits limits = sandbox_limits(&request->limits);
    struct sandbox *sandbox = NULL;

    if (config_fd < 0)
        status_set(st, CODE_INTERNAL, 0, "a sandbox without a configuration");
    else if (find(s, request->id))
        status_set(st, CODE_ALREADY_EXISTS, 0, "sandbox %s exists", request->id);
    else
        sandbox = sandbox_spawn(&s->host, request->id, &limits, config_fd, st);
    if (sandbox)
        list_append(&s->sandboxes, &sandbox->node);
    return sandbox;
}

static bool kill_one(struct server *s, const char *id, struct status *st)
{
    struct sandbox *sandbox = find(s, id);

    if (!sandbox)
        return status_set(st, CODE_NOT_FOUND, 0, "sandbox %s does not exist", id);
    sandbox_end(sandbox);
    sandbox_free(&s->host, sandbox);
    return true;
}

/* One packet and the descriptor that may come with it. False: the daemon is gone. */
static bool receive(int fd, struct zygote_request *ret, int *ret_fd)
{
    struct iovec part = {ret, sizeof *ret};
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(sizeof(int))];
    } control;
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = &control,
                             .msg_controllen = sizeof control};
    struct cmsghdr *header;

    *ret_fd = -1;
    if (recvmsg(fd, &message, MSG_CMSG_CLOEXEC) != (ssize_t)sizeof *ret)
        return false;
    header = CMSG_FIRSTHDR(&message);
    if (header && header->cmsg_type == SCM_RIGHTS && header->cmsg_len == CMSG_LEN(sizeof(int)))
        memcpy(ret_fd, CMSG_DATA(header), sizeof(int));
    return true;
}

/* The sockets of the new sandbox travel along; NULL: there is none. */
static bool reply(int fd, const struct status *st, const struct sandbox *made)
{
    struct iovec part = {(void *)st, sizeof *st};
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(sizeof made->net)];
    } control = {.header = {.cmsg_len = CMSG_LEN(sizeof made->net),
                            .cmsg_level = SOL_SOCKET,
                            .cmsg_type = SCM_RIGHTS}};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};

    if (made) {
        memcpy(CMSG_DATA(&control.header), &made->net, sizeof made->net);
        message.msg_control = &control;
        message.msg_controllen = sizeof control;
    }
    return sendmsg(fd, &message, MSG_NOSIGNAL) == (ssize_t)sizeof *st;
}

static bool serve_request(struct server *s)
{
    struct zygote_request request;
    struct status st = STATUS_INIT;
    const struct sandbox *made = NULL;
    AUTO_CLOSE int config_fd = -1;

    if (!receive(s->request_fd, &request, &config_fd))
        return false;
    switch (request.op) {
    case ZYGOTE_CREATE:
        made = create(s, &request, config_fd, &st);
        break;
    case ZYGOTE_KILL:
        kill_one(s, request.id, &st);
        break;
    }
    return reply(s->request_fd, &st, made);
}

static void reap(struct server *s)
{
    struct signalfd_siginfo drained[8];

    while (read(s->signal_fd, drained, sizeof drained) > 0)
        ;
    LIST_FOR_EACH_SAFE (node, &s->sandboxes) {
        struct sandbox *sandbox = container_of(node, struct sandbox, node);
        struct untold *untold;

        if (waitpid(sandbox->pid, &sandbox->wait_status, WNOHANG) <= 0)
            continue;
        sandbox->ended = true;
        untold = xcalloc(1, sizeof *untold);
        memcpy(untold->exit.id, sandbox->id, sizeof untold->exit.id);
        untold->exit.wait_status = sandbox->wait_status;
        list_append(&s->untold, &untold->node);
        sandbox_free(&s->host, sandbox);
    }
}

static void tell(struct server *s)
{
    LIST_FOR_EACH_SAFE (node, &s->untold) {
        struct untold *untold = container_of(node, struct untold, node);

        if (send(s->exit_fd, &untold->exit, sizeof untold->exit, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
            return;
        list_unlink(node);
        free(untold);
    }
}

static void serve(struct server *s)
{
    for (;;) {
        struct pollfd fds[] = {
            {.fd = s->request_fd, .events = POLLIN},
            {.fd = s->signal_fd, .events = POLLIN},
            {.fd = s->exit_fd, .events = list_is_empty(&s->untold) ? 0 : POLLOUT},
        };

        if (poll(fds, 3, -1) < 0 && errno != EINTR)
            return;
        if (fds[1].revents)
            reap(s);
        if (fds[2].revents & POLLOUT)
            tell(s);
        if (fds[0].revents && !serve_request(s))
            return;
    }
}

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
    if (mkdir("sandboxes", 0700) < 0 || (mkdir("base", 0711) < 0 && errno != EEXIST) ||
        chmod("base", 0711) < 0 || chdir("base") < 0)
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
    struct zygote_limits limits = sandbox_limits(&none);
    AUTO_CLOSE int config_fd = memfd_create("config", MFD_CLOEXEC);
    struct sandbox *sandbox;

    if (config_fd < 0 || write(config_fd, config, sizeof config) != sizeof config)
        return status_set(st, CODE_INTERNAL, 0, "no file in memory: %s", strerror(errno));
    sandbox = sandbox_spawn(host, "probe", &limits, config_fd, st);
    if (!sandbox)
        return false;
    sandbox_end(sandbox);
    sandbox_free(host, sandbox);
    return true;
}

static bool try_tier(struct server *s, enum zygote_tier tier, const struct zygote_process *process,
                     struct status *st)
{
    char name[64];

    name_cgroup(name, sizeof name);
    if (sandbox_host_init(&s->host, tier, process->agent_fd, name, st)) {
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

static int open_signals(void)
{
    sigset_t set;

    /* A terminal's signals do not come here (own session), a service manager's are the daemon's. */
    signal(SIGINT, SIG_IGN);
    signal(SIGTERM, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigprocmask(SIG_BLOCK, &set, NULL);
    return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

static void end_all(struct server *s)
{
    LIST_FOR_EACH_SAFE (node, &s->sandboxes) {
        struct sandbox *sandbox = container_of(node, struct sandbox, node);

        sandbox_end(sandbox);
        sandbox_free(&s->host, sandbox);
    }
}

_Noreturn void sandbox_zygote_run(const struct zygote_process *process)
{
    struct server s = {.request_fd = process->request_fd, .exit_fd = process->exit_fd};
    struct zygote_hello hello = {.status = STATUS_INIT};
    bool serving;

    setsid();
    prctl(PR_SET_NAME, "e2b-zygote");
    list_init(&s.sandboxes);
    list_init(&s.untold);
    s.signal_fd = open_signals();
    serving = enter_data_dir(process->data_dir, &hello.status) && choose_tier(&s, process, &hello);
    if (send(s.request_fd, &hello, sizeof hello, MSG_NOSIGNAL) == (ssize_t)sizeof hello && serving)
        serve(&s);
    end_all(&s);
    if (serving)
        sandbox_host_deinit(&s.host);
    _exit(serving ? 0 : 1);
}
