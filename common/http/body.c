/* See body.h. */
#include "common/http/body.h"

#include "common/base/mem.h"

#include <stdlib.h>

struct collect {
    struct buf bytes;
    void (*done)(struct http_exchange *x, void *ctx, const uint8_t *data, size_t len);
    void *ctx;
};

static const struct http_exchange_ops no_ops;

static void collect_free(struct collect *c)
{
    buf_deinit(&c->bytes);
    free(c);
}

static void on_body(struct http_exchange *x, const uint8_t *data, size_t len)
{
    struct collect *c = http_user(x);
    static const char too_large[] =
        "{\"code\":413,\"message\":\"the body of the request is too large\"}";

    if (buf_append(&c->bytes, data, len))
        return;
    collect_free(c);
    http_close_after(x);
    http_reply(x, 413, "application/json; charset=utf-8", too_large, sizeof(too_large) - 1);
}

static void on_body_end(struct http_exchange *x)
{
    struct collect *c = http_user(x);

    http_attach(x, &no_ops, NULL);
    c->done(x, c->ctx, buf_data(&c->bytes), buf_len(&c->bytes));
    collect_free(c);
}

static void on_gone(struct http_exchange *x)
{
    collect_free(http_user(x));
}

void http_collect(struct http_exchange *x, size_t max,
                  void (*done)(struct http_exchange *x, void *ctx, const uint8_t *data, size_t len),
                  void *ctx)
{
    static const struct http_exchange_ops ops = {
        .body = on_body, .body_end = on_body_end, .gone = on_gone};
    struct collect *c = xcalloc(1, sizeof(*c));

    *c = (struct collect){.bytes = BUF_INIT(max), .done = done, .ctx = ctx};
    http_attach(x, &ops, c);
}
