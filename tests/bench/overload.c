/*
 * Callers of GetSandbox, each with one call at a time: more of them, when asked, than the server
 * takes on. One thread and one completion queue for all of them, so that few cycles go to
 * measuring. A caller that is refused waits as long as it was told, as gRPC's own retries do, or
 * comes back at once. Prints, for calls that were accepted and for those that were refused: how
 * many, and the median and the 99th percentile of their times in microseconds. Run by bench.py.
 */
#include "common/base/cleanup.h"
#include "common/base/clock.h"
#include "common/base/mem.h"
#include "sandbox/v1/sandbox.pb-c.h"

#include <grpc/byte_buffer.h>
#include <grpc/grpc.h>
#include <grpc/grpc_security.h>
#include <grpc/support/time.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CHANNELS = 4 };

struct times {
    int64_t *ns;
    size_t n, room;
};

struct bench {
    grpc_completion_queue *cq;
    grpc_channel *channels[CHANNELS];
    grpc_byte_buffer *request;
    bool patient;
    int64_t measured_from_ns, until_ns;
    struct times accepted, refused;
    size_t failed; /* in any other way */
};

struct caller {
    grpc_channel *channel; /* borrowed */
    grpc_call *call;       /* NULL: it waits until again_ns */
    int64_t begun_ns, again_ns;
    grpc_metadata_array initial, trailing;
    grpc_byte_buffer *request, *answer;
    grpc_status_code code;
    grpc_slice message;
};

static void call_begin(struct bench *b, struct caller *c)
{
    c->request = grpc_byte_buffer_copy(b->request); /* core takes what is in it */

    grpc_op ops[] = {
        {.op = GRPC_OP_SEND_INITIAL_METADATA},
        {.op = GRPC_OP_SEND_MESSAGE, .data.send_message.send_message = c->request},
        {.op = GRPC_OP_SEND_CLOSE_FROM_CLIENT},
        {.op = GRPC_OP_RECV_INITIAL_METADATA,
         .data.recv_initial_metadata.recv_initial_metadata = &c->initial},
        {.op = GRPC_OP_RECV_MESSAGE, .data.recv_message.recv_message = &c->answer},
        {.op = GRPC_OP_RECV_STATUS_ON_CLIENT,
         .data.recv_status_on_client = {.trailing_metadata = &c->trailing,
                                        .status = &c->code,
                                        .status_details = &c->message}},
    };

    grpc_metadata_array_init(&c->initial);
    grpc_metadata_array_init(&c->trailing);
    c->begun_ns = clock_monotonic_ns();
    c->call = grpc_channel_create_call(
        c->channel, NULL, 0, b->cq,
        grpc_slice_from_static_string("/sandbox.v1.SandboxService/GetSandbox"), NULL,
        gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL);
    if (grpc_call_start_batch(c->call, ops, sizeof(ops) / sizeof(ops[0]), c, NULL) != GRPC_CALL_OK)
        abort();
}

static void note(struct times *t, int64_t ns)
{
    if (t->n == t->room) {
        t->room = t->room == 0 ? 4096 : 2 * t->room;
        t->ns = xrealloc(t->ns, t->room * sizeof(t->ns[0]));
    }
    t->ns[t->n++] = ns;
}

/* What the server told it to wait; 0: nothing. */
static int64_t pushback_ns(const struct caller *c)
{
    for (size_t i = 0; i < c->trailing.count; i++) {
        const grpc_metadata *m = &c->trailing.metadata[i];
        char text[24] = "";
        size_t len = GRPC_SLICE_LENGTH(m->value);

        if (grpc_slice_str_cmp(m->key, "grpc-retry-pushback-ms") != 0 || len >= sizeof(text))
            continue;
        memcpy(text, GRPC_SLICE_START_PTR(m->value), len);
        return strtoll(text, NULL, 10) * NS_PER_MS;
    }
    return 0;
}

static void call_end(struct bench *b, struct caller *c)
{
    int64_t now = clock_monotonic_ns();
    bool counts = c->begun_ns >= b->measured_from_ns && now < b->until_ns;

    c->again_ns = now;
    if (c->code == GRPC_STATUS_UNAVAILABLE && pushback_ns(c) > 0) {
        if (counts)
            note(&b->refused, now - c->begun_ns);
        if (b->patient)
            c->again_ns = now + pushback_ns(c);
    } else if (c->code != GRPC_STATUS_OK) {
        if (b->failed++ == 0)
            fprintf(stderr, "overload: status %d: %.*s\n", (int)c->code,
                    (int)GRPC_SLICE_LENGTH(c->message),
                    (const char *)GRPC_SLICE_START_PTR(c->message));
    } else if (counts) {
        note(&b->accepted, now - c->begun_ns);
    }
    grpc_call_unref(TAKE(c->call));
    grpc_byte_buffer_destroy(TAKE(c->request));
    if (c->answer != NULL)
        grpc_byte_buffer_destroy(TAKE(c->answer));
    grpc_slice_unref(c->message);
    grpc_metadata_array_destroy(&c->initial);
    grpc_metadata_array_destroy(&c->trailing);
}

static gpr_timespec until(int64_t at_ns)
{
    int64_t left = at_ns - clock_monotonic_ns();

    return gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC),
                        gpr_time_from_nanos(left > 0 ? left : 0, GPR_TIMESPAN));
}

/* Begins what is due; returns when the next one is. */
static int64_t begin_due(struct bench *b, struct caller *callers, size_t n)
{
    int64_t now = clock_monotonic_ns(), next = b->until_ns;

    for (size_t i = 0; i < n && now < b->until_ns; i++) {
        struct caller *c = &callers[i];

        if (c->call != NULL)
            continue;
        if (c->again_ns <= now)
            call_begin(b, c);
        else if (c->again_ns < next)
            next = c->again_ns;
    }
    return next;
}

static void run(struct bench *b, struct caller *callers, size_t n)
{
    size_t open = 0;

    do {
        int64_t next = begin_due(b, callers, n);
        grpc_event event = grpc_completion_queue_next(b->cq, until(next), NULL);

        if (event.type == GRPC_OP_COMPLETE)
            call_end(b, event.tag);
        open = 0;
        for (size_t i = 0; i < n; i++)
            open += callers[i].call != NULL;
    } while (clock_monotonic_ns() < b->until_ns || open > 0);
}

static int by_value(const void *x, const void *y)
{
    int64_t a = *(const int64_t *)x, b = *(const int64_t *)y;

    return (a > b) - (a < b);
}

static void print(struct times *t)
{
    if (t->n > 0)
        qsort(t->ns, t->n, sizeof(t->ns[0]), by_value);
    printf("%zu %.1f %.1f ", t->n, t->n == 0 ? 0 : (double)t->ns[t->n / 2] / 1e3,
           t->n == 0 ? 0 : (double)t->ns[t->n - 1 - t->n / 100] / 1e3);
    free(t->ns);
}

static grpc_byte_buffer *pack_request(const char *sandbox_id)
{
    Sandbox__V1__GetSandboxRequest r = SANDBOX__V1__GET_SANDBOX_REQUEST__INIT;

    r.sandbox_id = (char *)sandbox_id;

    grpc_slice slice = grpc_slice_malloc(sandbox__v1__get_sandbox_request__get_packed_size(&r));

    sandbox__v1__get_sandbox_request__pack(&r, GRPC_SLICE_START_PTR(slice));

    grpc_byte_buffer *packed = grpc_raw_byte_buffer_create(&slice, 1);

    grpc_slice_unref(slice);
    return packed;
}

static void open_channels(struct bench *b, const char *address)
{
    grpc_channel_credentials *plain = grpc_insecure_credentials_create();
    grpc_arg own = {.type = GRPC_ARG_INTEGER,
                    .key = (char *)GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL,
                    .value.integer = 1};
    grpc_channel_args args = {.num_args = 1, .args = &own};

    for (size_t i = 0; i < CHANNELS; i++)
        b->channels[i] = grpc_channel_create(address, plain, &args);
    grpc_channel_credentials_release(plain);
}

int main(int argc, char **argv)
{
    if (argc != 6) {
        fprintf(stderr, "usage: overload SANDBOXD SANDBOX_ID CALLERS SECONDS patient|hasty\n");
        return 2;
    }

    size_t n = (size_t)atol(argv[3]);
    AUTO_FREE struct caller *callers = xcalloc(n, sizeof(*callers));
    int64_t now = clock_monotonic_ns();
    struct bench b = {.patient = strcmp(argv[5], "patient") == 0};

    grpc_init();
    b.cq = grpc_completion_queue_create_for_next(NULL);
    b.request = pack_request(argv[2]);
    open_channels(&b, argv[1]);
    for (size_t i = 0; i < n; i++)
        callers[i].channel = b.channels[i % CHANNELS];
    b.measured_from_ns = now + NS_PER_S; /* connected and warm */
    b.until_ns = b.measured_from_ns + atol(argv[4]) * NS_PER_S;
    run(&b, callers, n);
    print(&b.accepted);
    print(&b.refused);
    printf("%zu\n", b.failed);

    for (size_t i = 0; i < CHANNELS; i++)
        grpc_channel_destroy(b.channels[i]);
    grpc_byte_buffer_destroy(b.request);
    grpc_completion_queue_shutdown(b.cq);
    while (grpc_completion_queue_next(b.cq, gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL).type !=
           GRPC_QUEUE_SHUTDOWN)
        ;
    grpc_completion_queue_destroy(b.cq);
    grpc_shutdown();
    return 0;
}
