/*
 * See tracer.h. Two sides of one queue: tracer_end() copies a span in under the lock, on whatever
 * thread; the tracer's own takes batches out and posts them. libcurl is used here beside e2b/,
 * because a blocking transfer on an own thread is all it takes, and no call may wait behind it.
 */
#include "service/trace/tracer.h"

#include "common/base/buf.h"
#include "common/base/cleanup.h"
#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/http/url.h"
#include "service/metrics/metrics.h"
#include "service/trace/otlp.h"

#include <curl/curl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum {
    INTERVAL_MS = 1000, /* between exports, unless a batch is full before */
    POST_TIMEOUT_MS = 10 * 1000,
    LAST_TIMEOUT_MS = 2 * 1000,
    ATTEMPTS = 3,
    WAIT_FIRST_MS = 500, /* between attempts; doubled */
    HEADERS_MAX = 16,
    HEADER_MAX = 8192,
};

enum { EXPORTED, DROPPED, FAILED, N_RESULTS };

struct tracer {
    char *url, *service_name, *resource; /* owned */
    struct curl_slist *headers;          /* owned */
    CURL *curl;                          /* owned; the thread's */
    enum sampler sampler;
    bool follows_parent;
    uint64_t ratio_below; /* of the last 64 bits of a trace's id */
    struct metric *spans;

    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct span *queue; /* owned; TRACER_QUEUE of them, a ring */
    size_t first, n;    /* under lock */
    bool stopping;      /* under lock */
    int64_t stop_by_ns; /* monotonic; under lock, once stopping */
    bool troubled;      /* the thread's: the last export failed, and the log says so */

    pthread_t thread;
    bool running;
};

/* --- whether --- */

static bool samples(const struct tracer *t, const struct trace *trace)
{
    uint64_t low = 0;

    switch (t->sampler) {
    case SAMPLER_ALWAYS_ON:
        return true;
    case SAMPLER_ALWAYS_OFF:
        return false;
    case SAMPLER_RATIO:
        break;
    }
    /* By the id, so that all who see the trace decide alike. */
    for (size_t i = TRACE_ID_LEN - 8; i < TRACE_ID_LEN; i++)
        low = low << 8 | trace->id[i];
    return low >> 1 < t->ratio_below;
}

struct trace *tracer_begin(struct tracer *t, const char *traceparent, const char *tracestate)
{
    struct trace *parent = trace_parse(traceparent, tracestate), *ours;

    if (t == NULL)
        return parent;
    if (parent == NULL) {
        ours = trace_new(0);
        ours->flags = samples(t, ours) ? TRACE_SAMPLED : 0; /* nobody else has seen it */
        return ours;
    }
    ours = trace_child(parent, (t->follows_parent ? trace_is_sampled(parent) : samples(t, parent))
                                   ? TRACE_SAMPLED
                                   : 0);
    trace_unref(parent);
    return ours;
}

/* --- the queue --- */

void tracer_end(struct tracer *t, const struct span *span)
{
    bool dropped = false;

    if (t == NULL || !trace_is_sampled(span->trace))
        return;
    pthread_mutex_lock(&t->lock);
    if (t->n == TRACER_QUEUE) {
        dropped = true;
    } else {
        struct span *slot = &t->queue[(t->first + t->n++) % TRACER_QUEUE];

        *slot = *span;
        trace_ref(slot->trace);
        if (t->n == TRACER_BATCH)
            pthread_cond_signal(&t->changed);
    }
    pthread_mutex_unlock(&t->lock);
    if (dropped)
        metric_count(t->spans, DROPPED, 1);
}

static void wait_ms(struct tracer *t, int64_t ms)
{
    int64_t at = clock_monotonic_ns() + ms * NS_PER_MS;
    struct timespec until = {.tv_sec = at / NS_PER_S, .tv_nsec = at % NS_PER_S};

    pthread_cond_timedwait(&t->changed, &t->lock, &until);
}

/* Waits for a batch, or for what there is once the interval is over. Returns 0 at the end only. */
static size_t take_batch(struct tracer *t, struct span *batch)
{
    size_t n = 0;

    pthread_mutex_lock(&t->lock);
    if (!t->stopping && t->n < TRACER_BATCH)
        wait_ms(t, INTERVAL_MS);
    while (!t->stopping && t->n == 0)
        wait_ms(t, INTERVAL_MS);
    for (; n < TRACER_BATCH && t->n > 0; n++, t->n--) {
        batch[n] = t->queue[t->first];
        t->first = (t->first + 1) % TRACER_QUEUE;
    }
    pthread_mutex_unlock(&t->lock);
    return n;
}

static bool is_stopping(struct tracer *t)
{
    bool stopping;

    pthread_mutex_lock(&t->lock);
    stopping = t->stopping;
    pthread_mutex_unlock(&t->lock);
    return stopping;
}

static bool is_too_late(struct tracer *t)
{
    bool late;

    pthread_mutex_lock(&t->lock);
    late = t->stopping && clock_monotonic_ns() > t->stop_by_ns;
    pthread_mutex_unlock(&t->lock);
    return late;
}

/* --- sending --- */

static size_t ignore(char *data, size_t size, size_t n, void *arg)
{
    return size * n;
}

/* curl asks once a second: gives up when there is no more time. */
static int on_progress(void *arg, curl_off_t down_all, curl_off_t down, curl_off_t up_all,
                       curl_off_t up)
{
    return is_too_late(arg);
}

/* HTTP's status; 0: no answer. */
static long post(struct tracer *t, const char *body)
{
    long status = 0;

    curl_easy_setopt(t->curl, CURLOPT_POSTFIELDS, body);
    curl_easy_setopt(t->curl, CURLOPT_TIMEOUT_MS,
                     (long)(is_stopping(t) ? LAST_TIMEOUT_MS : POST_TIMEOUT_MS));
    if (curl_easy_perform(t->curl) != CURLE_OK)
        return 0;
    curl_easy_getinfo(t->curl, CURLINFO_RESPONSE_CODE, &status);
    return status;
}

/* As OTLP lists them. */
static bool may_repeat(long status)
{
    return status == 0 || status == 429 || (status >= 502 && status <= 504);
}

static bool deliver(struct tracer *t, const char *body, long *ret_status)
{
    int64_t wait = WAIT_FIRST_MS;

    for (int attempt = 1;; attempt++, wait *= 2) {
        *ret_status = post(t, body);
        if (*ret_status >= 200 && *ret_status < 300)
            return true;
        if (!may_repeat(*ret_status) || attempt == ATTEMPTS)
            return false;
        pthread_mutex_lock(&t->lock);
        if (!t->stopping)
            wait_ms(t, wait);
        pthread_mutex_unlock(&t->lock);
        if (is_stopping(t))
            return false;
    }
}

static void export(struct tracer *t, struct span *batch, size_t n)
{
    AUTO_FREE char *body = otlp_pack(t->service_name, t->resource, batch, n);
    long status;
    bool ok = deliver(t, body, &status);

    metric_count(t->spans, ok ? EXPORTED : FAILED, (int64_t)n);
    if (!ok && !t->troubled)
        log_warn("spans cannot be exported", LOG_S("endpoint", t->url), LOG_N("status", status));
    else if (ok && t->troubled)
        log_info("spans are exported again");
    t->troubled = !ok;
    for (size_t i = 0; i < n; i++)
        trace_unref(batch[i].trace);
}

static void *run(void *arg)
{
    struct tracer *t = arg;
    AUTO_FREE struct span *batch = xcalloc(TRACER_BATCH, sizeof(*batch));
    size_t n;

    pthread_setname_np(pthread_self(), "tracer");
    while (!is_too_late(t) && (n = take_batch(t, batch)) > 0)
        export(t, batch, n);
    return NULL;
}

/* --- life --- */

/* "name=value,…", the values with %XX where they must, as OpenTelemetry has them. */
static void take_headers(struct tracer *t, const char *headers)
{
    AUTO_FREE char *copy = xstrdup(headers != NULL ? headers : "");
    char *rest = copy, *pair;

    t->headers = curl_slist_append(NULL, "Content-Type: application/json");
    for (int i = 0; i < HEADERS_MAX && (pair = strsep(&rest, ",")) != NULL; i++) {
        AUTO(buf_deinit) struct buf line = BUF_INIT(HEADER_MAX);
        char *equals;

        pair += strspn(pair, " ");
        equals = strchr(pair, '=');
        if (equals != NULL && buf_printf(&line, "%.*s: ", (int)(equals - pair), pair) &&
            url_decode(&line, equals + 1, strlen(equals + 1), false) &&
            strpbrk(buf_str(&line), "\r\n") == NULL)
            t->headers = curl_slist_append(t->headers, buf_str(&line));
    }
}

static bool set_up_curl(struct tracer *t, struct status *st)
{
    t->curl = curl_easy_init();
    if (t->curl == NULL)
        return status_set(st, CODE_INTERNAL, 0, "libcurl does not work");
    curl_easy_setopt(t->curl, CURLOPT_HTTPHEADER, t->headers);
    curl_easy_setopt(t->curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(t->curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(t->curl, CURLOPT_WRITEFUNCTION, ignore);
    curl_easy_setopt(t->curl, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(t->curl, CURLOPT_XFERINFOFUNCTION, on_progress);
    curl_easy_setopt(t->curl, CURLOPT_XFERINFODATA, t);
    if (curl_easy_setopt(t->curl, CURLOPT_URL, t->url) != CURLE_OK)
        return status_set(st, CODE_INVALID_ARGUMENT, 0, "%s is no URL", t->url);
    return true;
}

static void count_spans(struct tracer *t, struct metrics *m)
{
    static const char *const results[N_RESULTS] = {"result=\"exported\"", "result=\"dropped\"",
                                                   "result=\"failed\""};

    t->spans = metrics_add(m, &(struct metric_spec){
                                  .name = "sandboxd_spans_total",
                                  .help = "Spans of traces: exported, dropped because too many "
                                          "waited, or refused by the collector.",
                                  .labels = results,
                                  .n_series = N_RESULTS,
                              });
}

static char *url_of(const char *endpoint)
{
    size_t len = strlen(endpoint);

    while (len > 0 && endpoint[len - 1] == '/')
        len--;
    return xasprintf("%.*s/v1/traces", (int)len, endpoint);
}

static void init_queue(struct tracer *t)
{
    pthread_condattr_t attr;

    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&t->changed, &attr);
    pthread_condattr_destroy(&attr);
    pthread_mutex_init(&t->lock, NULL);
    t->queue = xcalloc(TRACER_QUEUE, sizeof(t->queue[0]));
}

bool tracer_new(const struct tracer_config *config, struct tracer **ret, struct status *st)
{
    struct tracer *t = xcalloc(1, sizeof(*t));
    int error;

    t->url = url_of(config->endpoint);
    t->service_name = xstrdup(config->service_name);
    t->resource = xstrdup(config->resource != NULL ? config->resource : "");
    t->sampler = config->sampler;
    t->follows_parent = config->follows_parent;
    t->ratio_below = config->ratio >= 1 ? UINT64_MAX : (uint64_t)(config->ratio * 0x1p63);
    init_queue(t);
    take_headers(t, config->headers);
    if (!set_up_curl(t, st)) {
        tracer_free(t);
        return false;
    }
    count_spans(t, config->metrics);
    error = pthread_create(&t->thread, NULL, run, t);
    if (error != 0) {
        tracer_free(t);
        return status_set(st, CODE_INTERNAL, 0, "cannot start a thread: %s", strerror(error));
    }
    t->running = true;
    *ret = t;
    return true;
}

void tracer_free(struct tracer *t)
{
    if (t == NULL)
        return;
    pthread_mutex_lock(&t->lock);
    t->stopping = true;
    t->stop_by_ns = clock_monotonic_ns() + LAST_TIMEOUT_MS * NS_PER_MS;
    pthread_cond_signal(&t->changed);
    pthread_mutex_unlock(&t->lock);
    if (t->running)
        pthread_join(t->thread, NULL);
    for (; t->n > 0; t->n--, t->first = (t->first + 1) % TRACER_QUEUE)
        trace_unref(t->queue[t->first].trace);
    curl_easy_cleanup(t->curl);
    curl_slist_free_all(t->headers);
    pthread_cond_destroy(&t->changed);
    pthread_mutex_destroy(&t->lock);
    free(t->queue);
    free(t->url);
    free(t->service_name);
    free(t->resource);
    free(t);
}
