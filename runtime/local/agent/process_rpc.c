/* process.Process: requests in, process.h called, answers out. */
#include "common/base/cleanup.h"
#include "common/base/mem.h"
#include "runtime/local/agent/agent.h"
#include "runtime/local/agent/process.h"
#include "runtime/local/agent/services.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>

enum { STREAM_PENDING_MAX = 1 << 20 };

/* The one selected; NULL, and the call is over, when there is none. */
static struct process *find(struct rpc_call *call, const Process__ProcessSelector *selector,
                            bool ended_too)
{
    struct status st = STATUS_INIT;
    struct process *p = processes_find(&call->agent->processes, selector, ended_too, &st);

    if (!p)
        rpc_fail_status(call, &st);
    return p;
}

void process_rpc_list(struct rpc_call *call, const ProtobufCMessage *message)
{
    Process__ListResponse response = PROCESS__LIST_RESPONSE__INIT;
    Process__ProcessInfo *infos;
    size_t n = 0;

    LIST_FOR_EACH (node, &call->agent->processes.all)
        n++;
    infos = xcalloc(n + 1, sizeof(*infos));
    response.processes = xcalloc(n + 1, sizeof(*response.processes));
    LIST_FOR_EACH (node, &call->agent->processes.all) {
        struct process *p = container_of(node, struct process, node);
        Process__ProcessInfo *info = &infos[response.n_processes];

        if (p->ended || !p->started)
            continue;
        process__process_info__init(info);
        info->pid = (uint32_t)p->pid;
        info->config = p->config;
        if (p->tag)
            info->tag = p->tag;
        response.processes[response.n_processes++] = info;
    }
    rpc_reply(call, &response.base);
    free(response.processes);
    free(infos);
}

/* The message is the caller's, the process keeps its configuration: a copy by way of the wire. */
static Process__ProcessConfig *copy_config(const Process__ProcessConfig *config)
{
    size_t len = process__process_config__get_packed_size(config);
    AUTO_FREE uint8_t *bytes = xmalloc(len + 1);

    process__process_config__pack(config, bytes);
    return process__process_config__unpack(NULL, len, bytes);
}

/* Columns and rows beyond 16 bits are cut, as the kernel has no more. */
static struct winsize size_of(const Process__PTY *terminal)
{
    struct winsize size = {0};

    if (terminal->size) {
        size.ws_col = (unsigned short)terminal->size->cols;
        size.ws_row = (unsigned short)terminal->size->rows;
    }
    return size;
}

void process_rpc_start(struct rpc_call *call, const ProtobufCMessage *message)
{
    const Process__StartRequest *request = (const Process__StartRequest *)message;
    struct process_start start = {.with_stdin = request->stdin_set_case ==
                                                    PROCESS__START_REQUEST__STDIN_SET__NOT_SET ||
                                                request->stdin};
    struct status st = STATUS_INIT;
    struct winsize size;

    if (!request->process || !*request->process->cmd) {
        rpc_fail(call, CODE_INVALID_ARGUMENT, "process.cmd is empty: there is nothing to run");
        return;
    }
    start.config = copy_config(request->process);
    start.user = call->user;
    start.tag = *request->tag ? xstrdup(request->tag) : NULL;
    if (request->pty) {
        size = size_of(request->pty);
        start.terminal = &size;
    }
    if (!process_start(&call->agent->processes, call, &start, &st))
        rpc_fail_status(call, &st);
}

void process_rpc_connect(struct rpc_call *call, const ProtobufCMessage *message)
{
    const Process__ConnectRequest *request = (const Process__ConnectRequest *)message;
    struct process *p = find(call, request->process, true);

    if (p)
        process_follow(p, call);
}

void process_rpc_update(struct rpc_call *call, const ProtobufCMessage *message)
{
    const Process__UpdateRequest *request = (const Process__UpdateRequest *)message;
    Process__UpdateResponse response = PROCESS__UPDATE_RESPONSE__INIT;

    struct process *p = find(call, request->process, false);
    struct status st = STATUS_INIT;
    struct winsize size;

    if (!p)
        return;
    if (request->pty) {
        size = size_of(request->pty);
        if (!process_resize(p, &size, &st)) {
            rpc_fail_status(call, &st);
            return;
        }
    }
    rpc_reply(call, &response.base);
}

void process_rpc_send_signal(struct rpc_call *call, const ProtobufCMessage *message)
{
    const Process__SendSignalRequest *request = (const Process__SendSignalRequest *)message;
    Process__SendSignalResponse response = PROCESS__SEND_SIGNAL_RESPONSE__INIT;
    struct process *p = find(call, request->process, false);

    if (!p)
        return;
    if (request->signal != PROCESS__SIGNAL__SIGNAL_SIGKILL &&
        request->signal != PROCESS__SIGNAL__SIGNAL_SIGTERM) {
        rpc_fail(call, CODE_UNIMPLEMENTED, "invalid signal: %d: only SIGTERM and SIGKILL are known",
                 (int)request->signal);
        return;
    }
    process_signal(p, request->signal == PROCESS__SIGNAL__SIGNAL_SIGKILL ? SIGKILL : SIGTERM);
    rpc_reply(call, &response.base);
}

void process_rpc_close_stdin(struct rpc_call *call, const ProtobufCMessage *message)
{
    const Process__CloseStdinRequest *request = (const Process__CloseStdinRequest *)message;
    Process__CloseStdinResponse response = PROCESS__CLOSE_STDIN_RESPONSE__INIT;
    struct process *p = find(call, request->process, false);

    if (!p)
        return;
    if (p->has_terminal) {
        rpc_fail(call, CODE_UNKNOWN,
                 "error closing stdin: a terminal stays open: send it Ctrl+D (0x04)");
        return;
    }
    process_input_close(p);
    rpc_reply(call, &response.base);
}

/* ---- input ---- */

/* The bytes of an input for that process, a copy; false when it cannot be had there. */
static bool read_input(const struct process *p, const Process__ProcessInput *input,
                       uint8_t **ret_data, size_t *ret_len, struct status *st)
{
    const ProtobufCBinaryData *bytes;

    if (!input || input->input_case == PROCESS__PROCESS_INPUT__INPUT__NOT_SET)
        return status_set(st, CODE_UNIMPLEMENTED, 0,
                          "invalid input type: stdin or pty is expected");
    if (input->input_case == PROCESS__PROCESS_INPUT__INPUT_PTY && !p->has_terminal)
        return status_set(st, CODE_INTERNAL, 0,
                          "error writing to tty: tty not assigned to process");
    if (input->input_case == PROCESS__PROCESS_INPUT__INPUT_STDIN && p->has_terminal)
        return status_set(st, CODE_INTERNAL, 0,
                          "error writing to stdin: the process has a terminal: write to its pty");
    if (p->in.fd < 0 || p->close_in)
        return status_set(st, CODE_INTERNAL, 0,
                          "error writing to %s: it is closed, or was never asked for",
                          p->has_terminal ? "tty" : "stdin");
    bytes = p->has_terminal ? &input->pty : &input->stdin;
    *ret_len = bytes->len;
    *ret_data = xmemdup(bytes->data, bytes->len);
    return true;
}

static bool set_input_error(struct status *st, int error)
{
    return status_set(st, CODE_INTERNAL, 0, "error writing input: %s", strerror(error));
}

static bool set_input_full(struct status *st)
{
    return status_set(st, CODE_RESOURCE_EXHAUSTED, 0,
                      "too much input waits already: the process does not read it");
}

/* A request that waits until its input is written. When its call is lost the input is written
 * still. */
struct send {
    struct rpc_call *call; /* borrowed; NULL: lost */
};

static void on_send_gone(struct rpc_call *call)
{
    ((struct send *)call->data)->call = NULL;
}

static void on_sent(struct process_input *in, int error)
{
    Process__SendInputResponse response = PROCESS__SEND_INPUT_RESPONSE__INIT;
    struct send *send = in->ctx;
    struct status st = STATUS_INIT;

    if (send->call && error) {
        set_input_error(&st, error);
        rpc_fail_status(send->call, &st);
    } else if (send->call) {
        rpc_reply(send->call, &response.base);
    }
    free(send);
}

void process_rpc_send_input(struct rpc_call *call, const ProtobufCMessage *message)
{
    static const struct rpc_ops ops = {.gone = on_send_gone};
    const Process__SendInputRequest *request = (const Process__SendInputRequest *)message;
    struct process *p = find(call, request->process, false);
    struct status st = STATUS_INIT;
    struct send *send;
    uint8_t *data;
    size_t len;

    if (!p)
        return;
    if (!read_input(p, request->input, &data, &len, &st)) {
        rpc_fail_status(call, &st);
        return;
    }
    send = xcalloc(1, sizeof(*send));
    send->call = call;
    rpc_set_ops(call, &ops, send);
    if (!process_input_add(p, data, len, on_sent, send)) {
        free(send);
        set_input_full(&st);
        rpc_fail_status(call, &st);
    }
}

/* A stream of input. Lives until its call is over and all its inputs are done. */
struct stream {
    struct rpc_call *call; /* borrowed; NULL: over */
    struct agent *agent;   /* borrowed */
    bool selected;
    uint32_t pid;     /* looked for with every message: the process may end at any time */
    size_t n_pending; /* inputs */
    size_t pending;   /* their bytes */
    bool half_closed;
};

static void stream_release(struct stream *s)
{
    if (!s->call && s->n_pending == 0)
        free(s);
}

static void stream_fail(struct stream *s, const struct status *st)
{
    struct rpc_call *call = s->call;

    if (!call)
        return;
    s->call = NULL;
    rpc_fail_status(call, st);
}

static void stream_maybe_end(struct stream *s)
{
    Process__StreamInputResponse response = PROCESS__STREAM_INPUT_RESPONSE__INIT;
    struct rpc_call *call = s->call;

    if (!call || !s->half_closed || s->n_pending > 0)
        return;
    s->call = NULL;
    rpc_reply(call, &response.base);
}

static void on_stream_written(struct process_input *in, int error)
{
    struct stream *s = in->ctx;
    struct status st = STATUS_INIT;

    s->n_pending--;
    s->pending -= in->len;
    if (error) {
        set_input_error(&st, error);
        stream_fail(s, &st);
    } else if (s->call && s->pending < STREAM_PENDING_MAX / 2) {
        rpc_resume(s->call);
    }
    stream_maybe_end(s);
    stream_release(s);
}

static void on_stream_gone(struct rpc_call *call)
{
    struct stream *s = call->data;

    s->call = NULL;
    stream_release(s);
}

static bool stream_write(struct stream *s, const Process__ProcessInput *input, struct status *st)
{
    Process__ProcessSelector selector = PROCESS__PROCESS_SELECTOR__INIT;
    struct process *p;
    uint8_t *data;
    size_t len;

    if (!s->selected)
        return status_set(st, CODE_INVALID_ARGUMENT, 0,
                          "the first message has to select a process");
    selector.selector_case = PROCESS__PROCESS_SELECTOR__SELECTOR_PID;
    selector.pid = s->pid;
    p = processes_find(&s->agent->processes, &selector, false, st);
    if (!p || !read_input(p, input, &data, &len, st))
        return false;
    s->n_pending++;
    s->pending += len;
    if (s->pending > STREAM_PENDING_MAX)
        rpc_pause(s->call);
    if (process_input_add(p, data, len, on_stream_written, s))
        return true;
    s->n_pending--;
    s->pending -= len;
    return set_input_full(st);
}

static bool stream_take(struct stream *s, const Process__StreamInputRequest *request,
                        struct status *st)
{
    struct process *p;

    switch (request->event_case) {
    case PROCESS__STREAM_INPUT_REQUEST__EVENT_START:
        p = processes_find(&s->agent->processes, request->start->process, false, st);
        if (!p)
            return false;
        s->selected = true;
        s->pid = (uint32_t)p->pid;
        return true;
    case PROCESS__STREAM_INPUT_REQUEST__EVENT_DATA:
        return stream_write(s, request->data->input, st);
    case PROCESS__STREAM_INPUT_REQUEST__EVENT_KEEPALIVE:
        return true;
    case PROCESS__STREAM_INPUT_REQUEST__EVENT__NOT_SET:
    default:
        return status_set(st, CODE_UNIMPLEMENTED, 0, "invalid event type");
    }
}

/* Held while it works: the process may answer at once, and end the call. */
static void on_stream_message(struct rpc_call *call, ProtobufCMessage *message)
{
    struct stream *s = call->data;
    struct status st = STATUS_INIT;

    s->n_pending++;
    if (!stream_take(s, (const Process__StreamInputRequest *)message, &st))
        stream_fail(s, &st);
    s->n_pending--;
    protobuf_c_message_free_unpacked(message, NULL);
    stream_release(s);
}

static void on_stream_half_closed(struct rpc_call *call)
{
    struct stream *s = call->data;

    s->half_closed = true;
    stream_maybe_end(s);
    stream_release(s);
}

void process_rpc_stream_input(struct rpc_call *call, const ProtobufCMessage *message)
{
    static const struct rpc_ops ops = {
        .gone = on_stream_gone, .message = on_stream_message, .half_closed = on_stream_half_closed};
    struct stream *s = xcalloc(1, sizeof(*s));

    s->call = call;
    s->agent = call->agent;
    rpc_set_ops(call, &ops, s);
}
