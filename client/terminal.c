/* See terminal.h. `pending` is what the command has not taken; its first byte stands at `offset`.
 */
#include "client/terminal.h"

#include "client/include/sandbox.h"
#include "common/base/buf.h"
#include "common/base/mem.h"

#include <pthread.h>
#include <stdlib.h>

enum {
    PENDING_BYTES_MAX = 64 << 10, /* then typing waits */
    STEP_BYTES = 16 << 10,        /* in one message */
};

struct sandbox_terminal {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    /* All under lock. */
    struct buf pending;
    uint64_t offset;
    bool placed;       /* offset was said once */
    bool offset_known; /* on this stream */
    size_t sent;       /* of pending, on this stream */
    uint32_t cols, rows;
    bool resized; /* and the stream does not know */
    bool detached;
    bool ended;
    struct rpc *rpc; /* borrowed; NULL between streams */
};

struct sandbox_terminal *sandbox_terminal_new(void)
{
    struct sandbox_terminal *t = xcalloc(1, sizeof(*t));

    pthread_mutex_init(&t->lock, NULL);
    pthread_cond_init(&t->changed, NULL);
    buf_init(&t->pending, PENDING_BYTES_MAX);
    return t;
}

void sandbox_terminal_free(struct sandbox_terminal *t)
{
    if (t == NULL)
        return;
    buf_deinit(&t->pending);
    pthread_cond_destroy(&t->changed);
    pthread_mutex_destroy(&t->lock);
    free(t);
}

/* Under lock. */
static void wake(struct sandbox_terminal *t)
{
    if (t->rpc != NULL)
        rpc_wake(t->rpc);
}

bool sandbox_terminal_type(struct sandbox_terminal *t, const void *data, size_t len)
{
    const uint8_t *at = data;
    bool ended;

    pthread_mutex_lock(&t->lock);
    while (len > 0 && !t->ended && !t->detached) {
        size_t room = buf_room(&t->pending);
        size_t n = len < room ? len : room;

        if (n == 0) {
            pthread_cond_wait(&t->changed, &t->lock);
            continue;
        }
        buf_append(&t->pending, at, n);
        at += n;
        len -= n;
        wake(t);
    }
    ended = t->ended || t->detached;
    pthread_mutex_unlock(&t->lock);
    return !ended;
}

void sandbox_terminal_resize(struct sandbox_terminal *t, uint32_t cols, uint32_t rows)
{
    pthread_mutex_lock(&t->lock);
    t->cols = cols;
    t->rows = rows;
    t->resized = true;
    wake(t);
    pthread_mutex_unlock(&t->lock);
}

void sandbox_terminal_detach(struct sandbox_terminal *t)
{
    pthread_mutex_lock(&t->lock);
    t->detached = true;
    pthread_cond_broadcast(&t->changed);
    wake(t);
    pthread_mutex_unlock(&t->lock);
}

void terminal_use(struct sandbox_terminal *t, struct rpc *rpc)
{
    pthread_mutex_lock(&t->lock);
    t->rpc = rpc;
    t->offset_known = false;
    t->sent = 0;
    if (rpc != NULL && t->detached)
        wake(t);
    pthread_mutex_unlock(&t->lock);
}

/* Under lock. */
static void send_size(struct sandbox_terminal *t)
{
    Sandbox__V1__AttachRequest m = SANDBOX__V1__ATTACH_REQUEST__INIT;
    Sandbox__V1__TerminalSize size = SANDBOX__V1__TERMINAL_SIZE__INIT;

    size.cols = t->cols;
    size.rows = t->rows;
    m.request_case = SANDBOX__V1__ATTACH_REQUEST__REQUEST_RESIZE;
    m.resize = &size;
    if (rpc_send(t->rpc, &m.base))
        t->resized = false;
}

/* Under lock. */
static void send_input(struct sandbox_terminal *t)
{
    size_t left = buf_len(&t->pending) - t->sent;
    Sandbox__V1__AttachRequest m = SANDBOX__V1__ATTACH_REQUEST__INIT;
    Sandbox__V1__AttachInput input;

    sandbox__v1__attach_input__init(&input);
    input.data.data = buf_data(&t->pending) + t->sent;
    input.data.len = left < STEP_BYTES ? left : STEP_BYTES;
    input.position_case = SANDBOX__V1__ATTACH_INPUT__POSITION_OFFSET;
    input.offset = t->offset + t->sent;
    m.request_case = SANDBOX__V1__ATTACH_REQUEST__REQUEST_INPUT;
    m.input = &input;
    if (rpc_send(t->rpc, &m.base))
        t->sent += input.data.len;
}

bool terminal_pump(struct sandbox_terminal *t)
{
    bool detached;

    pthread_mutex_lock(&t->lock);
    detached = t->detached;
    if (!detached && t->rpc != NULL) {
        if (t->resized)
            send_size(t);
        else if (t->offset_known && t->sent < buf_len(&t->pending))
            send_input(t);
    }
    pthread_mutex_unlock(&t->lock);
    return !detached;
}

void terminal_taken(struct sandbox_terminal *t, uint64_t offset)
{
    uint64_t taken;

    pthread_mutex_lock(&t->lock);
    /* What is typed first belongs behind what others typed before. */
    if (!t->placed)
        t->offset = offset;
    t->placed = t->offset_known = true;
    taken = offset > t->offset ? offset - t->offset : 0;
    if (taken > buf_len(&t->pending))
        taken = buf_len(&t->pending); /* somebody else types as well */
    buf_consume(&t->pending, (size_t)taken);
    t->sent -= taken < t->sent ? (size_t)taken : t->sent;
    if (offset > t->offset)
        t->offset = offset;
    pthread_cond_broadcast(&t->changed);
    pthread_mutex_unlock(&t->lock);
}

void terminal_end(struct sandbox_terminal *t)
{
    pthread_mutex_lock(&t->lock);
    t->ended = true;
    pthread_cond_broadcast(&t->changed);
    pthread_mutex_unlock(&t->lock);
}
