/* See egress_http.h. Heads are written anew; bodies pass in the framing they came in. */
#include "runtime/local/egress/http.h"

#include <string.h>
#include <strings.h>

void egress_http_init(struct egress_http *h, const char *name, bool proxied)
{
    *h = (struct egress_http){.proxied = proxied};
    strcpy(h->name, name);
    http_parser_init(&h->parser, false);
}

void egress_http_deinit(struct egress_http *h)
{
    http_parser_deinit(&h->parser);
}

static bool is_set(const struct pairs *headers, const char *name)
{
    for (size_t i = 0; headers != NULL && i < headers->n; i++) {
        if (strcasecmp(headers->items[i].name, name) == 0)
            return true;
    }
    return false;
}

/* What was meant for a proxy. */
static bool is_for_proxy(const struct http_head *head, const char *name)
{
    static const char *const names[] = {"connection", "keep-alive", "proxy-connection",
                                        "proxy-authorization", "host"};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcasecmp(name, names[i]) == 0)
            return !(head->upgrade && i == 0);
    }
    return false;
}

/* The authority in "http://authority/…", which is the Host of a request to a proxy. */
static void write_host(const struct http_head *head, struct buf *out)
{
    const char *authority = strstr(head->target, "://") + 3;

    buf_append_str(out, "Host: ");
    buf_append(out, authority, (size_t)(head->path - authority));
    buf_append_str(out, "\r\n");
}

static void write_head(const struct egress_http *h, const struct pairs *headers, struct buf *out)
{
    const struct http_head *head = &h->parser.head;
    const char *slash = h->proxied && *head->path != '/' ? "/" : "";

    buf_printf(out, "%s %s%s HTTP/1.%d\r\n", head->method, slash,
               h->proxied ? head->path : head->target, head->minor);
    if (h->proxied && !is_set(headers, "host"))
        write_host(head, out);
    if (h->proxied && !head->upgrade)
        buf_append_str(out, "Connection: close\r\n");
    for (size_t i = 0; i < head->n_headers; i++) {
        const struct http_header *field = &head->headers[i];

        if (!is_set(headers, field->name) && !(h->proxied && is_for_proxy(head, field->name)))
            buf_printf(out, "%s: %s\r\n", field->name, field->value);
    }
    for (size_t i = 0; headers != NULL && i < headers->n; i++)
        buf_printf(out, "%s: %s\r\n", headers->items[i].name, headers->items[i].value);
    buf_append_str(out, "\r\n");
}

/* A request for somebody else on the same connection does not get the headers. */
static bool is_for(const struct egress_http *h)
{
    const char *host = http_header(&h->parser.head, "host");
    char name[EGRESS_NAME_MAX + 1];

    return h->proxied ||
           (host != NULL && egress_name_copy(host, strcspn(host, ":"), name) == EGRESS_SNIFF_NAME &&
            strcmp(name, h->name) == 0);
}

static bool take_head(struct egress_http *h, const struct pairs *headers, struct buf *out)
{
    const struct http_head *head = &h->parser.head;

    if (h->proxied && (h->begun || strncasecmp(head->target, "http://", 7) != 0))
        return false;
    h->begun = true;
    write_head(h, is_for(h) ? headers : NULL, out);
    h->raw = head->upgrade || strcmp(head->method, "CONNECT") == 0;
    return true;
}

static void take_body(struct egress_http *h, struct http_slice body, struct buf *out)
{
    bool chunked = h->parser.head.framing == HTTP_FRAMING_CHUNKED;

    if (chunked)
        buf_printf(out, "%zx\r\n", body.len);
    buf_append(out, body.data, body.len);
    if (chunked)
        buf_append_str(out, "\r\n");
}

bool egress_http_pass(struct egress_http *h, const struct pairs *headers, const uint8_t *data,
                      size_t len, struct buf *out)
{
    struct http_slice body;
    size_t used;

    for (bool more = true; more && !h->raw; data += used, len -= used) {
        switch (http_parser_next(&h->parser, data, len, &used, &body)) {
        case HTTP_NEED_MORE:
            more = false;
            break;
        case HTTP_HEAD:
            if (!take_head(h, headers, out))
                return false;
            break;
        case HTTP_BODY:
            take_body(h, body, out);
            break;
        case HTTP_END:
            if (h->parser.head.framing == HTTP_FRAMING_CHUNKED)
                buf_append_str(out, "0\r\n\r\n");
            http_parser_reset(&h->parser);
            break;
        case HTTP_ERROR:
            return false;
        }
        if (buf_room(out) < EGRESS_HTTP_OUT_MAX / 2)
            return false;
    }
    return buf_append(out, data, len);
}
