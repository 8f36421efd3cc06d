/*
 * A follower: a verb whose stdout is handed over as it comes. The loop's thread fills blocks, the
 * caller's thread takes them. When more than the configured amount waits to be taken, the transfer
 * pauses, TCP's window closes, and the follower blocks; taking resumes it.
 */
#include "service/e2b/recorder.h"

#include "common/base/cleanup.h"
#include "common/base/mem.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum {
    BLOCK_MIN = 1024,
    BLOCK_MAX = 64 * 1024,
    LEASE_JITTER_PERCENT = 20, /* so that followers of one start do not all end at once */
};

struct block {
    struct block *next;
    uint8_t *data; /* owned */
    size_t len, size;
};

struct e2b_stream {
    struct request request;
    struct recorder_run run;
    struct e2b_op *op; /* the caller's, until done */
    void (*readable)(struct e2b_op *op);
    struct e2b_output *ret; /* the caller's */
    struct task readable_task, resume_task;

    pthread_mutex_t lock; /* guards what follows */
    struct block *first;
    struct block **end; /* where the next one is linked */
    struct block *last;
    size_t waiting; /* bytes in all blocks */
    uint32_t pid;   /* 0: not known yet */
    bool paused;
    bool told; /* readable_task is on its way */
};

/* --- the loop's side --- */

static void free_block(struct block *b)
{
    free(b->data);
    free(b);
}

static struct block *add_block(struct e2b_stream *s, size_t len)
{
    struct block *b = xcalloc(1, sizeof *b);

    /* A stream that is busy gets whole blocks; one that says a word now and then, small ones. */
    b->size = BLOCK_MIN;
    while (b->size < len && b->size < BLOCK_MAX)
        b->size *= 2;
    if (b->size >= 8 * BLOCK_MIN)
        b->size = BLOCK_MAX;
    b->data = xmalloc(b->size);
    *s->end = b;
    s->end = &b->next;
    s->last = b;
    return b;
}

static void grow_block(struct block *b, size_t len)
{
    while (b->size < BLOCK_MAX && b->size - b->len < len)
        b->size *= 2;
    b->data = xrealloc(b->data, b->size);
}

static void append(struct e2b_stream *s, const uint8_t *data, size_t len)
{
    while (len > 0) {
        struct block *b = s->last;
        size_t n;

        if (b == NULL || b->len == BLOCK_MAX)
            b = add_block(s, len);
        else if (b->size - b->len < len)
            grow_block(b, len);
        n = b->size - b->len < len ? b->size - b->len : len;
        memcpy(b->data + b->len, data, n);
        b->len += n;
        s->waiting += n;
        atomic_fetch_add(&s->request.e2b->queued, n);
        data += n;
        len -= n;
    }
}

bool e2b_queue_is_full(const struct e2b *e)
{
    return e->config.queue_bytes > 0 && atomic_load(&e->queued) >= e->config.queue_bytes;
}

static bool has_room(struct recorder_run *run)
{
    struct e2b_stream *s = container_of(run, struct e2b_stream, run);
    bool room;

    pthread_mutex_lock(&s->lock);
    /* A stream of which nothing waits always gets on, or a full queue would never empty. */
    room = s->waiting == 0 || (s->waiting < s->request.e2b->config.stream_buffer_bytes &&
                               !e2b_queue_is_full(s->request.e2b));
    s->paused = !room;
    pthread_mutex_unlock(&s->lock);
    return room;
}

static void on_stdout(struct recorder_run *run, const uint8_t *data, size_t len)
{
    struct e2b_stream *s = container_of(run, struct e2b_stream, run);
    bool tell;

    run->committed = true;
    run->start.exchange.safe = false;
    pthread_mutex_lock(&s->lock);
    append(s, data, len);
    s->pid = run->start.process.pid;
    tell = !s->told;
    s->told = true;
    pthread_mutex_unlock(&s->lock);
    if (tell)
        executor_post(s->op->executor, &s->readable_task);
}

static void run_resume(struct task *task)
{
    struct e2b_stream *s = container_of(task, struct e2b_stream, resume_task);

    if (!s->request.over)
        start_resume(&s->run.start);
    request_unref(&s->request);
}

static void done(struct recorder_run *run, const struct verdict *v)
{
    struct e2b_stream *s = container_of(run, struct e2b_stream, run);

    if (v->st.code == CODE_OK && s->request.op != NULL)
        recorder_output(run, s->ret);
    request_finish(&s->request, &v->st);
}

static void start_stream(struct request *r)
{
    struct e2b_stream *s = container_of(r, struct e2b_stream, request);

    if (!s->run.with_stdin)
        s->run.lease_ms =
            retry_jitter(r->e2b->config.lease_ms, LEASE_JITTER_PERCENT, loop_random(r->loop));
    recorder_begin(&s->run);
}

static bool aborted(struct request *r, const struct status *st)
{
    return recorder_abort(&container_of(r, struct e2b_stream, request)->run, st);
}

static void destroy(struct request *r)
{
    struct e2b_stream *s = container_of(r, struct e2b_stream, request);

    while (s->first != NULL) {
        struct block *b = s->first;

        s->first = b->next;
        atomic_fetch_sub(&r->e2b->queued, b->len);
        free_block(b);
    }
    recorder_deinit(&s->run);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

/* --- the caller's side --- */

static void run_readable(struct task *task)
{
    struct e2b_stream *s = container_of(task, struct e2b_stream, readable_task);

    pthread_mutex_lock(&s->lock);
    s->told = false;
    pthread_mutex_unlock(&s->lock);
    s->readable(s->op);
}

static struct e2b_stream *stream_new(const char *sandbox_id, const char *const *args,
                                     const uint8_t *spec, size_t spec_len, struct e2b_op *op,
                                     void (*readable)(struct e2b_op *op), struct e2b_output *ret)
{
    struct e2b_stream *s = xcalloc(1, sizeof *s);

    recorder_init(&s->run, &s->request, sandbox_id, args, spec, spec_len);
    s->run.has_room = has_room;
    s->run.on_stdout = on_stdout;
    s->run.done = done;
    s->op = op;
    s->readable = readable;
    s->readable_task.run = run_readable;
    s->resume_task.run = run_resume;
    s->ret = ret;
    *ret = (struct e2b_output){0};
    s->end = &s->first;
    pthread_mutex_init(&s->lock, NULL);
    s->request.start = start_stream;
    s->request.aborted = aborted;
    s->request.destroy = destroy;
    return s;
}

static struct e2b_stream *submit(struct e2b_stream *s, struct e2b *e, const char *sandbox_id)
{
    request_prepare(&s->request, e, s->op, sandbox_id);
    request_ref(&s->request); /* the caller's, for e2b_stream_free() */
    request_post(&s->request);
    return s;
}

struct e2b_stream *e2b_stream_start(struct e2b *e, struct e2b_op *op, const char *sandbox_id,
                                    const char *const *args, const uint8_t *spec, size_t spec_len,
                                    void (*readable)(struct e2b_op *op), struct e2b_output *ret)
{
    struct e2b_stream *s = stream_new(sandbox_id, args, spec, spec_len, op, readable, ret);

    s->run.idempotent = true;
    return submit(s, e, sandbox_id);
}

struct e2b_stream *e2b_talk_start(struct e2b *e, struct e2b_op *op, const char *sandbox_id,
                                  const char *const *args, void (*readable)(struct e2b_op *op),
                                  struct e2b_output *ret)
{
    struct e2b_stream *s = stream_new(sandbox_id, args, NULL, 0, op, readable, ret);

    s->run.with_stdin = true;
    return submit(s, e, sandbox_id);
}

uint32_t e2b_stream_pid(struct e2b_stream *s)
{
    uint32_t pid;

    pthread_mutex_lock(&s->lock);
    pid = s->pid;
    pthread_mutex_unlock(&s->lock);
    return pid;
}

static struct block *pop(struct e2b_stream *s)
{
    struct block *b = s->first;

    if (b == NULL)
        return NULL;
    s->first = b->next;
    if (s->first == NULL) {
        s->end = &s->first;
        s->last = NULL;
    }
    s->waiting -= b->len;
    atomic_fetch_sub(&s->request.e2b->queued, b->len);
    return b;
}

bool e2b_stream_take(struct e2b_stream *s, size_t headroom, uint8_t **ret_base, size_t *ret_len)
{
    bool resume;
    struct block *b;

    pthread_mutex_lock(&s->lock);
    b = pop(s);
    resume = s->paused && s->waiting <= s->request.e2b->config.stream_buffer_bytes / 2;
    if (resume)
        s->paused = false;
    pthread_mutex_unlock(&s->lock);
    if (resume) {
        request_ref(&s->request);
        loop_post(s->request.loop, &s->resume_task);
    }
    if (b == NULL)
        return false;
    *ret_len = b->len;
    if (headroom == 0) {
        *ret_base = TAKE(b->data);
    } else {
        *ret_base = xmalloc(headroom + b->len);
        memcpy(*ret_base + headroom, b->data, b->len);
    }
    free_block(b);
    return true;
}

void e2b_stream_free(struct e2b_stream *s)
{
    if (s != NULL)
        request_unref(&s->request);
}
