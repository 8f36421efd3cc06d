/*
 * See egress_conn.h. Clients that take us for an HTTP proxy, which they have to where connections
 * cannot be redirected: "CONNECT host:port", and "GET http://host/…" for what is not encrypted.
 */
#include "common/base/cleanup.h"
#include "common/base/clock.h"
#include "common/http/server.h"
#include "runtime/local/egress/conn.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

void egress_proxy_reply(struct egress_conn *c, int status, const char *why)
{
    AUTO(buf_deinit) struct buf text = BUF_INIT(1024);

    if (why == NULL)
        buf_printf(&text, "HTTP/1.1 %d Connection established\r\n\r\n", status);
    else
        buf_printf(&text,
                   "HTTP/1.1 %d %s\r\nContent-Type: text/plain; charset=utf-8\r\n"
                   "Content-Length: %zu\r\nConnection: close\r\n\r\n%s\n",
                   status, http_reason(status), strlen(why) + 1, why);
    stream_send_bytes(&c->duplex.side[0], buf_data(&text), buf_len(&text));
}

/* "host:port" or "host"; 0 as port_missing: there must be one. */
static bool read_authority(struct egress_conn *c, const char *text, size_t len,
                           uint16_t port_missing)
{
    const char *colon = memrchr(text, ':', len);
    size_t host_len = colon != NULL ? (size_t)(colon - text) : len;
    char host[INET_ADDRSTRLEN];
    struct in_addr v4;
    unsigned long port = port_missing;

    if (colon != NULL)
        port = strspn(colon + 1, "0123456789") >= len - host_len - 1 && len - host_len <= 6
                   ? strtoul(colon + 1, NULL, 10)
                   : 0;
    if (port == 0 || port > 65535)
        return false;
    c->port = (uint16_t)port;
    if (host_len < sizeof(host)) {
        memcpy(host, text, host_len);
        host[host_len] = '\0';
        if (inet_pton(AF_INET, host, &v4) == 1) {
            c->address = ntohl(v4.s_addr);
            return true;
        }
    }
    return egress_name_copy(text, host_len, c->name) == EGRESS_SNIFF_NAME;
}

static bool read_target(struct egress_conn *c, const struct http_head *h)
{
    c->connects = strcmp(h->method, "CONNECT") == 0;
    if (c->connects)
        return read_authority(c, h->target, strlen(h->target), 0);
    return strncasecmp(h->target, "http://", 7) == 0 &&
           read_authority(c, h->target + 7, (size_t)(h->path - h->target) - 7, 80);
}

static void judge(struct egress_conn *c)
{
    struct egress *e = c->egress;
    const char *name;

    if (c->name[0] != '\0') {
        if (egress_policy_resolves(&e->policy, c->name))
            egress_conn_resolve(c);
        else
            egress_conn_deny(c, "a rule of this sandbox denies it");
        return;
    }
    name = egress_names_find(&e->names, c->address, &e->policy, clock_monotonic_ns());
    if (!egress_may_reach(e->server, c->address, c->port)) {
        egress_conn_deny(c, "the address is one that no sandbox may reach");
    } else if (egress_policy_permits(&e->policy, c->address, name)) {
        if (name != NULL)
            strcpy(c->name, name);
        egress_conn_dial(c, &c->address, 1);
    } else {
        egress_conn_deny(c, "a rule of this sandbox denies it");
    }
}

static void on_request(struct stream *s)
{
    struct egress_conn *c = container_of(s, struct egress_conn, duplex.side[0]);
    struct http_parser parser;
    struct http_slice body;
    enum http_event event;
    bool fine = false;
    size_t used;

    if (!egress_conn_read(c))
        return;
    http_parser_init(&parser, false);
    event = http_parser_next(&parser, buf_data(&c->in), buf_len(&c->in), &used, &body);
    if (event == HTTP_HEAD)
        fine = read_target(c, &parser.head);
    http_parser_deinit(&parser);
    if (event == HTTP_NEED_MORE)
        return;
    /* What follows CONNECT is for the server; any other request is written anew. */
    if (c->connects)
        buf_consume(&c->in, used);
    if (fine)
        judge(c);
    else
        egress_conn_fail(c, "this is an HTTP proxy: CONNECT host:port, or GET http://host/path");
}

void egress_proxy_start(struct egress_conn *c)
{
    c->duplex.side[0].readable = on_request;
}
