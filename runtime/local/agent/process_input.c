/* What is written to processes' stdin: a queue for each, in order, as fast as they read. */
#include "common/base/mem.h"
#include "runtime/local/agent/agent.h"
#include "runtime/local/agent/process.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

enum { INPUT_MAX = 64 << 20 };

static void finish(struct process *p, struct process_input *in, int error)
{
    list_unlink(&in->node);
    p->input_len -= in->len;
    if (in->done)
        in->done(in, error);
    free(in->data);
    free(in);
}

static void close_in(struct process *p)
{
    if (p->in.fd < 0)
        return;
    loop_remove(&p->table->agent->loop, &p->in);
    close(p->in.fd);
    p->in.fd = -1;
}

static void fail_all(struct process *p, int error)
{
    while (!list_is_empty(&p->inputs))
        finish(p, container_of(p->inputs.next, struct process_input, node), error);
}

/* Writes what fits. A process that reads no more has closed its end. */
static void write_some(struct process *p)
{
    while (p->in.fd >= 0 && !list_is_empty(&p->inputs)) {
        struct process_input *in = container_of(p->inputs.next, struct process_input, node);
        ssize_t n = in->len ? write(p->in.fd, in->data + in->written, in->len - in->written) : 0;

        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            break;
        if (n < 0) {
            int error = errno;

            close_in(p);
            fail_all(p, error);
            return;
        }
        in->written += (size_t)n;
        if (in->written == in->len)
            finish(p, in, 0);
    }
    if (list_is_empty(&p->inputs) && p->close_in)
        close_in(p);
    if (p->in.fd >= 0)
        loop_modify(&p->table->agent->loop, &p->in, list_is_empty(&p->inputs) ? 0 : EPOLLOUT);
}

/* Also when the process has closed its end, which is always reported. */
void process_input_ready(struct loop_fd *io, uint32_t events)
{
    struct process *p = container_of(io, struct process, in);

    if (events & (EPOLLERR | EPOLLHUP)) {
        close_in(p);
        fail_all(p, EPIPE);
        return;
    }
    write_some(p);
}

bool process_input_add(struct process *p, uint8_t *data, size_t len,
                       void (*done)(struct process_input *in, int error), void *ctx)
{
    struct process_input *in;

    if (len > INPUT_MAX - p->input_len) {
        free(data);
        return false;
    }
    in = xcalloc(1, sizeof(*in));
    *in = (struct process_input){.data = data, .len = len, .done = done, .ctx = ctx};
    list_append(&p->inputs, &in->node);
    p->input_len += len;
    if (p->in.fd < 0 || p->close_in)
        finish(p, in, EPIPE);
    else
        write_some(p);
    return true;
}

void process_input_close(struct process *p)
{
    p->close_in = true;
    write_some(p);
}

void process_input_end(struct process *p)
{
    close_in(p);
    fail_all(p, EPIPE);
}
