/* See reply.h. */
#include "runtime/local/agent/reply.h"

#include "common/base/cleanup.h"
#include "common/base/utf8.h"
#include "common/connect/json.h"

#include <string.h>

enum { MESSAGE_MAX = 8192 };

void reply_begin(struct http_exchange *x, int status)
{
    http_begin(x, status);
    if (!http_header(http_request(x), "Origin"))
        return;
    http_field(x, "Access-Control-Allow-Origin", "*");
    http_field(x, "Access-Control-Expose-Headers",
               "Location, Cache-Control, X-Content-Type-Options, Connect-Content-Encoding, "
               "Connect-Accept-Encoding, Content-Encoding");
    http_field(x, "Vary", "Origin");
}

void reply_preflight(struct http_exchange *x)
{
    reply_begin(x, 204);
    http_field(x, "Access-Control-Allow-Methods", "HEAD, GET, POST, PUT, PATCH, DELETE");
    http_field(x, "Access-Control-Allow-Headers", "*, Authorization");
    http_field(x, "Access-Control-Max-Age", "7200");
    http_start(x, 0);
    http_end(x);
}

void reply_json(struct http_exchange *x, int status, const char *text, size_t len)
{
    reply_begin(x, status);
    http_field(x, "Content-Type", "application/json; charset=utf-8");
    http_field(x, "X-Content-Type-Options", "nosniff");
    http_start(x, (int64_t)len);
    http_write(x, text, len);
    http_end(x);
}

void reply_fresh_json(struct http_exchange *x, const char *text, size_t len)
{
    reply_begin(x, 200);
    http_field(x, "Content-Type", "application/json");
    http_field(x, "Cache-Control", "no-store");
    http_start(x, (int64_t)len);
    http_write(x, text, len);
    http_end(x);
}

void reply_error(struct http_exchange *x, int status, const char *fmt, ...)
{
    AUTO(buf_deinit) struct buf message = BUF_INIT(MESSAGE_MAX);
    AUTO(buf_deinit) struct buf json = BUF_INIT(MESSAGE_MAX * 6 + 64);
    va_list args;

    va_start(args, fmt);
    buf_vprintf(&message, fmt, args);
    va_end(args);
    buf_str(&message);
    utf8_sanitize((char *)buf_data(&message));
    buf_printf(&json, "{\"code\":%d,\"message\":", status);
    json_append_string(&json, buf_str(&message), buf_len(&message));
    buf_append_byte(&json, '}');
    reply_json(x, status, buf_str(&json), buf_len(&json));
}

void reply_empty(struct http_exchange *x, int status)
{
    reply_begin(x, status);
    http_start(x, 0);
    http_end(x);
}
