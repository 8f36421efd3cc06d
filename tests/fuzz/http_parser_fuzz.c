/*
 * The HTTP parser on anything. Whatever the bytes are, nothing is read outside of them, and how
 * they are split makes no difference to what is understood.
 */
#include "common/base/cleanup.h"
#include "common/http/parser.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void require(bool holds)
{
    if (!holds)
        abort();
}

/* What was understood, folded into a number. */
struct digest {
    uint64_t hash;
    uint64_t body_len;
};

static void fold(struct digest *d, const void *data, size_t len)
{
    const uint8_t *bytes = data;

    for (size_t i = 0; i < len; i++)
        d->hash = (d->hash ^ bytes[i]) * 1099511628211u;
}

static void fold_text(struct digest *d, const char *text)
{
    fold(d, text, strlen(text) + 1);
}

static void fold_head(struct digest *d, const struct http_head *h)
{
    fold_text(d, h->method != NULL ? h->method : h->reason);
    fold_text(d, h->target != NULL ? h->target : "");
    fold(d, &h->framing, sizeof(h->framing));
    for (size_t i = 0; i < h->n_headers; i++) {
        fold_text(d, h->headers[i].name);
        fold_text(d, h->headers[i].value);
    }
}

/* One piece of input. False: the parser has failed. */
static bool feed(struct http_parser *p, struct digest *d, const uint8_t *in, size_t len)
{
    size_t used = 0, n;
    struct http_slice body;

    for (;;) {
        enum http_event event = http_parser_next(p, in + used, len - used, &n, &body);

        require(n <= len - used);
        used += n;
        switch (event) {
        case HTTP_NEED_MORE:
            require(used == len);
            return true;
        case HTTP_HEAD:
            fold_head(d, &p->head);
            break;
        case HTTP_BODY:
            require(body.data >= in && body.data + body.len <= in + len);
            d->body_len += body.len;
            fold(d, body.data, body.len);
            break;
        case HTTP_END:
            fold_text(d, "end");
            http_parser_reset(p);
            if (used == len)
                return true;
            break;
        case HTTP_ERROR:
            require(p->error != NULL && p->error_status >= 400);
            return false;
        }
    }
}

static struct digest parse(const uint8_t *in, size_t len, bool is_response, size_t step)
{
    AUTO(http_parser_deinit) struct http_parser p;
    struct digest d = {.hash = 14695981039346656037u};
    bool ok = true;

    http_parser_init(&p, is_response);
    for (size_t at = 0; ok && at < len; at += step) {
        size_t n = step < len - at ? step : len - at;
        /* A copy of the exact size: reading past it is seen by the sanitizer. */
        AUTO_FREE uint8_t *piece = malloc(n);

        memcpy(piece, in + at, n);
        ok = feed(&p, &d, piece, n);
    }
    fold_text(&d, ok ? "open" : p.error);
    return d;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static const size_t steps[] = {1, 3, 16};

    for (int is_response = 0; is_response < 2; is_response++) {
        struct digest whole = parse(data, len, is_response, len + 1);

        for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
            struct digest split = parse(data, len, is_response, steps[i]);

            require(split.hash == whole.hash && split.body_len == whole.body_len);
        }
    }
    return 0;
}
