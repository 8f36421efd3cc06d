/*
 * A stream out of the archive: a job reads and waits when enough is there to be taken, the caller's
 * thread takes. Each holds a reference.
 */
#include "service/archive/private.h"

#include "common/base/cleanup.h"
#include "common/base/list.h"
#include "common/base/mem.h"
#include "sandbox/v1/errors.pb-c.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WAITING_MAX = 128 * 1024 };

struct block {
    struct block *next;
    size_t len;
    uint8_t data[];
};

struct archive_stream {
    struct archive *archive;
    struct e2b_op *op; /* the caller's, until done */
    void (*readable)(struct e2b_op *op);
    struct e2b_output *ret; /* the caller's, until done */
    struct target target;
    char command_id[RECORD_ID_MAX + 1];
    struct archive_view view;
    uint8_t *cursor; /* owned */
    struct read_sink sink;
    struct e2b_output output;
    struct status st;
    struct task readable_task, done_task;
    atomic_int refs;

    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t taken;
    struct block *first, **end;
    size_t waiting; /* bytes */
    bool told;      /* readable_task is on its way */
    bool cancelled;
};

static void stream_unref(struct archive_stream *s)
{
    if (atomic_fetch_sub(&s->refs, 1) != 1)
        return;
    while (s->first != NULL) {
        struct block *b = s->first;

        s->first = b->next;
        free(b);
    }
    pthread_cond_destroy(&s->taken);
    pthread_mutex_destroy(&s->lock);
    target_deinit(&s->target);
    free(s->cursor);
    free(s);
}

/* --- the job's side --- */

static bool sink_write(struct read_sink *sink, const uint8_t *data, size_t len)
{
    struct archive_stream *s = container_of(sink, struct archive_stream, sink);
    struct block *b = xmalloc(sizeof(*b) + len);
    bool tell, wanted;

    b->next = NULL;
    b->len = len;
    memcpy(b->data, data, len);
    pthread_mutex_lock(&s->lock);
    *s->end = b;
    s->end = &b->next;
    s->waiting += len;
    tell = !s->told;
    s->told = true;
    if (tell)
        executor_post(s->op->executor, &s->readable_task);
    while (s->waiting > WAITING_MAX && !s->cancelled)
        pthread_cond_wait(&s->taken, &s->lock);
    wanted = !s->cancelled;
    pthread_mutex_unlock(&s->lock);
    return wanted;
}

static void run_job(void *arg)
{
    struct archive_stream *s = arg;
    const struct archived_place p = target_place(&s->target, s->archive);
    bool ok;

    if (s->command_id[0] == '\0')
        ok = read_all(&p, &s->view, &s->sink, &s->st);
    else
        ok = read_command(&p, s->command_id, &s->view, &s->sink, &s->output, &s->st);
    if (ok)
        s->st = STATUS_INIT;
    archive_figures_read(s->archive->figures, &s->st);
    executor_post(s->op->executor, &s->done_task);
}

/* --- the caller's side --- */

static void run_readable(struct task *task)
{
    struct archive_stream *s = container_of(task, struct archive_stream, readable_task);

    pthread_mutex_lock(&s->lock);
    s->told = false;
    pthread_mutex_unlock(&s->lock);
    s->readable(s->op);
}

/* After all that run_readable() had to tell: tasks run in order. */
static void run_done(struct task *task)
{
    struct archive_stream *s = container_of(task, struct archive_stream, done_task);
    struct e2b_op *op = s->op;

    *s->ret = s->output;
    op->st = s->st;
    stream_unref(s);
    op->done(op);
}

struct archive_stream *archive_stream_start(struct archive *a, struct e2b_op *op,
                                            const char *sandbox_id, const char *command_id,
                                            const struct archive_view *view,
                                            void (*readable)(struct e2b_op *op),
                                            struct e2b_output *ret)
{
    struct archive_stream *s = xcalloc(1, sizeof(*s));

    s->archive = a;
    s->op = op;
    op->request = NULL; /* there is nothing that e2b_cancel() could do */
    s->readable = readable;
    s->ret = ret;
    snprintf(s->command_id, sizeof(s->command_id), "%s", command_id);
    s->view = *view;
    s->view.cursor = s->cursor = xmemdup(view->cursor, view->cursor_len);
    s->sink.write = sink_write;
    s->readable_task.run = run_readable;
    s->done_task.run = run_done;
    atomic_init(&s->refs, 2);
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->taken, NULL);
    s->end = &s->first;
    if (!target_init(&s->target, op->caller, sandbox_id, &s->st) ||
        (!jobs_start(&a->reads, run_job, s) && !archive_is_busy(&s->st))) {
        executor_post(op->executor, &s->done_task);
    }
    return s;
}

bool archive_stream_take(struct archive_stream *s, size_t headroom, uint8_t **ret_base,
                         size_t *ret_len)
{
    struct block *b;

    pthread_mutex_lock(&s->lock);
    b = s->first;
    if (b != NULL) {
        s->first = b->next;
        if (s->first == NULL)
            s->end = &s->first;
        s->waiting -= b->len;
        pthread_cond_signal(&s->taken);
    }
    pthread_mutex_unlock(&s->lock);
    if (b == NULL)
        return false;
    *ret_len = b->len;
    *ret_base = xmalloc(headroom + b->len);
    memcpy(*ret_base + headroom, b->data, b->len);
    free(b);
    return true;
}

void archive_stream_cancel(struct archive_stream *s)
{
    pthread_mutex_lock(&s->lock);
    s->cancelled = true;
    pthread_cond_signal(&s->taken);
    pthread_mutex_unlock(&s->lock);
}

void archive_stream_free(struct archive_stream *s)
{
    if (s != NULL)
        stream_unref(s);
}
