/*
 * See zygote.h: what a daemon asks of its zygote, and hears. How it comes to have one is in
 * zygote_start.c; the other side is sandbox_desk.c.
 *
 * A sandbox's configuration, which holds its secrets, goes as a sealed memory file from here
 * straight to its agent; the zygote passes the descriptor on and does not look.
 */
#include "runtime/local/zygote/zygote.h"

#include "common/base/buf.h"
#include "common/base/cleanup.h"
#include "common/base/fd.h"
#include "common/base/mem.h"
#include "runtime/local/agent/handover.h"
#include "runtime/local/zygote/sandbox_host.h"
#include "runtime/local/zygote/zygote_own.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

int zygote_sealed_file(const char *name, unsigned flags, const uint8_t *data, size_t len)
{
    AUTO_CLOSE int fd = memfd_create(name, flags | MFD_CLOEXEC | MFD_ALLOW_SEALING);

    if (fd < 0 && errno == EINVAL && flags) /* before 6.3 there is no such flag */
        fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0 || !fd_write_all(fd, data, len) ||
        fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) < 0)
        return -1;
    return take_fd(&fd);
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

bool zygote_order(struct zygote *z, const struct zygote_request *request, const int *fds,
                  struct status *st)
{
    struct zygote_reply reply;

    return call(z, request, fds, &reply, NULL, st);
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

    if (spec->start)
        fits = fits && buf_printf(&text, "start=%s%c", spec->start, 0);
    if (spec->ready)
        fits = fits && buf_printf(&text, "ready=%s%c", spec->ready, 0);
    if (spec->access_token)
        fits = fits && buf_printf(&text, "token=%s%c", spec->access_token, 0);
    for (size_t i = 0; i < spec->n_envs; i++)
        fits = fits && buf_printf(&text, "env:%s=%s%c", spec->envs[i].name, spec->envs[i].value, 0);
    if (!fits) {
        errno = E2BIG;
        return -1;
    }
    return zygote_sealed_file("config", 0, buf_data(&text), buf_len(&text));
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

static bool set_rootfs(struct zygote_request *request, const char *rootfs, struct status *st)
{
    int n = snprintf(request->rootfs, sizeof request->rootfs, "%s", rootfs ? rootfs : "");

    return (size_t)n < sizeof request->rootfs ||
           status_set(st, CODE_INVALID_ARGUMENT, 0, "the path of a root file system is too long");
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
    *ret_fd = zygote_sealed_file("record", 0, life->record, life->record_len);
    return *ret_fd >= 0 || status_set(st, CODE_INTERNAL, 0, "the record of sandbox %s: %s",
                                      request->id, strerror(errno));
}

bool zygote_create(struct zygote *z, const struct zygote_spec *spec, struct status *st)
{
    struct zygote_request request = {.op = ZYGOTE_CREATE, .limits = spec->limits};
    AUTO_CLOSE int config_fd = -1;
    AUTO_CLOSE int record_fd = -1;

    if (!set_id(&request, spec->id, st) || !set_life(&request, &spec->life, &record_fd, st) ||
        (spec->from && !set_name(request.name, spec->from, "snapshot's name", st)) ||
        !set_rootfs(&request, spec->rootfs, st))
        return false;
    request.start_ms = spec->start_ms;
    config_fd = make_config(z, spec);
    if (config_fd < 0)
        return status_set(st, errno == E2BIG ? CODE_RESOURCE_EXHAUSTED : CODE_INTERNAL, 0,
                          "the configuration of sandbox %s cannot be kept: %s", spec->id,
                          strerror(errno));
    return zygote_order(
        z, &request, (int[REQUEST_FDS]){[REQUEST_CONFIG] = config_fd, [REQUEST_RECORD] = record_fd},
        st);
}

static bool order_about(struct zygote *z, enum zygote_op op, const char *id, struct status *st)
{
    struct zygote_request request = {.op = op};

    return set_id(&request, id, st) && zygote_order(z, &request, NULL, st);
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
           zygote_order(z, &request, NULL, st);
}

bool zygote_try_disk(struct zygote *z, struct status *st)
{
    struct zygote_request request = {.op = ZYGOTE_TRY_DISK};

    return zygote_order(z, &request, NULL, st);
}

bool zygote_kill(struct zygote *z, const char *id, struct status *st)
{
    return order_about(z, ZYGOTE_KILL, id, st);
}

bool zygote_end(struct zygote *z, const char *id, struct status *st)
{
    return order_about(z, ZYGOTE_END, id, st);
}

bool zygote_set(struct zygote *z, const char *id, const struct zygote_life *life, struct status *st)
{
    struct zygote_request request = {.op = ZYGOTE_SET};
    AUTO_CLOSE int record_fd = -1;

    return set_id(&request, id, st) && set_life(&request, life, &record_fd, st) &&
           zygote_order(z, &request,
                        (int[REQUEST_FDS]){[REQUEST_CONFIG] = -1, [REQUEST_RECORD] = record_fd},
                        st);
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
