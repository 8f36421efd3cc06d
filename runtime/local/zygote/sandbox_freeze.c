/*
 * See sandbox_freeze.h. Without a control group the processes are found as the descendants of the
 * agent, which inherits all that lose their parents. A process that is being made while we look is
 * found in the next round: rounds go on until one finds nothing that moves.
 */
#include "runtime/local/zygote/sandbox_freeze.h"

#include "common/base/cleanup.h"
#include "common/base/mem.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { ROUNDS = 500, ROUND_WAIT_MS = 1 };

struct process {
    pid_t pid, parent;
    char state; /* as /proc has it: T is stopped, Z and X are gone */
    bool ours;
};

struct table {
    struct process *at; /* owned */
    size_t n;
};

static void table_deinit(struct table *t)
{
    free(t->at);
}

static bool read_process(const char *pid, struct process *ret)
{
    AUTO_FREE char *path = xasprintf("/proc/%s/stat", pid);
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
    char text[512], *end;
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);

    if (n <= 0)
        return false;
    text[n] = '\0';
    end = strrchr(text, ')'); /* its name may hold anything */
    *ret = (struct process){.pid = (pid_t)atoi(pid)};
    return end != NULL && sscanf(end + 1, " %c %d", &ret->state, &ret->parent) == 2;
}

static void read_table(struct table *t)
{
    DIR *dir = opendir("/proc");
    struct dirent *entry;
    struct process p;

    *t = (struct table){NULL, 0};
    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        if (entry->d_name[0] < '0' || entry->d_name[0] > '9' || !read_process(entry->d_name, &p))
            continue;
        t->at = xrealloc(t->at, (t->n + 1) * sizeof *t->at);
        t->at[t->n++] = p;
    }
    if (dir != NULL)
        closedir(dir);
}

static bool has_our_parent(const struct table *t, const struct process *p)
{
    for (size_t i = 0; i < t->n; i++) {
        if (t->at[i].ours && t->at[i].pid == p->parent)
            return true;
    }
    return false;
}

static void mark_descendants(struct table *t, pid_t root)
{
    bool more = true;

    while (more) {
        more = false;
        for (size_t i = 0; i < t->n; i++) {
            struct process *p = &t->at[i];

            if (!p->ours && (p->pid == root || has_our_parent(t, p)))
                p->ours = more = true;
        }
    }
}

static bool is_stopped(const struct process *p)
{
    return strchr("TtZX", p->state) != NULL;
}

static bool is_noted(const struct sandbox *s, pid_t pid)
{
    for (size_t i = 0; i < s->n_stopped; i++) {
        if (s->stopped[i] == pid)
            return true;
    }
    return false;
}

static void stop(struct sandbox *s, pid_t pid)
{
    if (kill(pid, SIGSTOP) < 0 || is_noted(s, pid))
        return;
    s->stopped = xrealloc(s->stopped, (s->n_stopped + 1) * sizeof *s->stopped);
    s->stopped[s->n_stopped++] = pid;
}

/* Whether something moved. */
static bool stop_round(struct sandbox *s)
{
    AUTO(table_deinit) struct table t;
    bool moved = false;

    read_table(&t);
    mark_descendants(&t, s->pid);
    for (size_t i = 0; i < t.n; i++) {
        if (!t.at[i].ours || is_stopped(&t.at[i]))
            continue;
        moved = true;
        stop(s, t.at[i].pid);
    }
    return moved;
}

static void continue_all(struct sandbox *s)
{
    for (size_t i = 0; i < s->n_stopped; i++)
        kill(s->stopped[i], SIGCONT);
    free(TAKE(s->stopped));
    s->n_stopped = 0;
}

static bool stop_all(struct sandbox *s)
{
    for (int round = 0; round < ROUNDS; round++) {
        if (!stop_round(s))
            return true;
        nanosleep(&(struct timespec){.tv_nsec = ROUND_WAIT_MS * 1000000}, NULL);
    }
    continue_all(s);
    return false;
}

bool sandbox_freeze(const struct sandbox_host *host, struct sandbox *s)
{
    if (s->frozen)
        return true;
    if (!sandbox_cgroups_can_freeze(&host->cgroups))
        s->frozen = stop_all(s);
    else
        s->frozen = sandbox_cgroups_freeze(&host->cgroups, s->id, true);
    if (!s->frozen)
        sandbox_cgroups_freeze(&host->cgroups, s->id, false);
    return s->frozen;
}

void sandbox_thaw(const struct sandbox_host *host, struct sandbox *s)
{
    if (!s->frozen)
        return;
    s->frozen = false;
    if (sandbox_cgroups_can_freeze(&host->cgroups))
        sandbox_cgroups_freeze(&host->cgroups, s->id, false);
    continue_all(s);
}
