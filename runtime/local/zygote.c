/*
 * See zygote.h: the daemon's side. The other side is sandbox_zygote.c.
 *
 * A sandbox's configuration, which holds its secrets, goes as a sealed memory file from here
 * straight to its agent; the zygote passes the descriptor on and does not look.
 */
#include "runtime/local/zygote.h"

#include "common/base/buf.h"
#include "common/base/cleanup.h"
#include "common/base/clock.h"
#include "common/base/mem.h"
#include "runtime/local/agent/handover.h"
#include "runtime/local/sandbox_agent.h"
#include "runtime/local/sandbox_host.h"
#include "runtime/local/sandbox_zygote.h"
#include "runtime/local/zygote_wire.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef MFD_EXEC
#define MFD_EXEC 0x0010U
#endif

/* A zygote answers at once, but for its probe, of two tiers at worst. */
enum { HELLO_S = 60, CONNECT_TRIES = 500, CONNECT_WAIT_MS = 10 };

struct zygote {
    pid_t pid;
    bool child;     /* of this process */
    int pid_fd;     /* owned; -1 when it is a child */
    int request_fd; /* owned */
    int event_fd;   /* owned */
    int log_fd;     /* owned */
    int dir_fd;     /* owned; the data directory */
    bool was_there;
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

static bool call(struct zygote *z, const struct zygote_request *request, const int *fds,
                 struct zygote_reply *ret, int *ret_fds, struct status *st)
{
    ssize_t n = -1;

    if (zygote_send(z->request_fd, request, sizeof *request, fds, fds ? REQUEST_FDS : 0, 0))
        n = zygote_receive(z->request_fd, ret, sizeof *ret, ret_fds, ret_fds ? REPLY_FDS : 0, 0);
    if (n != (ssize_t)sizeof *ret)
        return status_set(st, CODE_INTERNAL, 0, "the zygote is gone");
    if (ret->status.code == CODE_OK)
        return true;
    if (st)
        *st = ret->status;
    return false;
}

/* Requests of which the outcome is all there is to know. */
static bool order(struct zygote *z, const struct zygote_request *request, const int *fds,
                  struct status *st)
{
    struct zygote_reply reply;

    return call(z, request, fds, &reply, NULL, st);
}

static bool greet(struct zygote *z, const struct zygote_config *config, struct status *st)
{
    struct zygote_request request = {.op = ZYGOTE_GREET,
                                     .orphan_ms = config->own_dir ? 0 : config->orphan_ms};
    struct timeval for_ever = {.tv_sec = 0};

    setsockopt(z->request_fd, SOL_SOCKET, SO_RCVTIMEO, &for_ever, sizeof for_ever);
    if (!z->child)
        z->pid_fd = (int)syscall(SYS_pidfd_open, z->pid, 0);
    return order(z, &request, NULL, st);
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

bool zygote_was_there(const struct zygote *z)
{
    return z->was_there;
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
        n = snprintf(to, size, "/proc/self/fd/%d/sandboxes/%s/%s", z->dir_fd, id, name);
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
    struct zygote_limits limits = zygote_limits(&spec->limits);
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

static bool set_name(char *to, const char *id, const char *what, struct status *st)
{
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";
    size_t len = strlen(id);

    if (len == 0 || len > ZYGOTE_ID_MAX || strspn(id, allowed) != len)
        return status_set(st, CODE_INVALID_ARGUMENT, 0, "a %s is 1 to %d of [A-Za-z0-9_-]", what,
                          ZYGOTE_ID_MAX);
    memcpy(to, id, len + 1);
    return true;
}

static bool set_id(struct zygote_request *request, const char *id, struct status *st)
{
    return set_name(request->id, id, "sandbox id", st);
}

/* The record as a file that cannot change any more, for the zygote to keep. */
static bool set_life(struct zygote_request *request, const struct zygote_life *life, int *ret_fd,
                     struct status *st)
{
    request->deadline_ns = life->deadline_ns;
    request->at_deadline = life->at_deadline;
    *ret_fd = -1;
    if (!life->record)
        return true;
    *ret_fd = sealed_file("record", 0, life->record, life->record_len);
    return *ret_fd >= 0 || status_set(st, CODE_INTERNAL, 0, "the record of sandbox %s: %s",
                                      request->id, strerror(errno));
}

bool zygote_create(struct zygote *z, const struct zygote_spec *spec, struct status *st)
{
    struct zygote_request request = {.op = ZYGOTE_CREATE, .limits = spec->limits};
    AUTO_CLOSE int config_fd = -1;
    AUTO_CLOSE int record_fd = -1;

    if (!set_id(&request, spec->id, st) || !set_life(&request, &spec->life, &record_fd, st) ||
        (spec->from && !set_name(request.name, spec->from, "snapshot's name", st)))
        return false;
    config_fd = make_config(z, spec);
    if (config_fd < 0)
        return status_set(st, errno == E2BIG ? CODE_RESOURCE_EXHAUSTED : CODE_INTERNAL, 0,
                          "the configuration of sandbox %s cannot be kept: %s", spec->id,
                          strerror(errno));
    return order(z, &request,
                 (int[REQUEST_FDS]){[REQUEST_CONFIG] = config_fd, [REQUEST_RECORD] = record_fd},
                 st);
}

static bool order_about(struct zygote *z, enum zygote_op op, const char *id, struct status *st)
{
    struct zygote_request request = {.op = op};

    return set_id(&request, id, st) && order(z, &request, NULL, st);
}

bool zygote_freeze(struct zygote *z, const char *id, struct status *st)
{
    return order_about(z, ZYGOTE_FREEZE, id, st);
}

bool zygote_thaw(struct zygote *z, const char *id, struct status *st)
{
    return order_about(z, ZYGOTE_THAW, id, st);
}

bool zygote_save(struct zygote *z, const char *id, const char *name, struct status *st)
{
    struct zygote_request request = {.op = ZYGOTE_SAVE};

    return set_id(&request, id, st) && set_name(request.name, name, "snapshot's name", st) &&
           order(z, &request, NULL, st);
}

bool zygote_kill(struct zygote *z, const char *id, struct status *st)
{
    return order_about(z, ZYGOTE_KILL, id, st);
}

bool zygote_set(struct zygote *z, const char *id, const struct zygote_life *life, struct status *st)
{
    struct zygote_request request = {.op = ZYGOTE_SET};
    AUTO_CLOSE int record_fd = -1;

    return set_id(&request, id, st) && set_life(&request, life, &record_fd, st) &&
           order(z, &request,
                 (int[REQUEST_FDS]){[REQUEST_CONFIG] = -1, [REQUEST_RECORD] = record_fd}, st);
}

/* Several descriptors may stand for the same file: it has one position, which is not used. */
static bool read_record(int fd, struct buf *to)
{
    struct stat info;
    uint8_t *room;

    if (fstat(fd, &info) < 0 || !(room = buf_reserve(to, (size_t)info.st_size)) ||
        pread(fd, room, (size_t)info.st_size, 0) != info.st_size)
        return false;
    buf_commit(to, (size_t)info.st_size);
    return true;
}

static bool give(const struct zygote_reply *reply, const int *fds, int record_fd,
                 void (*each)(void *ctx, const struct zygote_sandbox *s), void *ctx,
                 struct status *st)
{
    AUTO(buf_deinit) struct buf record = BUF_INIT(ZYGOTE_RECORD_MAX);
    struct zygote_sandbox s = {
        .life = {.deadline_ns = reply->deadline_ns, .at_deadline = reply->at_deadline},
        .frozen = reply->frozen,
        .net = {fds[REPLY_TCP], fds[REPLY_DNS]}};

    if (record_fd >= 0 && !read_record(record_fd, &record))
        return status_set(st, CODE_INTERNAL, 0, "the record of sandbox %s cannot be read",
                          reply->id);
    memcpy(s.id, reply->id, sizeof s.id);
    if (record_fd >= 0) {
        s.life.record = buf_data(&record);
        s.life.record_len = buf_len(&record);
    }
    each(ctx, &s);
    return true;
}

bool zygote_adopt(struct zygote *z, void (*each)(void *ctx, const struct zygote_sandbox *s),
                  void *ctx, struct status *st)
{
    struct zygote_request request = {.op = ZYGOTE_ADOPT};
    struct zygote_reply reply;
    int fds[REPLY_FDS];

    while (call(z, &request, NULL, &reply, fds, st)) {
        AUTO_CLOSE int record_fd = fds[REPLY_RECORD];

        if (!give(&reply, fds, record_fd, each, ctx, st))
            return false;
        request.behind = reply.serial;
    }
    return reply.status.code == CODE_NOT_FOUND;
}

int zygote_fd(const struct zygote *z)
{
    return z->event_fd;
}

int zygote_log_fd(const struct zygote *z)
{
    return z->log_fd;
}

enum zygote_next zygote_next(struct zygote *z, struct zygote_event *ret)
{
    int fds[EVENT_FDS];
    ssize_t n = zygote_receive(z->event_fd, ret, sizeof *ret, fds, EVENT_FDS, 0);

    if (n != (ssize_t)sizeof *ret)
        return n < 0 && errno == EAGAIN ? ZYGOTE_NONE : ZYGOTE_GONE;
    ret->net = (struct sandbox_net_sockets){fds[EVENT_TCP], fds[EVENT_DNS]};
    return ZYGOTE_EVENT;
}
