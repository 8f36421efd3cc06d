/*
 * See process.h: a process on an exchange. What is particular: no overall timeout, but a watchdog,
 * because envd says something every half a minute; and whoever loses interest has to kill the
 * process, because envd does not end it when the connection goes.
 */
#include "service/e2b/process.h"

#include "common/base/base64.h"
#include "common/base/cleanup.h"
#include "common/base/clock.h"
#include "common/base/mem.h"
#include "envd/process/process.pb-c.h"

#include <stdlib.h>
#include <string.h>

enum {
    KEEPALIVE_S = 30, /* asked of envd */
    SILENCE_S = 75,   /* two of them were missed */
    KILL_TIMEOUT_MS = 10000,
};

/* --- killing --- */

struct kill {
    struct request request;
    struct exchange exchange;
    struct transfer_piece piece;
    uint8_t body[32];
    char sandbox_id[];
};

static void destroy_kill(struct request *r)
{
    struct kill *k = container_of(r, struct kill, request);

    exchange_deinit(&k->exchange);
    free(k);
}

static void done_kill(struct exchange *x)
{
    request_finish(x->request, &x->verdict.st);
}

static void prepare_kill(struct exchange *x)
{
    transfer_header(&x->transfer, "Connect-Protocol-Version: 1");
}

static void start_kill(struct request *r)
{
    struct kill *k = container_of(r, struct kill, request);

    k->exchange = (struct exchange){
        .request = r,
        .method = "POST",
        .path = xstrdup("/process.Process/SendSignal"),
        .sandbox_id = xstrdup(k->sandbox_id),
        .source = SOURCE_START,
        .pieces = &k->piece,
        .n_pieces = 1,
        .content_type = "application/proto",
        .timeout_ms = KILL_TIMEOUT_MS,
        .safe = true,
        .prepare = prepare_kill,
        .done = done_kill,
    };
    exchange_start(&k->exchange);
}

void process_kill(const struct request *like, const char *sandbox_id, uint32_t pid)
{
    size_t id_size = strlen(sandbox_id) + 1;
    struct kill *k = xcalloc(1, sizeof *k + id_size);
    Process__ProcessSelector who = PROCESS__PROCESS_SELECTOR__INIT;
    Process__SendSignalRequest m = PROCESS__SEND_SIGNAL_REQUEST__INIT;

    who.selector_case = PROCESS__PROCESS_SELECTOR__SELECTOR_PID;
    who.pid = pid;
    m.process = &who;
    m.signal = PROCESS__SIGNAL__SIGNAL_SIGKILL;
    k->piece.data = k->body;
    k->piece.len = process__send_signal_request__pack(&m, k->body);
    memcpy(k->sandbox_id, sandbox_id, id_size);
    k->request.start = start_kill;
    k->request.destroy = destroy_kill;
    request_detach(&k->request, like, KILL_TIMEOUT_MS);
}

/* --- the process --- */

static void kill_if_running(struct start *s)
{
    if (s->process.started && !s->process.ended && s->exchange.sandbox_id != NULL)
        process_kill(s->request, s->exchange.sandbox_id, s->process.pid);
    s->process.started = false;
}

static void pass_stdout(struct process *p, const uint8_t *data, size_t len)
{
    struct start *s = container_of(p, struct start, process);

    if (len > 0 && !s->abandoned)
        s->on_stdout(s, data, len);
}

static enum transfer_taken take(struct transfer *t, const uint8_t *data, size_t len)
{
    struct start *s = container_of(t, struct start, exchange.transfer);

    s->heard_ns = clock_monotonic_ns();
    if (s->has_room != NULL && !s->has_room(s))
        return TRANSFER_PAUSE;
    if (!process_feed(&s->process, data, len))
        return TRANSFER_ABORT;
    return s->abandoned && s->process.started ? TRANSFER_ABORT : TRANSFER_TAKEN;
}

static void watch(struct start *s)
{
    /* Until the answer begins it is an ordinary request. */
    int64_t limit_ns = s->exchange.transfer.status == 200
                           ? SILENCE_S * NS_PER_S
                           : s->request->e2b->config.request_timeout_ms * NS_PER_MS;

    loop_timer_start(s->request->loop, &s->watchdog, s->heard_ns + limit_ns);
}

static void run_watchdog(struct loop_timer *timer)
{
    struct start *s = container_of(timer, struct start, watchdog);
    struct transfer *t = &s->exchange.transfer;
    int64_t now = clock_monotonic_ns();

    if (t->paused || !t->running)
        s->heard_ns = now; /* the silence is ours */
    watch(s);
    if (s->watchdog.timer.at_ns > now)
        return;
    loop_timer_stop(s->request->loop, &s->watchdog);
    transfer_give_up(t, CURLE_OPERATION_TIMEDOUT);
}

static void prepare(struct exchange *x)
{
    struct start *s = container_of(x, struct start, exchange);

    transfer_header(&x->transfer, "Connect-Protocol-Version: 1");
    if (s->lease_ms > 0)
        transfer_header(&x->transfer, "Connect-Timeout-Ms: %lld", (long long)s->lease_ms);
    transfer_header(&x->transfer, "Keepalive-Ping-Interval: %d", KEEPALIVE_S);
    if (s->authorization != NULL)
        transfer_header(&x->transfer, "Authorization: Basic %s", s->authorization);
    kill_if_running(s);
    process_deinit(&s->process);
    process_init(&s->process, pass_stdout);
    if (s->restart != NULL)
        s->restart(s);
    s->heard_ns = clock_monotonic_ns();
    watch(s);
}

static bool judge(struct exchange *x, struct verdict *v)
{
    const struct process *p = &container_of(x, struct start, exchange)->process;

    if (p->exited)
        return true;
    if (p->failed != NULL)
        *v = *p->failed;
    else if (x->transfer.result != CURLE_OK)
        errors_lookup(SOURCE_CURL, x->transfer.result, transfer_error(&x->transfer), v);
    else
        errors_garbage(SOURCE_CONNECT, "it ended before its end", v);
    return false;
}

static void done(struct exchange *x)
{
    struct start *s = container_of(x, struct start, exchange);

    loop_timer_stop(s->request->loop, &s->watchdog);
    kill_if_running(s);
    s->done(s);
}

/* "user:" in base64, for Basic authentication; owned by the caller. */
static char *encode_user(const char *user)
{
    AUTO_FREE char *text = xasprintf("%s:", user);
    size_t len = strlen(text);
    char *to = xmalloc(base64_encoded_len(len) + 1);

    to[base64_encode(to, text, len)] = '\0';
    return to;
}

void start_begin(struct start *s)
{
    s->authorization = s->user != NULL ? encode_user(s->user) : NULL;
    s->body = process_encode_start(s->argv, s->cwd, s->with_stdin, &s->piece.len);
    s->piece.data = s->body;
    s->watchdog = (struct loop_timer){.run = run_watchdog};
    process_init(&s->process, pass_stdout);
    s->exchange = (struct exchange){
        .request = s->request,
        .method = "POST",
        .path = xstrdup("/process.Process/Start"),
        .sandbox_id = xstrdup(s->sandbox_id),
        .source = SOURCE_START,
        .pieces = &s->piece,
        .n_pieces = 1,
        .content_type = "application/connect+proto",
        .safe = s->safe,
        .bulk = true,
        .on_data = take,
        .prepare = prepare,
        .judge = judge,
        .done = done,
    };
    exchange_start(&s->exchange);
}

void start_resume(struct start *s)
{
    transfer_resume(&s->exchange.transfer);
}

bool start_is_in_doubt(const struct start *s)
{
    return s->exchange.running && s->exchange.phase == EXCHANGE_CALLING &&
           s->exchange.transfer.running && !s->process.started && !s->process.ended;
}

void start_abandon(struct start *s)
{
    s->abandoned = true;
    s->has_room = NULL;
    s->exchange.safe = false;
    s->exchange.retry.attempts = RETRY_ATTEMPTS;
    start_resume(s);
}

void start_deinit(struct start *s)
{
    if (s->request != NULL) {
        loop_timer_stop(s->request->loop, &s->watchdog);
        kill_if_running(s);
    }
    exchange_deinit(&s->exchange);
    process_deinit(&s->process);
    free(s->authorization);
    free(s->body);
    s->authorization = NULL;
    s->body = NULL;
}
