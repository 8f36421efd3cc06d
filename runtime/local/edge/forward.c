/* See forward.h. */
#include "runtime/local/edge/forward.h"

#include <string.h>
#include <strings.h>

/* Whether a header of the hop to or from us stays behind. */
static bool is_hop(const struct http_head *h, const char *name)
{
    static const char *const names[] = {
        "connection",     "keep-alive", "proxy-connection", "te",     "transfer-encoding",
        "content-length", "upgrade",    "expect",           "trailer"};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcasecmp(name, names[i]) == 0)
            return true;
    }
    return http_header_has(h, "connection", name);
}

static void add_framing(struct buf *out, const struct http_head *h)
{
    switch (h->framing) {
    case HTTP_FRAMING_LENGTH:
        buf_printf(out, "Content-Length: %llu\r\n", (unsigned long long)h->content_length);
        break;
    case HTTP_FRAMING_CHUNKED:
        buf_append_str(out, "Transfer-Encoding: chunked\r\n");
        break;
    case HTTP_FRAMING_NONE:
        if (http_header(h, "content-length") != NULL)
            buf_append_str(out, "Content-Length: 0\r\n");
        break;
    case HTTP_FRAMING_CLOSE:
        break;
    }
}

static bool is_host(const char *name)
{
    return strcasecmp(name, "host") == 0 || strcasecmp(name, "x-forwarded-host") == 0;
}

static void add_host(struct buf *out, const struct http_head *h, const char *host)
{
    const char *real = http_header(h, "host");

    if (host != NULL && real != NULL)
        buf_printf(out, "X-Forwarded-Host: %s\r\n", real);
    if (host != NULL || real == NULL)
        buf_printf(out, "Host: %s\r\n", host != NULL ? host : "localhost");
}

void forward_request(struct buf *out, const struct http_head *h, const char *host, bool upgrade,
                     bool keep)
{
    const char *slash = *h->path == '/' || *h->path == '*' ? "" : "/";

    buf_printf(out, "%s %s%s HTTP/1.1\r\n", h->method, slash, h->path);
    for (size_t i = 0; i < h->n_headers; i++) {
        const char *name = h->headers[i].name;

        if (!is_hop(h, name) && !(host != NULL && is_host(name)))
            buf_printf(out, "%s: %s\r\n", name, h->headers[i].value);
    }
    add_host(out, h, host);
    add_framing(out, h);
    if (upgrade)
        buf_printf(out, "Connection: Upgrade\r\nUpgrade: %s\r\n", http_header(h, "upgrade"));
    else if (!keep)
        buf_append_str(out, "Connection: close\r\n");
    buf_append_str(out, "\r\n");
}

void forward_fields(struct http_exchange *x, const struct http_head *h)
{
    for (size_t i = 0; i < h->n_headers; i++) {
        if (!is_hop(h, h->headers[i].name))
            http_field(x, h->headers[i].name, h->headers[i].value);
    }
}
