/*
 * A command's input: what verbs brought, in their order, written as the command takes it. An input
 * that says where it belongs is written once, however often it is brought: what was taken of it is
 * skipped.
 */
#pragma once

#include "common/base/buf.h"
#include "common/base/list.h"

#include <stdbool.h>
#include <stdint.h>

enum { INPUT_PATIENCE_MS = 5000, INPUTS_MAX = 64 };

/* One input; embedded in whoever brought it. */
struct input {
    struct list link;
    struct buf data;
    bool eof;
    bool positioned; /* it belongs at offset */
    uint64_t offset;
    void (*done)(struct input *self, int exit_code); /* enum recorder_exit */
};

struct input_queue {
    int fd;        /* owned; -1: closed, or never there */
    bool terminal; /* the end of input is typed */
    bool eof;      /* it was closed on purpose */
    struct list waiting;
    uint64_t offset;     /* bytes that the command has taken */
    int64_t deadline_ns; /* of the first in line; monotonic */
};

void input_queue_init(struct input_queue *q, int fd, bool terminal);
/* Ends all of them with exit_code, and the stdin. */
void input_queue_close(struct input_queue *q, int exit_code);

/*
 * What is to be said of an input when it cannot be written any more because of exit_code: that, or
 * RECORDER_OK when all of it was taken before. taken: the bytes that the command took.
 */
int input_verdict(const struct input *in, uint64_t taken, int exit_code);

/* The input is not the queue's before, and not any more when done was called. */
void input_queue_add(struct input_queue *q, struct input *in);
void input_queue_remove(struct input *in);

/* Writes what can be written. Call when fd is writable, and at the deadline. */
void input_queue_step(struct input_queue *q);

static inline bool input_queue_is_idle(const struct input_queue *q)
{
    return list_is_empty(&q->waiting);
}
