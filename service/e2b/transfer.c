/* See transfer.h. */
#include "service/e2b/transfer.h"

#include "common/base/cleanup.h"
#include "common/base/list.h"
#include "common/base/mem.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    CONNECT_TIMEOUT_MS = 10000,
    BULK_BUFFER = 128 * 1024, /* 1.2 to 1.35 times as fast as curl's 16 KiB */
};

static size_t on_write(char *data, size_t one, size_t len, void *arg)
{
    struct transfer *t = arg;

    curl_easy_getinfo(t->handle.easy, CURLINFO_RESPONSE_CODE, &t->status);
    if (t->on_data != NULL && t->status == 200) {
        switch (t->on_data(t, (const uint8_t *)data, len)) {
        case TRANSFER_TAKEN:
            return len;
        case TRANSFER_PAUSE:
            t->paused = true;
            return CURL_WRITEFUNC_PAUSE;
        case TRANSFER_ABORT:
            return 0;
        }
    }
    if (!buf_append(&t->body, data, len)) {
        t->too_long = true;
        return 0;
    }
    return len;
}

static size_t on_read(char *to, size_t one, size_t room, void *arg)
{
    struct transfer *t = arg;
    size_t done = 0;

    while (done < room && t->piece < t->n_pieces) {
        const struct transfer_piece *p = &t->pieces[t->piece];
        size_t n = p->len - t->offset;

        if (n > room - done)
            n = room - done;
        if (n > 0)
            memcpy(to + done, p->data + t->offset, n);
        done += n;
        t->offset += n;
        if (t->offset == p->len) {
            t->piece++;
            t->offset = 0;
        }
    }
    return done;
}

static size_t on_read_stream(char *to, size_t one, size_t room, void *arg)
{
    struct transfer *t = arg;
    ssize_t n = t->on_need(t, (uint8_t *)to, room);

    if (n == TRANSFER_NOT_YET) {
        t->starving = true;
        return CURL_READFUNC_PAUSE;
    }
    return n == TRANSFER_END ? 0 : (size_t)n;
}

/* Before each time that curl sends the request. When a kept connection dies under it, curl sends it
 * again on a new one; by then the first may have been acted upon. */
static int on_send(void *arg, char *to_ip, char *from_ip, int to_port, int from_port)
{
    struct transfer *t = arg;

    if (t->times_sent > 0 && !t->may_repeat)
        return CURL_PREREQFUNC_ABORT;
    t->times_sent++;
    return CURL_PREREQFUNC_OK;
}

/* curl goes back to the start to send it again. */
static int on_seek(void *arg, curl_off_t offset, int origin)
{
    struct transfer *t = arg;

    if (origin != SEEK_SET || offset != 0)
        return CURL_SEEKFUNC_FAIL;
    t->piece = 0;
    t->offset = 0;
    return CURL_SEEKFUNC_OK;
}

static void on_done(struct loop_handle *h, CURLcode result)
{
    struct transfer *t = container_of(h, struct transfer, handle);

    t->running = false;
    /* on_send() does not let it go out again: nothing came back the first time. */
    t->result = result == CURLE_ABORTED_BY_CALLBACK ? CURLE_GOT_NOTHING : result;
    curl_easy_getinfo(h->easy, CURLINFO_RESPONSE_CODE, &t->status);
    t->done(t);
}

void transfer_init(struct transfer *t, struct loop *l)
{
    *t = (struct transfer){.loop = l, .handle.done = on_done};
    t->handle.easy = curl_easy_init();
    if (t->handle.easy == NULL)
        abort(); /* out of memory, as in mem.h */
    /* Without this curl asks "100-continue?" before larger bodies and waits a second. */
    transfer_header(t, "Expect:");
}

void transfer_header(struct transfer *t, const char *fmt, ...)
{
    char line[4096];
    struct curl_slist *list;
    va_list args;

    va_start(args, fmt);
    vsnprintf(line, sizeof line, fmt, args);
    va_end(args);
    assert(strpbrk(line, "\r\n") == NULL);
    list = curl_slist_append(t->headers, line);
    if (list == NULL)
        abort();
    t->headers = list;
}

static void set_body(struct transfer *t, const struct transfer_request *r)
{
    CURL *easy = t->handle.easy;
    size_t len = 0;

    for (size_t i = 0; i < r->n_pieces; i++)
        len += r->pieces[i].len;
    t->pieces = r->pieces;
    t->n_pieces = r->n_pieces;
    curl_easy_setopt(easy, CURLOPT_POST, 1L);
    curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)len);
    if (r->n_pieces == 1) {
        /* Leaves in one packet with the head. */
        curl_easy_setopt(easy, CURLOPT_POSTFIELDS, r->pieces[0].data);
        return;
    }
    curl_easy_setopt(easy, CURLOPT_READFUNCTION, on_read);
    curl_easy_setopt(easy, CURLOPT_READDATA, t);
    curl_easy_setopt(easy, CURLOPT_SEEKFUNCTION, on_seek);
    curl_easy_setopt(easy, CURLOPT_SEEKDATA, t);
}

/* Chunked: how long it will be is not known. */
static void set_stream(struct transfer *t)
{
    CURL *easy = t->handle.easy;

    transfer_header(t, "Transfer-Encoding: chunked");
    /* On a kept connection that turns out dead curl would begin again, without what it has read. */
    curl_easy_setopt(easy, CURLOPT_FRESH_CONNECT, 1L);
    curl_easy_setopt(easy, CURLOPT_POST, 1L);
    curl_easy_setopt(easy, CURLOPT_READFUNCTION, on_read_stream);
    curl_easy_setopt(easy, CURLOPT_READDATA, t);
}

void transfer_start(struct transfer *t, const struct transfer_request *r)
{
    CURL *easy = t->handle.easy;

    t->may_repeat = r->may_repeat;
    buf_init(&t->body, r->max_response);
    curl_easy_setopt(easy, CURLOPT_URL, r->url);
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_PATH_AS_IS, 1L);
    /* h2 where TLS offers it; over plain text Debian's libcurl breaks every second transfer. */
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_2TLS);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)CONNECT_TIMEOUT_MS);
    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)r->timeout_ms);
    curl_easy_setopt(easy, CURLOPT_PREREQFUNCTION, on_send);
    curl_easy_setopt(easy, CURLOPT_PREREQDATA, t);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_write);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, t);
    if (r->accept_gzip)
        curl_easy_setopt(easy, CURLOPT_ACCEPT_ENCODING, "gzip");
    if (r->bulk) {
        curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, (long)BULK_BUFFER);
        curl_easy_setopt(easy, CURLOPT_UPLOAD_BUFFERSIZE, (long)BULK_BUFFER);
    }
    if (t->on_need != NULL)
        set_stream(t);
    else if (r->pieces != NULL)
        set_body(t, r);
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, t->headers);
    if (strcmp(r->method, r->pieces != NULL || t->on_need != NULL ? "POST" : "GET") != 0)
        curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, r->method);
    t->running = true;
    loop_add_handle(t->loop, &t->handle);
}

void transfer_resume(struct transfer *t)
{
    if (!t->running || !t->paused)
        return;
    t->paused = false; /* the callback may set it again from within */
    curl_easy_pause(t->handle.easy, CURLPAUSE_CONT);
}

void transfer_feed(struct transfer *t)
{
    if (!t->running || !t->starving)
        return;
    t->starving = false; /* the callback may set it again from within */
    curl_easy_pause(t->handle.easy, CURLPAUSE_CONT);
}

void transfer_give_up(struct transfer *t, CURLcode result)
{
    loop_remove_handle(t->loop, &t->handle);
    on_done(&t->handle, result);
}

void transfer_deinit(struct transfer *t)
{
    if (t->running) {
        t->running = false;
        loop_remove_handle(t->loop, &t->handle);
    }
    if (t->handle.easy != NULL)
        curl_easy_cleanup(t->handle.easy);
    t->handle.easy = NULL;
    curl_slist_free_all(t->headers);
    t->headers = NULL;
    buf_deinit(&t->body);
}

const char *transfer_response_header(const struct transfer *t, const char *name)
{
    struct curl_header *h;

    if (curl_easy_header(t->handle.easy, name, 0, CURLH_HEADER, -1, &h) != CURLHE_OK)
        return NULL;
    return h->value;
}

int64_t transfer_response_length(const struct transfer *t)
{
    curl_off_t len = -1;

    curl_easy_getinfo(t->handle.easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &len);
    return len;
}

const char *transfer_error(const struct transfer *t)
{
    return curl_easy_strerror(t->result);
}
