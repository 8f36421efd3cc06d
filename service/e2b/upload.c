/*
 * e2b_upload: a body whose bytes come from the caller as they come, on their way to envd. The
 * caller's thread queues blocks, the loop's thread hands them to curl; when there are none curl
 * pauses until more come. When the queue is as long as a stream's buffer may be, the caller is to
 * wait, and hears when half of it is gone.
 */
#include "service/e2b/upload.h"

#include "common/base/cleanup.h"
#include "common/base/clock.h"
#include "common/base/mem.h"
#include "service/e2b/url.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum {
    BUFFER_MIN = 256 * 1024, /* two of curl's buffers */
    SILENCE_MS = 75000,      /* bytes wait, and nobody takes them */
};

struct block {
    struct block *next;
    size_t len, at;
    uint8_t data[];
};

struct e2b_upload {
    struct request request;
    struct exchange exchange;
    struct e2b_op *op; /* the caller's, until done */
    void (*writable)(struct e2b_op *op);
    const struct upload_kind *kind; /* borrowed */
    char *sandbox_id, *path;        /* owned */
    struct task writable_task, feed_task;
    struct loop_timer watchdog;
    int64_t taken_ns; /* when bytes were last taken, or there were none */

    pthread_mutex_t lock; /* guards what follows */
    struct block *first, **end;
    size_t waiting; /* bytes in all blocks */
    bool full;      /* the caller waits for writable */
    bool ended;
    bool fed;  /* feed_task is on its way */
    bool told; /* writable_task is */
};

static size_t room_of(const struct e2b_upload *u)
{
    size_t n = u->request.e2b->config.stream_buffer_bytes;

    return n > BUFFER_MIN ? n : BUFFER_MIN;
}

/* --- the loop's side --- */

/* Under the lock. */
static size_t take(struct e2b_upload *u, uint8_t *to, size_t room)
{
    size_t done = 0;

    while (u->first != NULL && done < room) {
        struct block *b = u->first;
        size_t n = b->len - b->at < room - done ? b->len - b->at : room - done;

        memcpy(to + done, b->data + b->at, n);
        b->at += n;
        done += n;
        if (b->at < b->len)
            break;
        u->first = b->next;
        if (u->first == NULL)
            u->end = &u->first;
        free(b);
    }
    u->waiting -= done;
    return done;
}

static ssize_t on_need(struct transfer *t, uint8_t *to, size_t room)
{
    struct e2b_upload *u = container_of(t, struct e2b_upload, exchange.transfer);
    bool tell, ended, drained;
    size_t n;

    pthread_mutex_lock(&u->lock);
    n = take(u, to, room);
    ended = u->ended;
    drained = u->full && u->waiting <= room_of(u) / 2;
    tell = drained && !u->told;
    if (drained)
        u->full = false;
    u->told = u->told || tell;
    pthread_mutex_unlock(&u->lock);
    u->taken_ns = clock_monotonic_ns();
    if (tell)
        executor_post(u->op->executor, &u->writable_task);
    if (n == 0)
        return ended ? TRANSFER_END : TRANSFER_NOT_YET;
    /* From here on a second attempt would lack what the first one took. */
    u->exchange.retry.attempts = RETRY_ATTEMPTS;
    return (ssize_t)n;
}

static void run_feed(struct task *task)
{
    struct e2b_upload *u = container_of(task, struct e2b_upload, feed_task);

    pthread_mutex_lock(&u->lock);
    u->fed = false;
    pthread_mutex_unlock(&u->lock);
    if (!u->request.over) {
        if (u->exchange.transfer.starving)
            u->taken_ns = clock_monotonic_ns(); /* the silence was the caller's */
        transfer_feed(&u->exchange.transfer);
    }
    request_unref(&u->request);
}

static void run_watchdog(struct loop_timer *timer)
{
    struct e2b_upload *u = container_of(timer, struct e2b_upload, watchdog);
    struct transfer *t = &u->exchange.transfer;
    int64_t now = clock_monotonic_ns();

    if (t->starving || !t->running || u->kind->is_patient)
        u->taken_ns = now;
    if (u->taken_ns + SILENCE_MS * NS_PER_MS > now)
        loop_timer_start(u->request.loop, timer, u->taken_ns + SILENCE_MS * NS_PER_MS);
    else
        transfer_give_up(t, CURLE_OPERATION_TIMEDOUT);
}

static void stop(struct e2b_upload *u)
{
    loop_timer_stop(u->request.loop, &u->watchdog);
}

static void done(struct exchange *x)
{
    struct e2b_upload *u = container_of(x, struct e2b_upload, exchange);

    stop(u);
    request_finish(&u->request, &x->verdict.st);
}

static bool aborted(struct request *r, const struct status *st)
{
    stop(container_of(r, struct e2b_upload, request));
    return false;
}

static void start(struct request *r)
{
    struct e2b_upload *u = container_of(r, struct e2b_upload, request);

    u->exchange = (struct exchange){
        .request = r,
        .method = "POST",
        .path = xstrdup(u->path),
        .sandbox_id = xstrdup(u->sandbox_id),
        .source = u->kind->source,
        .content_type = u->kind->content_type,
        .bulk = true,
        .on_need = on_need,
        .prepare = u->kind->prepare,
        .judge = u->kind->judge,
        .done = done,
    };
    u->taken_ns = clock_monotonic_ns();
    u->watchdog = (struct loop_timer){.run = run_watchdog};
    loop_timer_start(r->loop, &u->watchdog, u->taken_ns + SILENCE_MS * NS_PER_MS);
    exchange_start(&u->exchange);
}

static void destroy(struct request *r)
{
    struct e2b_upload *u = container_of(r, struct e2b_upload, request);

    exchange_deinit(&u->exchange);
    while (u->first != NULL) {
        struct block *b = u->first;

        u->first = b->next;
        free(b);
    }
    pthread_mutex_destroy(&u->lock);
    free(u->sandbox_id);
    free(u->path);
    free(u);
}

/* --- the caller's side --- */

static void run_writable(struct task *task)
{
    struct e2b_upload *u = container_of(task, struct e2b_upload, writable_task);

    pthread_mutex_lock(&u->lock);
    u->told = false;
    pthread_mutex_unlock(&u->lock);
    u->writable(u->op);
}

struct e2b_upload *upload_start(struct e2b *e, struct e2b_op *op, const char *sandbox_id,
                                const struct upload_kind *kind, const char *path,
                                void (*writable)(struct e2b_op *op))
{
    struct e2b_upload *u = xcalloc(1, sizeof *u);

    u->op = op;
    u->writable = writable;
    u->sandbox_id = xstrdup(sandbox_id);
    u->kind = kind;
    u->path = xstrdup(path);
    u->writable_task.run = run_writable;
    u->feed_task.run = run_feed;
    u->end = &u->first;
    pthread_mutex_init(&u->lock, NULL);
    u->request.start = start;
    u->request.aborted = aborted;
    u->request.destroy = destroy;
    request_prepare(&u->request, e, op, sandbox_id);
    request_ref(&u->request); /* the caller's, for e2b_upload_free() */
    request_post(&u->request);
    return u;
}

struct e2b_upload *e2b_upload_start(struct e2b *e, struct e2b_op *op, const char *sandbox_id,
                                    const char *user, const char *path,
                                    void (*writable)(struct e2b_op *op))
{
    static const struct upload_kind file = {
        .source = SOURCE_FILES,
        .content_type = "application/octet-stream",
    };
    AUTO_FREE char *of = url_escape(path);
    AUTO_FREE char *as = url_escape(user);
    AUTO_FREE char *url =
        xasprintf("/files?path=%s%s%s", of, as[0] != '\0' ? "&username=" : "", as);

    return upload_start(e, op, sandbox_id, &file, url, writable);
}

/* Under the lock; afterwards, when it says so, feed(). */
static bool must_feed(struct e2b_upload *u)
{
    bool must = !u->fed;

    u->fed = true;
    return must;
}

static void feed(struct e2b_upload *u)
{
    request_ref(&u->request);
    loop_post(u->request.loop, &u->feed_task);
}

void e2b_upload_write(struct e2b_upload *u, const uint8_t *data, size_t len)
{
    struct block *b;
    bool must;

    if (len == 0)
        return;
    b = xmalloc(sizeof *b + len);
    *b = (struct block){.len = len};
    memcpy(b->data, data, len);
    pthread_mutex_lock(&u->lock);
    *u->end = b;
    u->end = &b->next;
    u->waiting += len;
    must = must_feed(u);
    pthread_mutex_unlock(&u->lock);
    if (must)
        feed(u);
}

bool e2b_upload_is_full(struct e2b_upload *u)
{
    bool full;

    pthread_mutex_lock(&u->lock);
    full = u->waiting >= room_of(u);
    u->full = full;
    pthread_mutex_unlock(&u->lock);
    return full;
}

void e2b_upload_end(struct e2b_upload *u)
{
    bool must;

    pthread_mutex_lock(&u->lock);
    u->ended = true;
    must = must_feed(u);
    pthread_mutex_unlock(&u->lock);
    if (must)
        feed(u);
}

void e2b_upload_free(struct e2b_upload *u)
{
    if (u != NULL)
        request_unref(&u->request);
}
