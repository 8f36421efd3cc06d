/* See proc.h. A snapshot of /proc is never whole, so killing goes on until nothing is found. */
#include "runtime/recorder/proc.h"

#include "common/base/buf.h"
#include "common/base/cleanup.h"
#include "common/base/mem.h"
#include "runtime/recorder/files.h"

#include <ctype.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROUNDS_MAX = 100 };

struct process {
    pid_t pid, parent, group, session;
    char state;
    uint64_t start_ticks;
    bool below; /* descends from the root that is asked about */
};

static bool read_process(pid_t pid, struct process *ret)
{
    AUTO(buf_deinit) struct buf b = BUF_INIT(4096);
    unsigned long long ticks;
    int parent, group, session;
    char path[64];
    const char *rest;

    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    if (!file_read(AT_FDCWD, path, &b))
        return false;
    rest = strrchr(buf_str(&b), ')'); /* the name in front may hold anything */
    if (rest == NULL ||
        sscanf(rest + 1,
               " %c %d %d %d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %llu",
               &ret->state, &parent, &group, &session, &ticks) != 5)
        return false;
    *ret = (struct process){.pid = pid,
                            .parent = parent,
                            .group = group,
                            .session = session,
                            .state = ret->state,
                            .start_ticks = ticks};
    return true;
}

struct table {
    struct process *list; /* owned */
    size_t n;
};

static bool add_process(void *arg, const char *name)
{
    struct table *t = arg;
    struct process p;

    if (!isdigit((unsigned char)name[0]) || !read_process(atoi(name), &p))
        return true;
    if ((t->n & (t->n + 1)) == 0)
        t->list = xrealloc(t->list, 2 * (t->n + 1) * sizeof(*t->list));
    t->list[t->n++] = p;
    return true;
}

static void read_table(struct table *ret)
{
    AUTO_CLOSE int dir = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    *ret = (struct table){0};
    if (dir >= 0)
        for_each_name(dir, add_process, ret);
}

static bool is_marked(const struct table *t, pid_t pid)
{
    for (size_t i = 0; i < t->n; i++)
        if (t->list[i].pid == pid)
            return t->list[i].below;
    return false;
}

/* Marks what descends from root. Ids wrap: a child can have a smaller one than its parent. */
static void mark_below(struct table *t, pid_t root)
{
    bool more = true;

    while (more) {
        more = false;
        for (size_t i = 0; i < t->n; i++) {
            struct process *p = &t->list[i];

            if (!p->below && (p->parent == root || is_marked(t, p->parent)))
                more = p->below = true;
        }
    }
}

bool proc_ties(pid_t pid, struct proc_ties *ret)
{
    struct process p;

    if (!read_process(pid, &p))
        return false;
    *ret = (struct proc_ties){.parent = p.parent, .session = p.session};
    return true;
}

uint64_t proc_start_ticks(pid_t pid)
{
    struct process p;

    return read_process(pid, &p) ? p.start_ticks : 0;
}

void proc_boot_id(char *to, size_t size)
{
    AUTO(buf_deinit) struct buf b = BUF_INIT(256);

    if (!file_read(AT_FDCWD, "/proc/sys/kernel/random/boot_id", &b) || buf_len(&b) == 0)
        buf_append_str(&b, "unknown");
    snprintf(to, size, "%.*s", (int)strcspn(buf_str(&b), "\n "), buf_str(&b));
}

uint64_t proc_oom_kills(void)
{
    AUTO(buf_deinit) struct buf b = BUF_INIT(64 * 1024);
    const char *line, *end;
    uint64_t n;

    if (!file_read(AT_FDCWD, "/proc/vmstat", &b))
        return 0;
    line = strstr(buf_str(&b), "\noom_kill ");
    return line != NULL && parse_u64(line + 10, &end, &n) ? n : 0;
}

static size_t signal_below(pid_t root, pid_t group, int signal)
{
    struct table t;
    size_t n = 0;

    read_table(&t);
    mark_below(&t, root);
    for (size_t i = 0; i < t.n; i++) {
        const struct process *p = &t.list[i];

        if (!p->below || p->state == 'Z' || p->pid == root || (group != 0 && p->group != group))
            continue;
        n += kill(p->pid, signal) == 0;
    }
    free(t.list);
    return n;
}

size_t proc_signal_descendants(pid_t root, int signal)
{
    return signal_below(root, 0, signal);
}

size_t proc_signal_group_below(pid_t root, pid_t group, int signal)
{
    return signal_below(root, group, signal);
}

void proc_kill_descendants(pid_t root)
{
    for (int round = 0; round < ROUNDS_MAX && signal_below(root, 0, SIGKILL) > 0; round++)
        usleep(1000);
}

void proc_kill_session(pid_t session, uint64_t start_ticks)
{
    size_t killed = 1;

    for (int round = 0; round < ROUNDS_MAX && killed > 0; round++) {
        struct table t;
        bool reused = false;

        killed = 0;
        read_table(&t);
        for (size_t i = 0; i < t.n; i++)
            reused |= t.list[i].pid == session && t.list[i].start_ticks != start_ticks;
        for (size_t i = 0; i < t.n && !reused; i++)
            if (t.list[i].session == session && t.list[i].state != 'Z')
                killed += kill(t.list[i].pid, SIGKILL) == 0;
        free(t.list);
        if (killed > 0)
            usleep(1000);
    }
}
