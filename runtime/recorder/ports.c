/*
 * See ports.h. The kernel tells sockets and their inodes, /proc/<pid>/fd who holds them, and the
 * session of that process, or of one above it, the command it came from: each command is started in
 * a session of its own.
 */
#include "runtime/recorder/ports.h"

#include "common/base/cleanup.h"
#include "common/base/clock.h"
#include "common/base/fd.h"
#include "common/base/mem.h"
#include "common/base/utf8.h"
#include "common/journal/pb.h"
#include "runtime/recorder/fault.h"
#include "runtime/recorder/files.h"
#include "runtime/recorder/meta.h"
#include "runtime/recorder/proc.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    PORTS_MAX = 4096,
    TABLE_MAX = 8 * 1024 * 1024, /* of /proc/net/tcp */
    LISTENING = 0x0A,
    AGAIN_MS = 20,
    DEPTH_MAX = 64, /* processes above one */
    RESPONSE_MAX = 1024 * 1024,
};

struct port {
    uint64_t inode;
    uint16_t number;
    char address[INET6_ADDRSTRLEN];
    pid_t pid; /* 0: nobody that can be looked at has it */
};

struct ports {
    struct port *list; /* owned */
    size_t n;
};

static void ports_deinit(struct ports *p)
{
    free(p->list);
}

/* --- sockets --- */

/* The kernel prints an address as words of the machine's own order. */
static bool read_address(const char *hex, char ret[INET6_ADDRSTRLEN])
{
    uint32_t words[4];
    size_t n = strcspn(hex, ":") / 8;

    if (n != 1 && n != 4)
        return false;
    for (size_t i = 0; i < n; i++)
        if (sscanf(hex + 8 * i, "%8x", &words[i]) != 1)
            return false;
    return inet_ntop(n == 1 ? AF_INET : AF_INET6, words, ret, INET6_ADDRSTRLEN) != NULL;
}

/* "  0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000  0  12345 …" */
static bool read_socket(const char *line, struct port *ret)
{
    unsigned long long inode;
    char local[64];
    unsigned state, number;
    const char *colon;

    if (sscanf(line, " %*d: %63s %*s %x %*s %*s %*s %*u %*u %llu", local, &state, &inode) != 3 ||
        state != LISTENING)
        return false;
    colon = strchr(local, ':');
    if (colon == NULL || sscanf(colon + 1, "%4x", &number) != 1)
        return false;
    *ret = (struct port){.inode = inode, .number = (uint16_t)number};
    return read_address(local, ret->address);
}

static void add_sockets(struct ports *p, const char *table)
{
    AUTO(buf_deinit) struct buf text = BUF_INIT(TABLE_MAX);
    struct port port;

    if (!file_read(AT_FDCWD, table, &text))
        return; /* no IPv6, say */
    for (const char *line = buf_str(&text); line != NULL && p->n < PORTS_MAX;) {
        if (read_socket(line, &port)) {
            if ((p->n & (p->n + 1)) == 0)
                p->list = xrealloc(p->list, 2 * (p->n + 1) * sizeof(*p->list));
            p->list[p->n++] = port;
        }
        line = strchr(line, '\n');
        line += line != NULL;
    }
}

static int by_number(const void *a, const void *b)
{
    const struct port *left = a, *right = b;

    if (left->number != right->number)
        return left->number < right->number ? -1 : 1;
    return strcmp(left->address, right->address);
}

static void read_ports(struct ports *p)
{
    add_sockets(p, "/proc/net/tcp");
    add_sockets(p, "/proc/net/tcp6");
    if (p->n > 1)
        qsort(p->list, p->n, sizeof(*p->list), by_number);
}

static bool has_number(const struct ports *p, uint16_t number)
{
    for (size_t i = 0; i < p->n; i++)
        if (p->list[i].number == number)
            return true;
    return false;
}

/* --- whose they are --- */

/* Where root may not look into other users' processes (no CAP_SYS_PTRACE), they can themselves. */
enum { USERS_MAX = 32 };

struct users {
    uid_t uid[USERS_MAX];
    gid_t gid[USERS_MAX];
    size_t n;
};

struct look {
    struct ports *ports;
    struct users *closed; /* whose processes could not be looked into; NULL: do not ask */
    pid_t pid;
    int fds;      /* /proc/<pid>/fd */
    bool refused; /* to look into it */
};

/* Children inherit sockets: one is its eldest holder's. */
static void note_holder(struct ports *p, uint64_t inode, pid_t pid)
{
    for (size_t i = 0; i < p->n; i++)
        if (p->list[i].inode == inode && (p->list[i].pid == 0 || pid < p->list[i].pid))
            p->list[i].pid = pid;
}

static bool look_at_fd(void *arg, const char *name)
{
    struct look *look = arg;
    unsigned long long inode;
    char target[64];
    ssize_t n = readlinkat(look->fds, name, target, sizeof(target) - 1);

    if (n < 0)
        look->refused |= errno == EACCES;
    else {
        target[n] = '\0';
        if (sscanf(target, "socket:[%llu]", &inode) == 1)
            note_holder(look->ports, inode, look->pid);
    }
    return true;
}

static void note_closed(struct users *users, const char *path)
{
    struct stat st;

    if (stat(path, &st) < 0 || users->n == USERS_MAX)
        return;
    for (size_t i = 0; i < users->n; i++)
        if (users->uid[i] == st.st_uid)
            return;
    users->uid[users->n] = st.st_uid;
    users->gid[users->n++] = st.st_gid;
}

static bool look_at_process(void *arg, const char *name)
{
    struct look *look = arg;
    char path[64];

    if (!isdigit((unsigned char)name[0]))
        return true;
    look->pid = (pid_t)atoi(name);
    snprintf(path, sizeof(path), "/proc/%d/fd", (int)look->pid);
    look->fds = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    look->refused = look->fds < 0 && errno == EACCES;
    if (look->fds >= 0) {
        for_each_name(look->fds, look_at_fd, look);
        close(look->fds);
    }
    if (look->refused && look->closed != NULL) {
        snprintf(path, sizeof(path), "/proc/%d", (int)look->pid);
        note_closed(look->closed, path);
    }
    return true;
}

static void look_at_all(struct ports *p, struct users *closed)
{
    AUTO_CLOSE int proc = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct look look = {.ports = p, .closed = closed};

    if (proc >= 0)
        for_each_name(proc, look_at_process, &look);
}

struct holder {
    uint64_t inode;
    pid_t pid;
};

/* In a process of its own: what this user's processes hold. */
static void look_as(struct ports *p, uid_t uid, gid_t gid, int to)
{
    if (setgroups(0, NULL) < 0 || setresgid(gid, gid, gid) < 0 || setresuid(uid, uid, uid) < 0)
        _exit(1);
    look_at_all(p, NULL);
    for (size_t i = 0; i < p->n; i++) {
        struct holder h = {.inode = p->list[i].inode, .pid = p->list[i].pid};

        if (h.pid != 0 && !fd_write_all(to, &h, sizeof(h)))
            break;
    }
    _exit(0);
}

static void ask_user(struct ports *p, uid_t uid, gid_t gid)
{
    struct holder h;
    int pipe_fds[2];
    pid_t child;

    if (pipe2(pipe_fds, O_CLOEXEC) < 0)
        return;
    child = fork();
    if (child == 0)
        look_as(p, uid, gid, pipe_fds[1]);
    close(pipe_fds[1]);
    /* Less than PIPE_BUF at a time comes whole. */
    while (child > 0 && read(pipe_fds[0], &h, sizeof(h)) == (ssize_t)sizeof(h))
        note_holder(p, h.inode, h.pid);
    close(pipe_fds[0]);
    if (child > 0)
        waitpid(child, NULL, 0);
}

static void find_holders(struct ports *p)
{
    struct users closed = {.n = 0};

    if (p->n == 0)
        return;
    look_at_all(p, &closed);
    for (size_t i = 0; i < closed.n && geteuid() == 0; i++)
        ask_user(p, closed.uid[i], closed.gid[i]);
}

/* --- which command that is --- */

struct search {
    const struct state *state;
    pid_t pid;
    char id[ID_MAX + 1]; /* found; "" so far */
};

/* Numbers are used again: the command's own process, where it is still there, has its start time.
 */
static bool is_of(const struct pid_record *record, pid_t session)
{
    char boot_id[sizeof(record->boot_id)];
    uint64_t ticks = proc_start_ticks(session);

    proc_boot_id(boot_id, sizeof(boot_id));
    return (pid_t)record->pid == session && strcmp(record->boot_id, boot_id) == 0 &&
           (ticks == 0 || ticks == record->start_ticks);
}

static bool try_command(void *arg, const char *name)
{
    struct search *search = arg;
    AUTO_CLOSE int dir = -1;
    struct pid_record record;
    struct status ignored;
    pid_t pid = search->pid;

    if (!id_is_valid(name) || !state_open_command(search->state, name, &dir, &ignored) ||
        !pid_read(dir, &record))
        return true;
    for (int i = 0; i < DEPTH_MAX && pid > 1; i++) {
        struct proc_ties ties;

        if (!proc_ties(pid, &ties))
            return true;
        if (is_of(&record, ties.session)) {
            snprintf(search->id, sizeof(search->id), "%s", name);
            return false;
        }
        pid = ties.parent;
    }
    return true;
}

/* --- the answer --- */

static void add_name(struct buf *to, pid_t pid)
{
    AUTO(buf_deinit) struct buf file = BUF_INIT(64);
    char path[64], name[64];

    snprintf(path, sizeof(path), "/proc/%d/comm", (int)pid);
    if (!file_read(AT_FDCWD, path, &file))
        return;
    snprintf(name, sizeof(name), "%.*s", (int)strcspn(buf_str(&file), "\n"), buf_str(&file));
    utf8_sanitize(name);
    pb_add_bytes(to, 4, name, strlen(name));
}

static bool add_port(const struct state *s, const struct port *port, struct buf *to)
{
    AUTO(buf_deinit) struct buf message = BUF_INIT(1024);
    struct search search = {.state = s, .pid = port->pid};

    pb_add_uint(&message, 1, port->number);
    pb_add_bytes(&message, 2, port->address, strlen(port->address));
    if (port->pid != 0) {
        for_each_name(s->commands, try_command, &search);
        pb_add_uint(&message, 3, (uint64_t)port->pid);
        add_name(&message, port->pid);
        pb_add_bytes(&message, 5, search.id, strlen(search.id));
    }
    return pb_add_element(to, 1, buf_data(&message), buf_len(&message));
}

bool ports_list(const struct state *s, uint16_t port, int64_t timeout_ms, struct status *st)
{
    int64_t deadline_ns = clock_monotonic_ns() + timeout_ms * NS_PER_MS;
    AUTO(buf_deinit) struct buf response = BUF_INIT(RESPONSE_MAX);
    AUTO(ports_deinit) struct ports ports = {0};

    read_ports(&ports);
    while (port != 0 && !has_number(&ports, port) && clock_monotonic_ns() < deadline_ns) {
        usleep(AGAIN_MS * 1000);
        ports.n = 0;
        read_ports(&ports);
    }
    find_holders(&ports);
    for (size_t i = 0; i < ports.n; i++) {
        if (ports.list[i].pid == 0 && geteuid() == 0)
            continue; /* the platform's own, from outside */
        if (!add_port(s, &ports.list[i], &response))
            break; /* thousands of them: those that fit */
    }
    return fd_write_all(STDOUT_FILENO, buf_data(&response), buf_len(&response)) ||
           fault_errno(st, "the ports cannot be written");
}
