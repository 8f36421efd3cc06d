/*
 * sandbox_forward(): one TCP connection to a port of a sandbox. The caller's thread drives the call
 * and writes to the socket; another one reads the socket, into a buffer that is bounded. So whoever
 * is slow slows the other side down. Until it is said to be connected nothing is sent, and so long
 * another address may be tried; from then on the connection lives and dies with its stream.
 */
#include "client/client.h"

#include "client/error.h"
#include "common/base/buf.h"
#include "common/base/clock.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    PENDING_BYTES_MAX = 256 << 10, /* then the socket is not read */
    STEP_BYTES = 64 << 10,         /* read, or sent, at once */
};

struct tunnel {
    struct sandbox_client *client; /* borrowed */
    struct rpc *rpc;               /* borrowed */
    int fd;                        /* borrowed */
    bool started;                  /* it is connected */
    bool deaf;                     /* the socket's other end takes nothing any more */
    bool closed;                   /* our way was ended */

    pthread_mutex_t lock;
    pthread_cond_t changed;
    /* All under lock. */
    struct buf pending;
    bool eof;  /* behind pending */
    bool over; /* nobody wants what the socket says */
};

/* --- the thread that reads --- */

/* Waits for room. False: it is over. */
static bool wait_for_room(struct tunnel *t)
{
    bool over;

    pthread_mutex_lock(&t->lock);
    while (!t->over && buf_room(&t->pending) < STEP_BYTES)
        pthread_cond_wait(&t->changed, &t->lock);
    over = t->over;
    pthread_mutex_unlock(&t->lock);
    return !over;
}

static void *read_main(void *arg)
{
    struct tunnel *t = arg;
    uint8_t data[STEP_BYTES];
    ssize_t n = 1;

    while (n > 0 && wait_for_room(t)) {
        do
            n = read(t->fd, data, sizeof(data));
        while (n < 0 && errno == EINTR);
        pthread_mutex_lock(&t->lock);
        if (n > 0)
            buf_append(&t->pending, data, (size_t)n);
        else
            t->eof = true;
        if (!t->over)
            rpc_wake(t->rpc);
        pthread_mutex_unlock(&t->lock);
    }
    return NULL;
}

/* --- the caller's --- */

/* Sends the next thing there is to send, if the one before is out. */
static void pump(struct tunnel *t)
{
    Sandbox__V1__ForwardPortRequest m = SANDBOX__V1__FORWARD_PORT_REQUEST__INIT;

    pthread_mutex_lock(&t->lock);
    m.message_case = SANDBOX__V1__FORWARD_PORT_REQUEST__MESSAGE_DATA;
    m.data.data = buf_data(&t->pending);
    m.data.len = buf_len(&t->pending) < STEP_BYTES ? buf_len(&t->pending) : STEP_BYTES;
    if (m.data.len > 0 && rpc_send(t->rpc, &m.base)) {
        buf_consume(&t->pending, m.data.len);
        pthread_cond_signal(&t->changed);
    } else if (m.data.len == 0 && t->eof && !t->closed) {
        t->closed = rpc_close(t->rpc);
    }
    pthread_mutex_unlock(&t->lock);
}

static void write_data(struct tunnel *t, const ProtobufCBinaryData *data)
{
    size_t at = 0;

    while (at < data->len && !t->deaf) {
        ssize_t n = send(t->fd, data->data + at, data->len - at, MSG_NOSIGNAL);

        if (n >= 0)
            at += (size_t)n;
        else if (errno != EINTR)
            t->deaf = true;
    }
}

static void take(struct tunnel *t, const Sandbox__V1__ForwardPortResponse *m)
{
    switch (m->message_case) {
    case SANDBOX__V1__FORWARD_PORT_RESPONSE__MESSAGE_STARTED:
        t->started = true;
        break;
    case SANDBOX__V1__FORWARD_PORT_RESPONSE__MESSAGE_DATA:
        write_data(t, &m->data);
        break;
    case SANDBOX__V1__FORWARD_PORT_RESPONSE__MESSAGE_ENDED:
        shutdown(t->fd, SHUT_WR);
        break;
    default: /* a sign of life */
        break;
    }
}

static bool start_reading(struct tunnel *t, pthread_t *ret, struct sandbox_error *why)
{
    int error = pthread_create(ret, NULL, read_main, t);

    return error == 0 || error_local(why, SANDBOX_RESOURCE_EXHAUSTED, "", "no thread to be had");
}

static void stop_reading(struct tunnel *t, pthread_t thread)
{
    pthread_mutex_lock(&t->lock);
    t->over = true;
    pthread_cond_signal(&t->changed);
    pthread_mutex_unlock(&t->lock);
    shutdown(t->fd, SHUT_RD);
    pthread_join(thread, NULL);
}

/* Reads the stream to its end. */
static void carry(struct tunnel *t, struct sandbox_error *why)
{
    int64_t silence_ns = t->client->heartbeat_interval_ms * 5 / 2 * NS_PER_MS;
    int64_t until_ns = clock_monotonic_ns() + silence_ns;
    ProtobufCMessage *m = NULL;
    pthread_t reader;
    bool reading = false;

    for (;;) {
        enum rpc_event event =
            rpc_next(t->rpc, &sandbox__v1__forward_port_response__descriptor, until_ns, &m);

        if (event == RPC_MESSAGE) {
            take(t, (Sandbox__V1__ForwardPortResponse *)m);
            sandbox_free(m);
            until_ns = clock_monotonic_ns() + silence_ns;
        } else if (event == RPC_TIMEOUT) {
            error_local(why, SANDBOX_UNAVAILABLE, "SILENT", "the stream was silent for %lld ms",
                        (long long)(silence_ns / NS_PER_MS));
            break;
        } else if (event == RPC_END) {
            *why = *rpc_error(t->rpc);
            break;
        }
        if (t->started && !reading && !(reading = start_reading(t, &reader, why)))
            break;
        if (t->deaf) {
            *why = (struct sandbox_error){.code = SANDBOX_OK}; /* nobody is left to be told */
            break;
        }
        if (t->started)
            pump(t);
    }
    if (reading)
        stop_reading(t, reader);
}

/* At one address. False: why says how it failed. */
static bool attempt(struct tunnel *t, unsigned address, const ProtobufCMessage *request,
                    struct sandbox_error *err)
{
    struct client_call call = {0};
    struct sandbox_error why = {.code = SANDBOX_OK};

    if (!client_call_start(t->client, &call, address, "sandbox.v1.SandboxService", "ForwardPort",
                           RPC_MANY, request, INT64_MAX, err))
        return false;
    t->rpc = call.rpc;
    carry(t, &why);
    client_call_end(t->client, &call, why.code != SANDBOX_OK ? &why : NULL);
    if (why.code == SANDBOX_OK)
        return true;
    client_error(t->client, address, &why, err);
    return false;
}

bool sandbox_forward(struct sandbox_client *client, const Sandbox__V1__ForwardStart *start, int fd,
                     struct sandbox_error *err)
{
    Sandbox__V1__ForwardPortRequest request = SANDBOX__V1__FORWARD_PORT_REQUEST__INIT;
    struct sandbox_error scratch;
    struct tunnel t = {
        .client = client,
        .fd = fd,
        .lock = PTHREAD_MUTEX_INITIALIZER,
        .changed = PTHREAD_COND_INITIALIZER,
        .pending = BUF_INIT(PENDING_BYTES_MAX),
    };
    unsigned first = atomic_load(&client->preferred), n = client->policy.n_addresses;
    bool ok = false;

    if (err == NULL)
        err = &scratch;
    request.message_case = SANDBOX__V1__FORWARD_PORT_REQUEST__MESSAGE_START;
    request.start = (Sandbox__V1__ForwardStart *)start;
    for (unsigned i = 0; i < n && !ok; i++) {
        ok = attempt(&t, (first + i) % n, &request.base, err);
        if (!ok && (t.started || !error_is_passing(err)))
            break;
    }
    buf_deinit(&t.pending);
    if (ok)
        *err = (struct sandbox_error){.code = SANDBOX_OK};
    return ok;
}
