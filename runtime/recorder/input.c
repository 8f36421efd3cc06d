/* See input.h. Runs in the writer's loop; never blocks. */
#include "runtime/recorder/input.h"

#include "common/base/clock.h"
#include "common/journal/verbs.h"
#include "runtime/recorder/terminal.h"

#include <errno.h>
#include <unistd.h>

void input_queue_init(struct input_queue *q, int fd, bool terminal)
{
    *q = (struct input_queue){.fd = fd, .terminal = terminal};
    list_init(&q->waiting);
}

static struct input *first(struct input_queue *q)
{
    return container_of(q->waiting.next, struct input, link);
}

static void start_patience(struct input_queue *q)
{
    q->deadline_ns = clock_monotonic_ns() + INPUT_PATIENCE_MS * NS_PER_MS;
}

static void finish(struct input_queue *q, struct input *in, int exit_code)
{
    list_unlink(&in->link);
    start_patience(q);
    in->done(in, exit_code);
}

int input_verdict(const struct input *in, uint64_t taken, int exit_code)
{
    bool before = in->positioned && in->offset <= taken && buf_len(&in->data) <= taken - in->offset;

    return before ? RECORDER_OK : exit_code;
}

void input_queue_close(struct input_queue *q, int exit_code)
{
    if (q->fd >= 0)
        close(q->fd);
    q->fd = -1;
    while (!input_queue_is_idle(q))
        finish(q, first(q), input_verdict(first(q), q->offset, exit_code));
}

void input_queue_add(struct input_queue *q, struct input *in)
{
    if (q->fd < 0) {
        in->done(in, input_verdict(in, q->offset, RECORDER_STDIN_CLOSED));
        return;
    }
    if (q->terminal && in->eof) {
        buf_append_byte(&in->data, (uint8_t)terminal_eof(q->fd));
        in->eof = false;
    }
    if (input_queue_is_idle(q))
        start_patience(q);
    list_append(&q->waiting, &in->link);
    input_queue_step(q);
}

void input_queue_remove(struct input *in)
{
    list_unlink(&in->link);
}

/* Skips what was taken of it. False: something is missing before it. */
static bool place(const struct input_queue *q, struct input *in)
{
    uint64_t taken = q->offset - in->offset;

    if (!in->positioned)
        return true;
    if (in->offset > q->offset)
        return false;
    buf_consume(&in->data, taken < buf_len(&in->data) ? (size_t)taken : buf_len(&in->data));
    in->positioned = false;
    return true;
}

/* False when the command takes no more for now. */
static bool write_first(struct input_queue *q, struct input *in)
{
    while (buf_len(&in->data) > 0) {
        ssize_t n = write(q->fd, buf_data(&in->data), buf_len(&in->data));

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return false;
        if (n < 0) {
            input_queue_close(q, RECORDER_STDIN_CLOSED);
            return false;
        }
        buf_consume(&in->data, (size_t)n);
        q->offset += (uint64_t)n;
        start_patience(q);
    }
    return true;
}

void input_queue_step(struct input_queue *q)
{
    while (q->fd >= 0 && !input_queue_is_idle(q)) {
        struct input *in = first(q);
        bool eof = in->eof;

        if (!place(q, in)) {
            finish(q, in, RECORDER_INPUT_GAP);
            continue;
        }
        if (!write_first(q, in)) {
            if (q->fd >= 0 && clock_monotonic_ns() >= q->deadline_ns)
                finish(q, in, RECORDER_STDIN_FULL);
            else
                return;
            continue;
        }
        finish(q, in, RECORDER_OK);
        q->eof |= eof;
        if (eof)
            input_queue_close(q, RECORDER_STDIN_CLOSED);
    }
}
