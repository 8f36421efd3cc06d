/*
 * See zygote.h: the daemon's side. The other side is sandbox_zygote.c.
 *
 * A sandbox's configuration, which holds its secrets, goes as a sealed memory file from here
 * straight to its agent; the zygote passes the descriptor on and does not look.
 */
#include "runtime/local/zygote.h"

#include "common/base/buf.h"
#include "common/base/cleanup.h"
#include "common/base/mem.h"
#include "runtime/local/agent/handover.h"
#include "runtime/local/sandbox_agent.h"
#include "runtime/local/sandbox_host.h"
#include "runtime/local/sandbox_zygote.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef MFD_EXEC
#define MFD_EXEC 0x0010U
#endif

struct zygote {
    pid_t pid;
    int request_fd; /* owned */
    int exit_fd;    /* owned */
    int dir_fd;     /* owned; <data_dir>/sandboxes */
    enum zygote_tier tier;
    bool redirects;
    char summary[1024];
    char *data_dir; /* owned */
};

static bool write_all(int fd, const uint8_t *data, size_t len)
{
    while (len > 0) {
        ssize_t n = write(fd, data, len);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return false;
        data += n;
        len -= (size_t)n;
    }
    return true;
}

/* A file in memory that nobody can change any more. */
static int sealed_file(const char *name, unsigned flags, const uint8_t *data, size_t len)
{
    AUTO_CLOSE int fd = memfd_create(name, flags | MFD_CLOEXEC | MFD_ALLOW_SEALING);

    if (fd < 0 && errno == EINVAL && flags) /* before 6.3 there is no such flag */
        fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0 || !write_all(fd, data, len) ||
        fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) < 0)
        return -1;
    return take_fd(&fd);
}

static bool fork_zygote(struct zygote *z, int agent_fd, bool net_proxy, struct status *st)
{
    int request[2], exits[2];

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, request) < 0 ||
        socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, exits) < 0)
        return status_set(st, CODE_INTERNAL, 0, "no sockets for the zygote: %s", strerror(errno));
    z->request_fd = request[0];
    z->exit_fd = exits[0];
    fcntl(z->exit_fd, F_SETFL, O_NONBLOCK);
    z->pid = fork();
    if (z->pid == 0) {
        struct zygote_process process = {z->data_dir, agent_fd, request[1], exits[1], net_proxy};

        /* Or the zygote would hold the daemon's ends open and never see it go. */
        close(request[0]);
        close(exits[0]);
        sandbox_zygote_run(&process);
    }
    close(request[1]);
    close(exits[1]);
    if (z->pid < 0)
        return status_set(st, CODE_INTERNAL, 0, "the zygote cannot be forked: %s", strerror(errno));
    return true;
}

static bool open_directory(struct zygote *z, struct status *st)
{
    AUTO_FREE char *path = xasprintf("%s/sandboxes", z->data_dir);

    z->dir_fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (z->dir_fd < 0)
        return status_set(st, CODE_INTERNAL, 0, "%s cannot be opened: %s", path, strerror(errno));
    return true;
}

static bool await_hello(struct zygote *z, struct status *st)
{
    struct zygote_hello hello;

    if (recv(z->request_fd, &hello, sizeof hello, 0) != (ssize_t)sizeof hello)
        return status_set(st, CODE_INTERNAL, 0, "the zygote ended at its start");
    if (hello.status.code != CODE_OK) {
        *st = hello.status;
        return status_prefix(st, "this machine gives no isolation (tier C), and without it nothing "
                                 "runs");
    }
    z->tier = hello.tier;
    z->redirects = hello.redirects;
    memcpy(z->summary, hello.summary, sizeof z->summary);
    return open_directory(z, st);
}

struct zygote *zygote_start(const struct zygote_config *config, struct status *st)
{
    const uint8_t *agent = config->agent ? config->agent : sandbox_agent();
    size_t agent_len = config->agent ? config->agent_len : sandbox_agent_len();
    AUTO_CLOSE int agent_fd = sealed_file("agent", MFD_EXEC, agent, agent_len);
    struct zygote *z;

    if (agent_fd < 0) {
        status_set(st, CODE_INTERNAL, 0, "the agent cannot be kept in memory: %s", strerror(errno));
        return NULL;
    }
    z = xcalloc(1, sizeof *z);
    z->request_fd = z->exit_fd = z->dir_fd = -1;
    z->data_dir = xstrdup(config->data_dir);
    if (fork_zygote(z, agent_fd, config->net_proxy, st) && await_hello(z, st))
        return z;
    zygote_stop(z);
    return NULL;
}

void zygote_stop(struct zygote *z)
{
    if (!z)
        return;
    if (z->request_fd >= 0)
        close(z->request_fd);
    if (z->exit_fd >= 0)
        close(z->exit_fd);
    if (z->dir_fd >= 0)
        close(z->dir_fd);
    while (z->pid > 0 && waitpid(z->pid, NULL, 0) < 0 && errno == EINTR)
        ;
    free(z->data_dir);
    free(z);
}

enum zygote_tier zygote_tier(const struct zygote *z)
{
    return z->tier;
}

const char *zygote_summary(const struct zygote *z)
{
    return z->summary;
}

bool zygote_net_redirects(const struct zygote *z)
{
    return z->redirects;
}

static bool socket_path(const struct zygote *z, const char *id, const char *name, char *to,
                        size_t size)
{
    int n = snprintf(to, size, "%s/sandboxes/%s/%s", z->data_dir, id, name);

    /* A socket's address has room for 107 characters; this process has a shorter way there. */
    if (n > 0 && (size_t)n >= sizeof((struct sockaddr_un *)0)->sun_path)
        n = snprintf(to, size, "/proc/self/fd/%d/%s/%s", z->dir_fd, id, name);
    return n > 0 && (size_t)n < size;
}

bool zygote_agent_path(const struct zygote *z, const char *id, char *to, size_t size)
{
    return socket_path(z, id, "agent.sock", to, size);
}

bool zygote_dial_path(const struct zygote *z, const char *id, char *to, size_t size)
{
    return socket_path(z, id, "dial.sock", to, size);
}

/* The text of handover.h. Values cannot hold a NUL: they are C strings. */
static int make_config(const struct zygote *z, const struct zygote_spec *spec)
{
    AUTO(buf_deinit) struct buf text = BUF_INIT(AGENT_CONFIG_MAX);
    struct zygote_limits limits = sandbox_limits(&spec->limits);
    bool fits =
        buf_printf(&text, "id=%s%c", spec->id, 0) &&
        buf_printf(&text, "template=%s%c", spec->template_id ? spec->template_id : "", 0) &&
        buf_printf(&text, "user=%s%c", spec->default_user ? spec->default_user : AGENT_USER, 0) &&
        buf_printf(&text, "workdir=%s%c", spec->default_workdir ? spec->default_workdir : "", 0) &&
        buf_printf(&text, "uids=%s%c", z->tier == ZYGOTE_TIER_A ? "range" : "single", 0) &&
        buf_printf(&text, "disk=%lld%c", (long long)limits.disk_bytes, 0) &&
        buf_printf(&text, "memory=%lld%c", (long long)limits.memory_bytes, 0);

    if (spec->access_token)
        fits = fits && buf_printf(&text, "token=%s%c", spec->access_token, 0);
    for (size_t i = 0; i < spec->n_envs; i++)
        fits = fits && buf_printf(&text, "env:%s=%s%c", spec->envs[i].name, spec->envs[i].value, 0);
    if (!fits) {
        errno = E2BIG;
        return -1;
    }
    return sealed_file("config", 0, buf_data(&text), buf_len(&text));
}

/* fd travels along unless it is -1. */
static bool send_request(int to, const struct zygote_request *request, int fd)
{
    struct iovec part = {(void *)request, sizeof *request};
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(sizeof(int))];
    } control = {.room = {0}};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};

    if (fd >= 0) {
        control.header = (struct cmsghdr){
            .cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
        memcpy(CMSG_DATA(&control.header), &fd, sizeof fd);
        message.msg_control = &control;
        message.msg_controllen = sizeof control;
    }
    return sendmsg(to, &message, MSG_NOSIGNAL) == (ssize_t)sizeof *request;
}

/* One packet, and the two descriptors that may come with it. */
static ssize_t receive_reply(int from, struct status *ret, struct sandbox_net_sockets *ret_net)
{
    struct iovec part = {ret, sizeof *ret};
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(sizeof *ret_net)];
    } control;
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = &control,
                             .msg_controllen = sizeof control};
    struct cmsghdr *header;
    ssize_t n;

    do
        n = recvmsg(from, &message, MSG_CMSG_CLOEXEC);
    while (n < 0 && errno == EINTR);
    header = n > 0 ? CMSG_FIRSTHDR(&message) : NULL;
    if (header && header->cmsg_type == SCM_RIGHTS && header->cmsg_len == CMSG_LEN(sizeof *ret_net))
        memcpy(ret_net, CMSG_DATA(header), sizeof *ret_net);
    return n;
}

static bool call(struct zygote *z, const struct zygote_request *request, int fd,
                 struct sandbox_net_sockets *ret_net, struct status *st)
{
    struct status reply;

    if (!send_request(z->request_fd, request, fd))
        return status_set(st, CODE_INTERNAL, 0, "the zygote is gone: %s", strerror(errno));
    if (receive_reply(z->request_fd, &reply, ret_net) != (ssize_t)sizeof reply)
        return status_set(st, CODE_INTERNAL, 0, "the zygote is gone");
    if (reply.code == CODE_OK)
        return true;
    if (st)
        *st = reply;
    return false;
}

static bool set_id(struct zygote_request *request, const char *id, struct status *st)
{
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";
    size_t len = strlen(id);

    if (len == 0 || len > ZYGOTE_ID_MAX || strspn(id, allowed) != len)
        return status_set(st, CODE_INVALID_ARGUMENT, 0, "a sandbox id is 1 to %d of [A-Za-z0-9_-]",
                          ZYGOTE_ID_MAX);
    memcpy(request->id, id, len + 1);
    return true;
}

bool zygote_create(struct zygote *z, const struct zygote_spec *spec,
                   struct sandbox_net_sockets *ret_net, struct status *st)
{
    struct zygote_request request = {.op = ZYGOTE_CREATE, .limits = spec->limits};
    AUTO_CLOSE int config_fd = -1;

    *ret_net = (struct sandbox_net_sockets){-1, -1};
    if (!set_id(&request, spec->id, st))
        return false;
    config_fd = make_config(z, spec);
    if (config_fd < 0)
        return status_set(st, errno == E2BIG ? CODE_RESOURCE_EXHAUSTED : CODE_INTERNAL, 0,
                          "the configuration of sandbox %s cannot be kept: %s", spec->id,
                          strerror(errno));
    return call(z, &request, config_fd, ret_net, st);
}

bool zygote_kill(struct zygote *z, const char *id, struct status *st)
{
    struct zygote_request request = {.op = ZYGOTE_KILL};

    return set_id(&request, id, st) && call(z, &request, -1, NULL, st);
}

int zygote_fd(const struct zygote *z)
{
    return z->exit_fd;
}

enum zygote_next zygote_next_exit(struct zygote *z, struct zygote_exit *ret)
{
    ssize_t n;

    do
        n = recv(z->exit_fd, ret, sizeof *ret, 0);
    while (n < 0 && errno == EINTR);
    if (n == (ssize_t)sizeof *ret)
        return ZYGOTE_EXIT;
    return n < 0 && errno == EAGAIN ? ZYGOTE_NONE : ZYGOTE_GONE;
}
