/*
 * Objects in a bucket of S3, or of what speaks its protocol. Jobs wait here while a loop of its own
 * (service/e2b/loop.h) carries the requests, all of them over the same few connections. curl signs
 * them (SigV4); what it signs is what it is given, so names and queries are written in the form
 * that signatures ask for: sorted, and everything escaped that may be.
 */
#include "service/archive/store.h"

#include "common/base/cleanup.h"
#include "common/base/clock.h"
#include "common/base/list.h"
#include "common/base/mem.h"
#include "sandbox/v1/errors.pb-c.h"
#include "service/archive/record.h"
#include "service/archive/s3_answer.h"
#include "service/e2b/transfer.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    TRIES = 3,
    RETRY_MS = 200, /* doubled for each further try */
    LIST_ANSWER_MAX = 4 * 1024 * 1024,
    ERROR_MAX = 64 * 1024,
    SECRET_MAX = 3072,
};

struct store_s3 {
    struct store store;
    struct loop *loop;         /* owned */
    char *url;                 /* owned; of the bucket, and what all names start with */
    char *bucket_url, *prefix; /* owned; the same apart; prefix ends with a slash, or is empty */
    char *place;               /* owned; for messages */
    char *sign;                /* owned; for CURLOPT_AWS_SIGV4 */
    char *access_key_id, *secret_access_key, *session_token; /* owned; the last may be NULL */
    int64_t request_timeout_ms;
};

/* --- one request --- */

struct exchange_s3 {
    struct store_s3 *s3;
    const char *method;
    const char *url;
    struct transfer_piece body;
    bool has_body;
    size_t max_response;
    int64_t timeout_ms;

    struct task task;
    struct transfer transfer;
    pthread_mutex_t lock; /* guards done, with the condition */
    pthread_cond_t ended;
    bool done;
    CURLcode result;
    long status;
    bool too_long;
    struct buf answer;
};

/* On the loop. Everything of the transfer ends here; the waiting thread goes on with the answer. */
static void on_done(struct transfer *t)
{
    struct exchange_s3 *x = container_of(t, struct exchange_s3, transfer);

    x->result = t->result;
    x->status = t->status;
    x->too_long = t->too_long;
    x->answer = t->body;
    t->body = BUF_INIT(0);
    transfer_deinit(t);
    pthread_mutex_lock(&x->lock);
    x->done = true;
    pthread_cond_signal(&x->ended);
    pthread_mutex_unlock(&x->lock);
}

static void run_start(struct task *task)
{
    struct exchange_s3 *x = container_of(task, struct exchange_s3, task);
    const struct store_s3 *s3 = x->s3;
    const struct transfer_request request = {
        .method = x->method,
        .url = x->url,
        .pieces = x->has_body ? &x->body : NULL,
        .n_pieces = x->has_body ? 1 : 0,
        .timeout_ms = x->timeout_ms,
        .max_response = x->max_response,
        .may_repeat = true,
        .bulk = true,
    };
    char hex[2 * RECORD_SHA_LEN + 1];
    uint8_t sha[RECORD_SHA_LEN];
    CURL *easy;

    record_sha(x->body.data, x->body.len, sha);
    record_hex(hex, sha);
    transfer_init(&x->transfer, s3->loop);
    x->transfer.done = on_done;
    easy = x->transfer.handle.easy;
    /* curl would sign the header that it is told to leave out. (It asks "100-continue?" only before
     * bodies that are larger than any piece.) */
    curl_slist_free_all(x->transfer.headers);
    x->transfer.headers = NULL;
    /* S3 asks for it, and curl before 8 leaves it to us. */
    transfer_header(&x->transfer, "X-Amz-Content-Sha256: %s", hex);
    if (x->has_body)
        transfer_header(&x->transfer, "Content-Type: application/octet-stream");
    if (s3->session_token != NULL)
        transfer_header(&x->transfer, "X-Amz-Security-Token: %s", s3->session_token);
    curl_easy_setopt(easy, CURLOPT_AWS_SIGV4, s3->sign);
    curl_easy_setopt(easy, CURLOPT_USERNAME, s3->access_key_id);
    curl_easy_setopt(easy, CURLOPT_PASSWORD, s3->secret_access_key);
    transfer_start(&x->transfer, &request);
}

static void exchange_run(struct exchange_s3 *x)
{
    pthread_mutex_init(&x->lock, NULL);
    pthread_cond_init(&x->ended, NULL);
    x->task.run = run_start;
    x->done = false;
    loop_post(x->s3->loop, &x->task);
    pthread_mutex_lock(&x->lock);
    while (!x->done)
        pthread_cond_wait(&x->ended, &x->lock);
    pthread_mutex_unlock(&x->lock);
    pthread_cond_destroy(&x->ended);
    pthread_mutex_destroy(&x->lock);
}

/* --- what came of it --- */

static bool may_try_again(const struct exchange_s3 *x)
{
    if (x->too_long)
        return false;
    return x->result != CURLE_OK || x->status == 429 || x->status >= 500;
}

/* What is wrong, without anything that is secret. */
static bool failed(const struct exchange_s3 *x, struct status *st)
{
    char code[S3_CODE_MAX + 1];

    if (x->result != CURLE_OK)
        return store_unavailable(st, "the archive %s cannot be reached: %s", x->s3->place,
                                 curl_easy_strerror(x->result));
    s3_error_code((const char *)buf_data(&x->answer), buf_len(&x->answer), code);
    return store_unavailable(st, "the archive %s answers %ld%s%s", x->s3->place, x->status,
                             code[0] != '\0' ? " " : "", code);
}

/*
 * Until there is an answer that another try would not change; it is in x->answer, which the caller
 * frees. False: there is none.
 */
static bool ask(struct exchange_s3 *x, int64_t until_ns, struct status *st)
{
    int64_t wait_ms = RETRY_MS;

    for (int i = 1;; i++, wait_ms *= 2) {
        int64_t left_ms = (until_ns - clock_monotonic_ns()) / NS_PER_MS;

        if (left_ms <= 0)
            return store_unavailable(st, "the archive %s did not answer in time", x->s3->place);
        x->timeout_ms = left_ms < x->s3->request_timeout_ms ? left_ms : x->s3->request_timeout_ms;
        exchange_run(x);
        if (!may_try_again(x))
            return true;
        failed(x, st);
        buf_deinit(&x->answer);
        if (i == TRIES || left_ms <= wait_ms)
            return false;
        nanosleep(&(struct timespec){0, wait_ms * NS_PER_MS}, NULL);
    }
}

static bool is_code(const struct exchange_s3 *x, const char *name)
{
    char code[S3_CODE_MAX + 1];

    s3_error_code((const char *)buf_data(&x->answer), buf_len(&x->answer), code);
    return strcmp(code, name) == 0;
}

/* --- the store --- */

static bool put(struct store *s, const char *key, const uint8_t *data, size_t len, int64_t until_ns,
                struct status *st)
{
    struct store_s3 *s3 = container_of(s, struct store_s3, store);
    AUTO_FREE char *url = xasprintf("%s%s", s3->url, key);
    struct exchange_s3 x = {
        .s3 = s3,
        .method = "PUT",
        .url = url,
        .body = {data, len},
        .has_body = true,
        .max_response = ERROR_MAX,
    };
    bool ok;

    if (!ask(&x, until_ns, st))
        return false;
    ok = x.status == 200 || failed(&x, st);
    buf_deinit(&x.answer);
    return ok;
}

static bool read_object(struct exchange_s3 *x, const char *key, struct buf *to, struct status *st)
{
    if (x->too_long)
        return status_set(st, CODE_DATA_LOSS,
                          SANDBOX__V1__ERROR_REASON__ERROR_REASON_JOURNAL_CORRUPT,
                          "the archive was changed: %s is no object of it", key);
    if (x->status == 404 && is_code(x, "NoSuchKey"))
        return status_set(st, CODE_NOT_FOUND, 0, "the archive has no %s", key);
    if (x->status != 200)
        return failed(x, st);
    return buf_append(to, buf_data(&x->answer), buf_len(&x->answer));
}

static bool get(struct store *s, const char *key, struct buf *to, int64_t until_ns,
                struct status *st)
{
    struct store_s3 *s3 = container_of(s, struct store_s3, store);
    AUTO_FREE char *url = xasprintf("%s%s", s3->url, key);
    struct exchange_s3 x = {.s3 = s3, .method = "GET", .url = url, .max_response = buf_room(to)};
    bool ok;

    if (!ask(&x, until_ns, st))
        return false;
    ok = read_object(&x, key, to, st);
    buf_deinit(&x.answer);
    return ok;
}

/* As signatures ask for; owned by the caller. */
static char *escape(const char *text)
{
    char *escaped = xmalloc(3 * strlen(text) + 1), *to = escaped;

    for (; *text != '\0'; text++) {
        if (strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~", *text))
            *to++ = *text;
        else
            to += sprintf(to, "%%%02X", (unsigned char)*text);
    }
    *to = '\0';
    return escaped;
}

/* One page; *token: where it starts, and then the next one. NULL: the first, the last. */
static bool list_page(struct store_s3 *s3, const char *below, char **token, struct store_names *ret,
                      int64_t until_ns, struct status *st)
{
    AUTO_FREE char *prefix = escape(below);
    AUTO_FREE char *start = *token != NULL ? escape(*token) : NULL;
    AUTO_FREE char *url = xasprintf("%s?%s%s%slist-type=2&prefix=%s", s3->bucket_url,
                                    start != NULL ? "continuation-token=" : "",
                                    start != NULL ? start : "", start != NULL ? "&" : "", prefix);
    struct exchange_s3 x = {.s3 = s3, .method = "GET", .url = url, .max_response = LIST_ANSWER_MAX};
    bool ok;

    free(TAKE(*token));
    if (!ask(&x, until_ns, st))
        return false;
    ok = x.status == 200 || failed(&x, st);
    if (ok && (x.too_long || !s3_read_list((const char *)buf_data(&x.answer), buf_len(&x.answer),
                                           below, ret, token)))
        ok =
            store_unavailable(st, "the archive %s answers something that is no listing", s3->place);
    buf_deinit(&x.answer);
    return ok;
}

static bool list(struct store *s, const char *prefix, struct store_names *ret, int64_t until_ns,
                 struct status *st)
{
    struct store_s3 *s3 = container_of(s, struct store_s3, store);
    AUTO_FREE char *below = xasprintf("%s%s/", s3->prefix, prefix);
    char *token = NULL;
    bool ok;

    do {
        ok = list_page(s3, below, &token, ret, until_ns, st);
    } while (ok && token != NULL && ret->n < STORE_LIST_MAX);
    if (ok && token != NULL)
        ok =
            store_unavailable(st, "the archive %s has too many commands of one sandbox", s3->place);
    free(token);
    store_names_sort(ret);
    return ok;
}

/* --- its life --- */

static void forget(char *secret)
{
    if (secret != NULL)
        explicit_bzero(secret, strlen(secret));
    free(secret);
}

static void store_s3_free(struct store *s)
{
    struct store_s3 *s3 = container_of(s, struct store_s3, store);

    if (s3->loop != NULL)
        loop_free(s3->loop);
    free(s3->url);
    free(s3->bucket_url);
    free(s3->prefix);
    free(s3->place);
    free(s3->sign);
    free(s3->access_key_id);
    forget(s3->secret_access_key);
    forget(s3->session_token);
    free(s3);
}

static bool is_name(const char *text, const char *others)
{
    static const char known[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

    for (; *text != '\0'; text++)
        if (strchr(known, *text) == NULL && strchr(others, *text) == NULL)
            return false;
    return true;
}

/* What may stand in a header. */
static bool is_secret(const char *text)
{
    size_t len = text != NULL ? strlen(text) : 0;

    for (size_t i = 0; i < len; i++)
        if (text[i] <= ' ' || text[i] > '~')
            return false;
    return len > 0 && len <= SECRET_MAX;
}

static bool check(const struct store_s3_config *c, struct status *st)
{
    const char *wrong = NULL;

    if (c->bucket[0] == '\0' || !is_name(c->bucket, ".-_"))
        wrong = "--archive: write s3://BUCKET or s3://BUCKET/PREFIX";
    else if (!is_name(c->prefix, ".-_/") || strstr(c->prefix, "//") != NULL)
        wrong = "--archive: the prefix may have letters, digits and .-_/ only";
    else if (!is_secret(c->access_key_id) || !is_secret(c->secret_access_key))
        wrong = "an archive in S3 needs AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY";
    else if (c->session_token != NULL && !is_secret(c->session_token))
        wrong = "AWS_SESSION_TOKEN has characters that no token has";
    else if (c->region != NULL && (c->region[0] == '\0' || !is_name(c->region, "-")))
        wrong = "AWS_REGION is no region";
    else if (c->endpoint != NULL && strncmp(c->endpoint, "http://", 7) != 0 &&
             strncmp(c->endpoint, "https://", 8) != 0)
        wrong = "AWS_ENDPOINT_URL must start with https:// or http://";
    return wrong == NULL || status_set(st, CODE_INVALID_ARGUMENT, 0, "%s", wrong);
}

/* Amazon names buckets by host; others, and names that no certificate fits, by path. */
static char *make_bucket_url(const struct store_s3_config *c, const char *region)
{
    size_t len = c->endpoint != NULL ? strlen(c->endpoint) : 0;

    while (len > 0 && c->endpoint[len - 1] == '/')
        len--;
    if (c->endpoint != NULL)
        return xasprintf("%.*s/%s", (int)len, c->endpoint, c->bucket);
    if (strchr(c->bucket, '.') != NULL)
        return xasprintf("https://s3.%s.amazonaws.com/%s", region, c->bucket);
    return xasprintf("https://%s.s3.%s.amazonaws.com/", c->bucket, region);
}

bool store_s3_new(const struct store_s3_config *c, struct store **ret, struct status *st)
{
    const char *region = c->region != NULL ? c->region : "us-east-1";
    struct store_s3 *s3;

    if (!check(c, st))
        return false;
    s3 = xcalloc(1, sizeof(*s3));
    s3->store = (struct store){.put = put, .get = get, .list = list, .free = store_s3_free};
    s3->bucket_url = make_bucket_url(c, region);
    s3->prefix = xasprintf("%s%s", c->prefix, c->prefix[0] != '\0' ? "/" : "");
    s3->url = xasprintf("%s%s%s", s3->bucket_url,
                        s3->bucket_url[strlen(s3->bucket_url) - 1] == '/' ? "" : "/", s3->prefix);
    s3->place = xasprintf("s3://%s/%s", c->bucket, s3->prefix);
    s3->sign = xasprintf("aws:amz:%s:s3", region);
    s3->access_key_id = xstrdup(c->access_key_id);
    s3->secret_access_key = xstrdup(c->secret_access_key);
    s3->session_token = c->session_token != NULL ? xstrdup(c->session_token) : NULL;
    s3->request_timeout_ms = c->request_timeout_ms;
    if (!loop_new(&s3->loop, st)) {
        s3->loop = NULL;
        store_s3_free(&s3->store);
        return false;
    }
    *ret = &s3->store;
    return true;
}
