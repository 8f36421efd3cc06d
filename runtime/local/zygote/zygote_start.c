/*
 * See zygote.h: how a daemon comes to have a zygote, and parts from it. Runs on the thread that
 * starts the process, before there is another. The zygote's side is sandbox_zygote.c.
 */
#include "common/base/cleanup.h"
#include "common/base/clock.h"
#include "common/base/mem.h"
#include "runtime/local/zygote/sandbox_agent.h"
#include "runtime/local/zygote/sandbox_zygote.h"
#include "runtime/local/zygote/zygote_own.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* A zygote answers at once, but for its probe, of two tiers at worst. */
enum { HELLO_S = 60, CONNECT_TRIES = 500, CONNECT_WAIT_MS = 10 };

static bool open_directory(struct zygote *z, struct status *st)
{
    if (mkdir(z->data_dir, 0711) < 0 && errno != EEXIST)
        return status_set(st, CODE_FAILED_PRECONDITION, 0,
                          "the data directory %s cannot be made: %s", z->data_dir, strerror(errno));
    z->dir_fd = open(z->data_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (z->dir_fd < 0)
        return status_set(st, CODE_FAILED_PRECONDITION, 0,
                          "the data directory %s cannot be used: %s", z->data_dir, strerror(errno));
    return true;
}

/* False: nobody is there. */
static bool connect_zygote(struct zygote *z)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    AUTO_CLOSE int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

    snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d/" ZYGOTE_SOCKET,
             z->dir_fd);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) < 0)
        return false;
    z->request_fd = take_fd(&fd);
    return true;
}

static bool fork_zygote(struct zygote *z, const struct zygote_config *config, int agent_fd,
                        struct status *st)
{
    int pair[2];

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return status_set(st, CODE_INTERNAL, 0, "no sockets for the zygote: %s", strerror(errno));
    z->request_fd = pair[0];
    z->child = true;
    z->pid = fork();
    if (z->pid == 0)
        sandbox_zygote_run(&(struct zygote_process){.data_dir = z->data_dir,
                                                    .agent_fd = agent_fd,
                                                    .daemon_fd = pair[1],
                                                    .net_proxy = config->net_proxy,
                                                    .own_dir = config->own_dir});
    close(pair[1]);
    if (z->pid < 0)
        return status_set(st, CODE_INTERNAL, 0, "the zygote cannot be forked: %s", strerror(errno));
    return true;
}

enum hello { HELLO_WELCOME, HELLO_NOBODY, HELLO_REFUSED };

static enum hello read_hello(struct zygote *z, const struct zygote_hello *hello, ssize_t n,
                             struct status *st)
{
    if (n < 2 * (ssize_t)sizeof(uint32_t)) {
        status_set(st, CODE_INTERNAL, 0, "the zygote ended at its start");
        return n <= 0 ? HELLO_NOBODY : HELLO_REFUSED;
    }
    if (hello->protocol != ZYGOTE_PROTOCOL || n != (ssize_t)sizeof *hello) {
        status_set(st, CODE_FAILED_PRECONDITION, 0,
                   "the sandboxes in %s are of another version of e2b-local: start that one again, "
                   "or end them with kill %d",
                   z->data_dir, (int)hello->pid);
        return HELLO_REFUSED;
    }
    if (hello->status.code != CODE_OK) {
        *st = hello->status;
        return HELLO_REFUSED;
    }
    z->pid = hello->pid;
    z->was_there = hello->was_there;
    z->tier = hello->tier;
    z->redirects = hello->redirects;
    memcpy(z->summary, hello->summary, sizeof z->summary);
    return HELLO_WELCOME;
}

static enum hello await_hello(struct zygote *z, struct status *st)
{
    struct timeval patience = {.tv_sec = HELLO_S};
    struct zygote_hello hello;
    int fds[HELLO_FDS];
    ssize_t n;

    setsockopt(z->request_fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    n = zygote_receive(z->request_fd, &hello, sizeof hello, fds, HELLO_FDS, 0);
    z->event_fd = fds[HELLO_EVENTS];
    z->log_fd = fds[HELLO_LOG];
    if (z->event_fd >= 0)
        fcntl(z->event_fd, F_SETFL, O_NONBLOCK);
    return read_hello(z, &hello, n, st);
}

static void close_fd(int *fd)
{
    if (*fd >= 0)
        close(take_fd(fd));
}

static void disconnect(struct zygote *z)
{
    close_fd(&z->request_fd);
    close_fd(&z->event_fd);
    close_fd(&z->log_fd);
}

/*
 * A zygote that is about to end may still take a connection, and then closes it. Its successor
 * waits for it to have gone.
 */
static bool find_zygote(struct zygote *z, const struct zygote_config *config, int agent_fd,
                        struct status *st)
{
    for (int tries = 0; connect_zygote(z) && tries < CONNECT_TRIES; tries++) {
        enum hello hello = await_hello(z, st);

        if (hello != HELLO_NOBODY)
            return hello == HELLO_WELCOME;
        disconnect(z);
        nanosleep(&(struct timespec){.tv_nsec = CONNECT_WAIT_MS * NS_PER_MS}, NULL);
    }
    if (!fork_zygote(z, config, agent_fd, st))
        return false;
    return await_hello(z, st) == HELLO_WELCOME;
}

static bool greet(struct zygote *z, const struct zygote_config *config, struct status *st)
{
    struct zygote_request request = {.op = ZYGOTE_GREET,
                                     .orphan_ms = config->own_dir ? 0 : config->orphan_ms};
    struct timeval for_ever = {.tv_sec = 0};

    setsockopt(z->request_fd, SOL_SOCKET, SO_RCVTIMEO, &for_ever, sizeof for_ever);
    if (!z->child)
        z->pid_fd = (int)syscall(SYS_pidfd_open, z->pid, 0);
    return zygote_order(z, &request, NULL, st);
}

struct zygote *zygote_start(const struct zygote_config *config, struct status *st)
{
    const uint8_t *agent = config->agent ? config->agent : sandbox_agent();
    size_t agent_len = config->agent ? config->agent_len : sandbox_agent_len();
    AUTO_CLOSE int agent_fd = zygote_sealed_file("agent", MFD_EXEC, agent, agent_len);
    struct zygote *z;

    if (agent_fd < 0) {
        status_set(st, CODE_INTERNAL, 0, "the agent cannot be kept in memory: %s", strerror(errno));
        return NULL;
    }
    z = xcalloc(1, sizeof *z);
    z->pid_fd = z->request_fd = z->event_fd = z->log_fd = z->dir_fd = -1;
    z->data_dir = xstrdup(config->data_dir);
    if (open_directory(z, st) && find_zygote(z, config, agent_fd, st) && greet(z, config, st))
        return z;
    zygote_release(z);
    return NULL;
}

void zygote_release(struct zygote *z)
{
    if (!z)
        return;
    disconnect(z);
    close_fd(&z->dir_fd);
    close_fd(&z->pid_fd);
    free(z->data_dir);
    free(z);
}

/* Its connections end with it; then it is no more than a process that exits. */
static void await_end(struct zygote *z)
{
    struct pollfd gone = {.fd = z->pid_fd, .events = POLLIN};
    char byte;
    ssize_t n;

    do
        n = recv(z->request_fd, &byte, 1, 0);
    while (n > 0 || (n < 0 && errno == EINTR));
    if (z->child)
        while (waitpid(z->pid, NULL, 0) < 0 && errno == EINTR)
            ;
    else if (z->pid_fd >= 0)
        while (poll(&gone, 1, -1) < 0 && errno == EINTR)
            ;
}

void zygote_stop(struct zygote *z)
{
    struct zygote_request request = {.op = ZYGOTE_STOP};

    if (!z)
        return;
    zygote_send(z->request_fd, &request, sizeof request, NULL, 0, 0);
    await_end(z);
    zygote_release(z);
}
