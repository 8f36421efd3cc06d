/*
 * See sandbox_desk.h.
 *
 * Events are told without blocking, in the order they happened; what the daemon has not read yet
 * stays in a list here, so that a busy daemon waiting for a reply can never be waited for in turn.
 * Without a daemon nobody is told: the next one asks what there is.
 */
#include "runtime/local/zygote/sandbox_desk.h"

#include "common/base/cleanup.h"
#include "common/base/mem.h"
#include "common/http/net.h"
#include "runtime/local/zygote/sandbox_disk.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

struct untold {
    struct list node;
    struct zygote_event event; /* its descriptors are our own copies */
};

static void untold_free(struct untold *u)
{
    list_unlink(&u->node);
    if (u->event.net.tcp_fd >= 0)
        close(u->event.net.tcp_fd);
    if (u->event.net.dns_fd >= 0)
        close(u->event.net.dns_fd);
    free(u);
}

static void close_io(struct sandbox_desk *d, struct loop_fd *io)
{
    if (io->fd < 0)
        return;
    loop_remove(d->loop, io);
    close(io->fd);
    io->fd = -1;
}

/* The daemon went, or whoever was there did not become one. */
static void unseat(struct sandbox_desk *d)
{
    close_io(d, &d->requests);
    close_io(d, &d->events);
    LIST_FOR_EACH_SAFE (node, &d->untold)
        untold_free(container_of(node, struct untold, node));
    if (d->greeted || d->orphan_ms < 0) {
        d->greeted = false;
        sandbox_lives_attend(d->lives, false);
        /* Not in boottime: a machine that wakes gives the daemon its time to come back. */
        loop_timer_after(d->loop, &d->orphan, d->orphan_ms > 0 ? d->orphan_ms : 0);
    }
}

static bool send_event(struct sandbox_desk *d, const struct zygote_event *e)
{
    const int fds[EVENT_FDS] = {[EVENT_TCP] = e->net.tcp_fd, [EVENT_DNS] = e->net.dns_fd};

    return zygote_send(d->events.fd, e, sizeof *e, fds, EVENT_FDS, MSG_DONTWAIT);
}

static void tell(void *ctx, const struct zygote_event *e)
{
    struct sandbox_desk *d = ctx;
    struct untold *u;

    if (!d->greeted || (list_is_empty(&d->untold) && send_event(d, e)))
        return;
    u = xcalloc(1, sizeof *u);
    u->event = *e;
    if (e->net.tcp_fd >= 0) {
        u->event.net.tcp_fd = fcntl(e->net.tcp_fd, F_DUPFD_CLOEXEC, 0);
        u->event.net.dns_fd = fcntl(e->net.dns_fd, F_DUPFD_CLOEXEC, 0);
    }
    list_append(&d->untold, &u->node);
    loop_modify(d->loop, &d->events, EPOLLOUT);
}

static void on_event_room(struct loop_fd *io, uint32_t events)
{
    struct sandbox_desk *d = container_of(io, struct sandbox_desk, events);

    if (events & (EPOLLHUP | EPOLLERR)) {
        unseat(d);
        return;
    }
    LIST_FOR_EACH_SAFE (node, &d->untold) {
        struct untold *u = container_of(node, struct untold, node);

        if (!send_event(d, &u->event))
            return;
        untold_free(u);
    }
    loop_modify(d->loop, io, 0);
}

static bool check_life(const struct zygote_request *r, int record_fd, struct status *st)
{
    struct stat info;

    if (record_fd >= 0 && (fstat(record_fd, &info) < 0 || info.st_size > ZYGOTE_RECORD_MAX))
        return status_set(st, CODE_RESOURCE_EXHAUSTED, 0, "a record may have %d bytes",
                          ZYGOTE_RECORD_MAX);
    return true;
}

static bool open_snapshot(const char *name, int *ret_fd, struct status *st)
{
    AUTO_FREE char *path = xasprintf("../snapshots/%s.tar", name);

    *ret_fd = open(path, O_RDONLY | O_CLOEXEC);
    return *ret_fd >= 0 || status_set(st, CODE_NOT_FOUND, 0, "snapshot %s cannot be opened: %s",
                                      name, strerror(errno));
}

static bool create(struct sandbox_desk *d, const struct zygote_request *r, int *fds,
                   struct status *st)
{
    AUTO_CLOSE int files_fd = -1;
    struct sandbox_order order = {.limits = zygote_limits(&r->limits),
                                  .config_fd = fds[REQUEST_CONFIG],
                                  .rootfs = r->rootfs[0] != '\0' ? r->rootfs : NULL,
                                  .start_ms = r->start_ms};
    struct sandbox *s;

    if (fds[REQUEST_CONFIG] < 0)
        return status_set(st, CODE_INTERNAL, 0, "a sandbox without a configuration");
    if (!check_life(r, fds[REQUEST_RECORD], st))
        return false;
    if (r->name[0] != '\0' && !open_snapshot(r->name, &files_fd, st))
        return false;
    order.files_fd = files_fd;
    s = sandbox_lives_create(d->lives, r->id, &order, st);
    if (!s)
        return false;
    sandbox_lives_set(s, r->deadline_ns, r->at_deadline, take_fd(&fds[REQUEST_RECORD]));
    return true;
}

static bool set(struct sandbox_desk *d, const struct zygote_request *r, int *fds, struct status *st)
{
    struct sandbox *s = sandbox_lives_find(d->lives, r->id, st);

    if (!s || !check_life(r, fds[REQUEST_RECORD], st))
        return false;
    sandbox_lives_set(s, r->deadline_ns, r->at_deadline, take_fd(&fds[REQUEST_RECORD]));
    return true;
}

static bool freeze(struct sandbox_desk *d, const struct zygote_request *r, struct status *st)
{
    struct sandbox *s = sandbox_lives_find(d->lives, r->id, st);

    return s && sandbox_lives_freeze(s, r->op == ZYGOTE_FREEZE, st);
}

static bool save(struct sandbox_desk *d, const struct zygote_request *r, struct status *st)
{
    struct sandbox *s = sandbox_lives_find(d->lives, r->id, st);

    return s && sandbox_lives_save(s, r->name, st);
}

static bool kill_one(struct sandbox_desk *d, const char *id, bool told, struct status *st)
{
    struct sandbox *s = sandbox_lives_find(d->lives, id, st);

    if (s)
        sandbox_lives_kill(s, told);
    return s != NULL;
}

static bool adopt(struct sandbox_desk *d, uint64_t behind, struct zygote_reply *ret, int *ret_fds)
{
    const struct sandbox *s = sandbox_lives_behind(d->lives, behind);

    if (!s)
        return status_set(&ret->status, CODE_NOT_FOUND, 0, "there are no more");
    memcpy(ret->id, s->id, sizeof ret->id);
    ret->serial = s->serial;
    ret->deadline_ns = s->deadline_ns;
    ret->at_deadline = s->at_deadline;
    ret->frozen = s->frozen;
    ret_fds[REPLY_TCP] = s->net.tcp_fd;
    ret_fds[REPLY_DNS] = s->net.dns_fd;
    ret_fds[REPLY_RECORD] = s->record_fd;
    return true;
}

static void greet(struct sandbox_desk *d, const struct zygote_request *r)
{
    d->orphan_ms = r->orphan_ms;
    d->greeted = true;
    d->hello.was_there = true;
    loop_timer_cancel(d->loop, &d->orphan);
    sandbox_lives_attend(d->lives, true);
}

/* False: there is nothing to reply any more. */
static bool serve(struct sandbox_desk *d, const struct zygote_request *r, int *fds)
{
    struct zygote_reply reply = {.status = STATUS_INIT};
    int reply_fds[REPLY_FDS] = {-1, -1, -1};

    switch (r->op) {
    case ZYGOTE_GREET:
        greet(d, r);
        break;
    case ZYGOTE_CREATE:
        create(d, r, fds, &reply.status);
        break;
    case ZYGOTE_KILL:
    case ZYGOTE_END:
        kill_one(d, r->id, r->op == ZYGOTE_END, &reply.status);
        break;
    case ZYGOTE_SET:
        set(d, r, fds, &reply.status);
        break;
    case ZYGOTE_FREEZE:
    case ZYGOTE_THAW:
        freeze(d, r, &reply.status);
        break;
    case ZYGOTE_SAVE:
        save(d, r, &reply.status);
        break;
    case ZYGOTE_TRY_DISK:
        sandbox_disk_try(d->lives->host, &reply.status);
        break;
    case ZYGOTE_ADOPT:
        adopt(d, r->behind, &reply, reply_fds);
        break;
    case ZYGOTE_STOP:
        loop_stop(d->loop);
        return true;
    }
    return zygote_send(d->requests.fd, &reply, sizeof reply, reply_fds, REPLY_FDS, 0);
}

static void on_request(struct loop_fd *io, uint32_t events)
{
    struct sandbox_desk *d = container_of(io, struct sandbox_desk, requests);
    struct zygote_request request;
    int fds[REQUEST_FDS];
    ssize_t n = zygote_receive(io->fd, &request, sizeof request, fds, REQUEST_FDS, MSG_DONTWAIT);
    bool stays;

    if (n < 0 && errno == EAGAIN)
        return;
    request.id[sizeof request.id - 1] = request.name[sizeof request.name - 1] = '\0';
    request.rootfs[sizeof request.rootfs - 1] = '\0';
    stays = n == (ssize_t)sizeof request && (d->greeted || request.op == ZYGOTE_GREET) &&
            serve(d, &request, fds);
    for (size_t i = 0; i < REQUEST_FDS; i++)
        if (fds[i] >= 0)
            close(fds[i]);
    if (!stays)
        unseat(d);
}

static bool say_hello(const struct sandbox_desk *d, int fd, int events_fd)
{
    const int fds[HELLO_FDS] = {[HELLO_EVENTS] = events_fd, [HELLO_LOG] = d->log_fd};

    return zygote_send(fd, &d->hello, sizeof d->hello, fds, HELLO_FDS, MSG_DONTWAIT);
}

void sandbox_desk_seat(struct sandbox_desk *d, int take_fd)
{
    struct ucred peer = {.pid = 0};
    int events[2] = {-1, -1};
    bool seated;

    getsockopt(take_fd, SOL_SOCKET, SO_PEERCRED, &peer, &(socklen_t){sizeof peer});
    d->daemon_pid = peer.pid;
    d->requests.fd = take_fd;
    seated = socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, events) == 0;
    d->events.fd = events[0];
    seated = seated && say_hello(d, take_fd, events[1]) &&
             loop_add(d->loop, &d->requests, EPOLLIN, NULL) &&
             loop_add(d->loop, &d->events, 0, NULL);
    if (events[1] >= 0)
        close(events[1]);
    if (!seated)
        unseat(d);
}

static void refuse(struct sandbox_desk *d, int fd, const char *why)
{
    struct zygote_hello hello = {.protocol = ZYGOTE_PROTOCOL, .pid = getpid()};

    status_set(&hello.status, CODE_FAILED_PRECONDITION, 0, "the data directory %s %s", d->data_dir,
               why);
    zygote_send(fd, &hello, sizeof hello, NULL, 0, MSG_DONTWAIT);
}

/* Whether somebody is seated who has not left since we last looked. */
static bool is_taken(struct sandbox_desk *d)
{
    char byte;
    ssize_t n;

    if (d->requests.fd < 0)
        return false;
    n = recv(d->requests.fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    if (n == 0 || (n < 0 && errno != EAGAIN))
        unseat(d);
    return d->requests.fd >= 0;
}

static void on_knock(struct loop_fd *io, uint32_t events)
{
    struct sandbox_desk *d = container_of(io, struct sandbox_desk, door);
    AUTO_CLOSE int fd = accept4(io->fd, NULL, NULL, SOCK_CLOEXEC);
    struct ucred peer = {.uid = (uid_t)-1};
    AUTO_FREE char *taken = NULL;

    if (fd < 0)
        return;
    getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &(socklen_t){sizeof peer});
    if (peer.uid != geteuid()) {
        refuse(d, fd, "belongs to another user's daemon");
    } else if (is_taken(d)) {
        taken =
            xasprintf("is used by another daemon (pid %d): give each its own", (int)d->daemon_pid);
        refuse(d, fd, taken);
    } else {
        sandbox_desk_seat(d, take_fd(&fd));
    }
}

static void on_orphan(struct loop_timer *timer)
{
    loop_stop(container_of(timer, struct sandbox_desk, orphan)->loop);
}

bool sandbox_desk_init(struct sandbox_desk *d, struct loop *loop, struct sandbox_lives *lives,
                       struct status *st)
{
    static const char path[] = "../" ZYGOTE_SOCKET;

    d->loop = loop;
    d->lives = lives;
    d->door = (struct loop_fd){.fd = -1, .ready = on_knock};
    d->requests = (struct loop_fd){.fd = -1, .ready = on_request};
    d->events = (struct loop_fd){.fd = -1, .ready = on_event_room};
    d->orphan.fire = on_orphan;
    d->orphan_ms = -1;
    d->hello.protocol = ZYGOTE_PROTOCOL;
    d->hello.pid = getpid();
    list_init(&d->untold);
    lives->tell = tell;
    lives->ctx = d;
    if (!net_listen_unix(path, SOCK_SEQPACKET, &d->door.fd, st))
        return false;
    if (chmod(path, 0600) < 0)
        return status_set(st, CODE_INTERNAL, 0, "%s cannot be made private: %s", path,
                          strerror(errno));
    return loop_add(loop, &d->door, EPOLLIN, st);
}

void sandbox_desk_close(struct sandbox_desk *d)
{
    if (d->door.fd >= 0)
        unlink("../" ZYGOTE_SOCKET);
    close_io(d, &d->door);
}
