/*
 * What processes print, from their pipes to their followers.
 *
 * With the binary codec an event is the payload behind a few bytes of framing, so a pipe is read
 * straight into the place where the event goes out from: no copy but the kernel's. All followers of
 * one codec share the bytes.
 */
#include "common/base/base64.h"
#include "common/base/mem.h"
#include "common/connect/envelope.h"
#include "runtime/local/agent/agent.h"
#include "runtime/local/agent/process.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    CHUNK = 32 << 10,
    TERMINAL_CHUNK = 16 << 10,
    FRAMING = 64, /* room in front of the payload, more than any framing takes */
    CHUNKS_PER_ROUND = 8,
    DRAIN_MAX = 1 << 20,
    LAG_MAX = 4 << 20, /* how far one follower may be behind the others */
    LOOK_MS = 2000,
    LOOKS = 5, /* several: a sandbox that was frozen meanwhile has only one long look */
    /* {"event":{"data":{"stdout":"..."}}} */
    TEXT_SIZE = 64 + (CHUNK + 2) / 3 * 4,
};

static uint8_t binary[FRAMING + CHUNK];
static uint8_t text[ENVELOPE_HEADER + TEXT_SIZE];

static struct loop *loop_of(struct process *p)
{
    return &p->table->agent->loop;
}

/* ---- framing ---- */

/* Writes a length-delimited field's tag and length so that they end at `end`; returns their start.
 */
static uint8_t *put_header(uint8_t *end, unsigned field, size_t len)
{
    uint8_t bytes[8];
    int n = 0;

    bytes[n++] = (uint8_t)(field << 3 | 2);
    for (; len >= 0x80; len >>= 7)
        bytes[n++] = (uint8_t)(len | 0x80);
    bytes[n++] = (uint8_t)len;
    memcpy(end - n, bytes, (size_t)n);
    return end - n;
}

/* Field numbers of StartResponse.event and ProcessEvent.data. */
enum { FIELD_EVENT = 1, FIELD_DATA = 2 };

/* The members of DataEvent. */
static const struct {
    unsigned field;
    const char *name;
} members[PROCESS_OUTPUTS] = {
    [PROCESS_STDOUT] = {1, "stdout"},
    [PROCESS_STDERR] = {2, "stderr"},
    [PROCESS_TERMINAL] = {3, "pty"},
};

/* Frames the payload that lies at binary + FRAMING. */
static const uint8_t *frame_binary(int which, size_t len, size_t *ret_len)
{
    uint8_t *payload = binary + FRAMING;
    uint8_t *end = payload + len;
    uint8_t *at = put_header(payload, members[which].field, len);

    at = put_header(at, FIELD_DATA, (size_t)(end - at));
    at = put_header(at, FIELD_EVENT, (size_t)(end - at));
    envelope_put_header(at - ENVELOPE_HEADER, 0, (uint32_t)(end - at));
    at -= ENVELOPE_HEADER;
    *ret_len = (size_t)(end - at);
    return at;
}

static const uint8_t *frame_text(int which, size_t len, size_t *ret_len)
{
    char *json = (char *)text + ENVELOPE_HEADER;
    size_t n = (size_t)sprintf(json, "{\"event\":{\"data\":{\"%s\":\"", members[which].name);

    n += base64_encode(json + n, binary + FRAMING, len);
    memcpy(json + n, "\"}}}", 4);
    n += 4;
    envelope_put_header(text, 0, (uint32_t)n);
    *ret_len = ENVELOPE_HEADER + n;
    return text;
}

/* ---- followers ---- */

static void follower_free(struct follower *f)
{
    loop_timer_cancel(loop_of(f->process), &f->patience);
    list_unlink(&f->node);
    free(f);
}

static void on_gone(struct rpc_call *call)
{
    struct follower *f = call->data;
    struct process *p = f->process;

    follower_free(f);
    process_output_update(p);
}

static void on_writable(struct rpc_call *call)
{
    struct follower *f = call->data;

    f->full = false;
    loop_timer_cancel(loop_of(f->process), &f->patience);
    process_output_update(f->process);
}

/* Looks whether a follower that others wait for still takes something. */
static void on_patience(struct loop_timer *timer)
{
    struct follower *f = container_of(timer, struct follower, patience);
    struct process *p = f->process;
    struct rpc_call *call = f->call;
    size_t pending = http_pending(call->x);

    f->stalled = pending < f->pending ? 0 : f->stalled + 1;
    f->pending = pending;
    if (f->stalled < LOOKS) {
        loop_timer_after(loop_of(p), timer, LOOK_MS);
        return;
    }
    follower_free(f);
    rpc_fail(call, CODE_ABORTED,
             "nothing of this stream was read for %d s while others followed the same process: "
             "attach again",
             LOOKS * LOOK_MS / 1000);
    process_output_update(p);
}

struct follower *process_follower_new(struct process *p, struct rpc_call *call)
{
    static const struct rpc_ops ops = {.gone = on_gone, .writable = on_writable};
    Process__ProcessEvent__KeepAlive keepalive = PROCESS__PROCESS_EVENT__KEEP_ALIVE__INIT;
    Process__ProcessEvent event = PROCESS__PROCESS_EVENT__INIT;
    Process__StartResponse response = PROCESS__START_RESPONSE__INIT;
    struct follower *f = xcalloc(1, sizeof(*f));

    f->process = p;
    f->call = call;
    f->patience.fire = on_patience;
    list_append(&p->followers, &f->node);
    rpc_set_ops(call, &ops, f);
    event.event_case = PROCESS__PROCESS_EVENT__EVENT_KEEPALIVE;
    event.keepalive = &keepalive;
    response.event = &event;
    rpc_keep_alive(call, &response.base);
    return f;
}

void process_broadcast(struct process *p, Process__ProcessEvent *event)
{
    Process__StartResponse response = PROCESS__START_RESPONSE__INIT;

    response.event = event;
    LIST_FOR_EACH (node, &p->followers) {
        struct follower *f = container_of(node, struct follower, node);

        f->full = !rpc_send(f->call, &response.base) || f->full;
    }
}

void process_finish_followers(struct process *p, const struct status *failure)
{
    while (!list_is_empty(&p->followers)) {
        struct follower *f = container_of(p->followers.next, struct follower, node);
        struct rpc_call *call = f->call;

        follower_free(f);
        if (failure)
            rpc_fail_status(call, failure);
        else
            rpc_finish(call);
    }
}

/* ---- reading ---- */

static void pass_on(struct process *p, int which, size_t len)
{
    const uint8_t *frames[2] = {NULL, NULL};
    size_t lengths[2];

    LIST_FOR_EACH (node, &p->followers) {
        struct follower *f = container_of(node, struct follower, node);
        bool json = f->call->json;

        if (!frames[json])
            frames[json] = json ? frame_text(which, len, &lengths[json])
                                : frame_binary(which, len, &lengths[json]);
        f->full = !rpc_send_envelope(f->call, frames[json], lengths[json]) || f->full;
    }
}

/* Others wait for it from now on, unless they do already. */
static void lose_patience(struct follower *f)
{
    if (timer_is_set(&f->patience.timer))
        return;
    f->stalled = 0;
    f->pending = http_pending(f->call->x);
    loop_timer_after(loop_of(f->process), &f->patience, LOOK_MS);
}

/*
 * While nobody keeps up it is the process that waits. While somebody does, the others may fall
 * behind for a while.
 */
static bool may_read(const struct process *p)
{
    bool one_keeps_up = list_is_empty(&p->followers);
    bool one_is_too_late = false;

    if (!p->started)
        return false;
    LIST_FOR_EACH (node, &p->followers)
        if (!container_of(node, struct follower, node)->full)
            one_keeps_up = true;
    LIST_FOR_EACH (node, &p->followers) {
        struct follower *f = container_of(node, struct follower, node);

        if (!one_keeps_up || !f->full || http_pending(f->call->x) < LAG_MAX)
            continue;
        one_is_too_late = true;
        lose_patience(f);
    }
    return one_keeps_up && !one_is_too_late;
}

static void close_one(struct process_output *out)
{
    if (out->io.fd < 0)
        return;
    loop_remove(loop_of(out->process), &out->io);
    close(out->io.fd);
    out->io.fd = -1;
}

enum read_result { READ_SOME, READ_NOTHING, READ_END };

static enum read_result read_chunk(struct process_output *out, size_t *ret_len)
{
    int which = (int)(out - out->process->out);
    size_t most = which == PROCESS_TERMINAL ? TERMINAL_CHUNK : CHUNK;
    ssize_t n = read(out->io.fd, binary + FRAMING, most); /* EIO: nobody has the terminal open */

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return READ_NOTHING;
    if (n <= 0)
        return READ_END;
    *ret_len = (size_t)n;
    pass_on(out->process, which, (size_t)n);
    return READ_SOME;
}

static void on_output(struct loop_fd *io, uint32_t events)
{
    struct process_output *out = container_of(io, struct process_output, io);
    struct process *p = out->process;
    enum read_result result = READ_SOME;
    size_t len;

    for (int i = 0; i < CHUNKS_PER_ROUND && result == READ_SOME && may_read(p); i++)
        result = read_chunk(out, &len);
    if (result == READ_END) {
        close_one(out);
        process_output_closed(p);
        return;
    }
    process_output_update(p);
}

void process_output_open(struct process_output *out, int fd)
{
    out->io.fd = fd;
    out->io.ready = on_output;
}

/*
 * Not waited for at all while a follower is full: a pipe whose writer is gone is reported whether
 * one wants it or not.
 */
void process_output_update(struct process *p)
{
    bool wanted = may_read(p);

    for (int i = 0; i < PROCESS_OUTPUTS; i++) {
        struct loop_fd *io = &p->out[i].io;

        if (io->fd >= 0 && wanted && !io->added)
            loop_add(loop_of(p), io, EPOLLIN, NULL);
        else if (io->fd >= 0 && !wanted && io->added)
            loop_remove(loop_of(p), io);
    }
}

void process_output_drain(struct process *p)
{
    for (int i = 0; i < PROCESS_OUTPUTS; i++) {
        size_t drained = 0, len;

        while (p->out[i].io.fd >= 0 && drained < DRAIN_MAX &&
               read_chunk(&p->out[i], &len) == READ_SOME)
            drained += len;
    }
    process_output_close(p);
}

bool process_output_is_closed(const struct process *p)
{
    for (int i = 0; i < PROCESS_OUTPUTS; i++)
        if (p->out[i].io.fd >= 0)
            return false;
    return true;
}

void process_output_close(struct process *p)
{
    for (int i = 0; i < PROCESS_OUTPUTS; i++)
        close_one(&p->out[i]);
}
