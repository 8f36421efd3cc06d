/*
 * See process.h: the life of a process. The order of events is: spawned, started (exec() succeeded,
 * or the failure pipe says why not), output, reaped, end. maybe_end() is the one place that decides
 * that nothing more will come.
 */
#include "runtime/local/agent/process.h"

#include "common/base/cleanup.h"
#include "common/base/clock.h"
#include "common/base/mem.h"
#include "runtime/local/agent/agent.h"
#include "runtime/local/agent/path.h"
#include "runtime/local/agent/spawn.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { REMEMBER_MS = 30 * 1000 };

static struct loop *loop_of(struct process *p)
{
    return &p->table->agent->loop;
}

static void close_watched(struct process *p, struct loop_fd *io)
{
    if (io->fd < 0)
        return;
    loop_remove(loop_of(p), io);
    close(io->fd);
    io->fd = -1;
}

static void process_free(struct process *p)
{
    loop_timer_cancel(loop_of(p), &p->deadline);
    loop_timer_cancel(loop_of(p), &p->memory);
    process_output_close(p);
    process_input_end(p);
    cleanup_close(&p->terminal);
    close_watched(p, &p->exec);
    list_unlink(&p->node);
    process__process_config__free_unpacked(p->config, NULL);
    free(p->tag);
    free(p);
}

/* ---- the end ---- */

static void describe_end(int wait_status, Process__ProcessEvent__EndEvent *end, char *text,
                         size_t size)
{
    if (WIFEXITED(wait_status)) {
        end->exited = true;
        end->exit_code = WEXITSTATUS(wait_status);
        snprintf(text, size, "exit status %d", end->exit_code);
    } else {
        const char *name = sigdescr_np(WTERMSIG(wait_status));

        end->exit_code = -1;
        if (name)
            snprintf(text, size, "signal: %c%s%s", tolower((unsigned char)*name), name + 1,
                     WCOREDUMP(wait_status) ? " (core dumped)" : "");
        else
            snprintf(text, size, "signal: signal %d", WTERMSIG(wait_status));
    }
    end->status = text;
    if (!WIFEXITED(wait_status) || WEXITSTATUS(wait_status) != 0)
        end->error = text;
}

static void broadcast_end(struct process *p)
{
    Process__ProcessEvent event = PROCESS__PROCESS_EVENT__INIT;
    Process__ProcessEvent__EndEvent end = PROCESS__PROCESS_EVENT__END_EVENT__INIT;
    char text[96];

    describe_end(p->wait_status, &end, text, sizeof(text));
    event.event_case = PROCESS__PROCESS_EVENT__EVENT_END;
    event.end = &end;
    process_broadcast(p, &event);
}

static void tell_daemon_end(struct process *p)
{
    Process__ProcessEvent__EndEvent end = PROCESS__PROCESS_EVENT__END_EVENT__INIT;
    char text[96];

    describe_end(p->wait_status, &end, text, sizeof(text));
    events_process_ended(&p->table->agent->events, p, text);
}

static void close_terminal(struct process *p)
{
    cleanup_close(&p->terminal);
    p->terminal = -1;
}

static void maybe_end(struct process *p)
{
    if (!p->reaped || !p->started || p->ended)
        return;
    if (p->killed)
        process_output_drain(p);
    if (!process_output_is_closed(p))
        return;
    p->ended = true;
    loop_timer_cancel(loop_of(p), &p->deadline);
    process_input_end(p);
    close_terminal(p);
    tell_daemon_end(p);
    broadcast_end(p);
    process_finish_followers(p, NULL);
    loop_timer_after(loop_of(p), &p->memory, REMEMBER_MS);
}

void process_output_closed(struct process *p)
{
    maybe_end(p);
}

static void on_forget(struct loop_timer *timer)
{
    process_free(container_of(timer, struct process, memory));
}

void processes_reaped(struct processes *table, pid_t pid, int wait_status)
{
    LIST_FOR_EACH_SAFE (node, &table->all) {
        struct process *p = container_of(node, struct process, node);

        if (p->pid != pid || p->reaped)
            continue;
        p->reaped = true;
        p->wait_status = wait_status;
        maybe_end(p);
        return;
    }
}

bool process_resize(struct process *p, const struct winsize *size, struct status *st)
{
    if (!p->has_terminal)
        return status_set(st, CODE_INTERNAL, 0, "error resizing tty: tty not assigned to process");
    if (ioctl(p->terminal, TIOCSWINSZ, size) < 0)
        return status_set(st, CODE_INTERNAL, 0, "error resizing tty: %s", strerror(errno));
    return true;
}

void process_signal(struct process *p, int sig)
{
    if (p->reaped)
        return; /* the number may be somebody else's by now */
    p->killed = true;
    kill(p->pid, sig);
}

static void on_deadline(struct loop_timer *timer)
{
    process_signal(container_of(timer, struct process, deadline), SIGKILL);
}

/* ---- the start ---- */

static void tell_started(struct process *p, struct follower *only)
{
    Process__ProcessEvent event = PROCESS__PROCESS_EVENT__INIT;
    Process__ProcessEvent__StartEvent start = PROCESS__PROCESS_EVENT__START_EVENT__INIT;
    Process__StartResponse response = PROCESS__START_RESPONSE__INIT;

    start.pid = (uint32_t)p->pid;
    event.event_case = PROCESS__PROCESS_EVENT__EVENT_START;
    event.start = &start;
    response.event = &event;
    if (only)
        rpc_send(only->call, &response.base); /* a ConnectResponse is the same on the wire */
    else
        process_broadcast(p, &event);
}

static void fail_start(struct process *p, const struct spawn_failure *failure)
{
    struct status st = STATUS_INIT;

    status_set(&st, CODE_INVALID_ARGUMENT, 0, "error starting process: %s %s: %s", failure->what,
               p->config->cwd, strerror(failure->error));
    events_process_failed(&p->table->agent->events, p->config, st.message);
    process_finish_followers(p, &st);
    process_free(p);
}

static void on_exec(struct loop_fd *io, uint32_t events)
{
    struct process *p = container_of(io, struct process, exec);
    struct spawn_failure failure;
    ssize_t n = read(io->fd, &failure, sizeof(failure));

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n == (ssize_t)sizeof(failure)) {
        fail_start(p, &failure);
        return;
    }
    close_watched(p, &p->exec);
    p->started = true;
    if (geteuid() != 0)
        spawn_offer_to_oom(p->pid); /* the child could not by itself */
    events_process_started(&p->table->agent->events, p);
    tell_started(p, NULL);
    process_output_update(p);
    maybe_end(p);
}

/* A number or a tag used again means the new process. */
static void evict(struct processes *table, const struct process *newer)
{
    LIST_FOR_EACH_SAFE (node, &table->all) {
        struct process *p = container_of(node, struct process, node);

        if (p->ended &&
            (p->pid == newer->pid || (p->tag && newer->tag && strcmp(p->tag, newer->tag) == 0)))
            process_free(p);
    }
}

static const char **make_env(const struct config *config, const struct user *user,
                             const Process__ProcessConfig *wanted)
{
    const char **pairs = xcalloc(wanted->n_envs + 1, sizeof(*pairs));
    const char **env;

    for (size_t i = 0; i < wanted->n_envs; i++)
        pairs[i] = xasprintf("%s=%s", wanted->envs[i]->key, wanted->envs[i]->value);
    env = spawn_env_new(config, user, pairs, wanted->n_envs);
    for (size_t i = 0; i < wanted->n_envs; i++)
        free((char *)pairs[i]);
    free(pairs);
    return env;
}

static bool check_cwd(const char *cwd, struct status *st)
{
    struct stat info;

    if (stat(cwd, &info) < 0 && (errno == ENOENT || errno == ENOTDIR))
        return status_set(st, CODE_INVALID_ARGUMENT, 0, "cwd '%s' does not exist", cwd);
    return true;
}

static bool spawn_config(struct processes *table, const struct process_start *start,
                         struct spawned *ret, struct status *st)
{
    const Process__ProcessConfig *config = start->config;
    const struct config *own = &table->agent->config;
    AUTO_FREE char *cwd = path_resolve(config->cwd, &start->user, own->workdir, st);
    const char **argv, **envp;
    struct spawn spawn = {.user = &start->user,
                          .cwd = cwd,
                          .with_stdin = start->with_stdin,
                          .terminal = start->terminal};
    bool spawned;

    if (!cwd || !check_cwd(cwd, st))
        return false;
    argv = xcalloc(config->n_args + 2, sizeof(*argv));
    argv[0] = config->cmd;
    for (size_t i = 0; i < config->n_args; i++)
        argv[i + 1] = config->args[i];
    envp = make_env(own, &start->user, config);
    spawn.argv = argv;
    spawn.envp = envp;
    spawned = spawn_start(&spawn, ret, st);
    spawn_env_free(envp);
    free(argv);
    return spawned;
}

static void watch(struct process *p, struct loop_fd *io, int fd, uint32_t events,
                  void (*ready)(struct loop_fd *, uint32_t))
{
    io->fd = fd;
    io->ready = ready;
    if (fd >= 0 && !loop_add(loop_of(p), io, events, NULL)) {
        close(fd); /* cannot happen to a pipe */
        io->fd = -1;
    }
}

struct process *process_start(struct processes *table, struct rpc_call *call,
                              const struct process_start *start, struct status *st)
{
    struct process *p;
    struct spawned spawned;

    if (!spawn_config(table, start, &spawned, st)) {
        events_process_failed(&table->agent->events, start->config, st->message);
        process__process_config__free_unpacked(start->config, NULL);
        free(start->tag);
        return NULL;
    }
    p = xcalloc(1, sizeof(*p));
    *p = (struct process){.table = table,
                          .pid = spawned.pid,
                          .config = start->config,
                          .tag = start->tag,
                          .has_terminal = start->terminal != NULL,
                          .terminal = spawned.terminal_fd,
                          .deadline.fire = on_deadline,
                          .memory.fire = on_forget};
    list_init(&p->inputs);
    list_init(&p->followers);
    evict(table, p);
    list_append(&table->all, &p->node);
    for (int i = 0; i < PROCESS_OUTPUTS; i++) {
        p->out[i].process = p;
        process_output_open(&p->out[i], spawned.out_fd[i]);
    }
    watch(p, &p->in, spawned.in_fd, 0, process_input_ready);
    watch(p, &p->exec, spawned.failure_fd, EPOLLIN, on_exec);
    if (call && call->timeout_ms >= 0)
        loop_timer_after(loop_of(p), &p->deadline, call->timeout_ms);
    if (call)
        process_follow(p, call);
    return p;
}

/* ---- being found and followed ---- */

void processes_init(struct processes *table, struct agent *agent)
{
    table->agent = agent;
    list_init(&table->all);
}

static bool is_selected(const struct process *p, const Process__ProcessSelector *selector)
{
    if (selector->selector_case == PROCESS__PROCESS_SELECTOR__SELECTOR_PID)
        return (uint32_t)p->pid == selector->pid;
    return p->tag && strcmp(p->tag, selector->tag) == 0;
}

struct process *processes_find(struct processes *table, const Process__ProcessSelector *selector,
                               bool ended_too, struct status *st)
{
    if (!selector || selector->selector_case == PROCESS__PROCESS_SELECTOR__SELECTOR__NOT_SET) {
        status_set(st, CODE_UNIMPLEMENTED, 0, "a process is selected by pid or tag");
        return NULL;
    }
    LIST_FOR_EACH (node, &table->all) {
        struct process *p = container_of(node, struct process, node);

        if (is_selected(p, selector) && (!p->ended || ended_too))
            return p;
    }
    if (selector->selector_case == PROCESS__PROCESS_SELECTOR__SELECTOR_PID)
        status_set(st, CODE_NOT_FOUND, 0, "process with pid %" PRIu32 " not found", selector->pid);
    else
        status_set(st, CODE_NOT_FOUND, 0, "process with tag %s not found", selector->tag);
    return NULL;
}

void process_follow(struct process *p, struct rpc_call *call)
{
    struct follower *f = process_follower_new(p, call);

    if (p->started)
        tell_started(p, f);
    if (!p->ended)
        return;
    broadcast_end(p); /* nobody else follows what has ended */
    process_finish_followers(p, NULL);
}
