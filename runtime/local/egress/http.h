/*
 * Plain HTTP requests on their way out: with the headers that a rule sets, and, when they came as
 * to a proxy, with the target as servers expect it. Pure: bytes in, bytes out.
 *
 * Answers are not looked at. After an upgrade, and after CONNECT, it is bytes.
 */
#pragma once

#include "common/http/parser.h"
#include "runtime/local/daemon/registry.h"
#include "runtime/local/egress/sniff.h"

struct egress_http {
    struct http_parser parser;
    char name[EGRESS_NAME_MAX + 1]; /* whom the connection was made to; headers are for no other */
    bool proxied;                   /* the one request of this connection came as to a proxy */
    bool begun;                     /* a request was seen */
    bool raw;                       /* it is bytes from here on */
};

enum { EGRESS_HTTP_OUT_MAX = 512 << 10 };

void egress_http_init(struct egress_http *h, const char *name, bool proxied);
void egress_http_deinit(struct egress_http *h);

/*
 * Appends what is to be sent for the bytes that came, at most 32 KiB; out has room for
 * EGRESS_HTTP_OUT_MAX. headers: of the rule for the name, or NULL. False: cut the connection.
 */
bool egress_http_pass(struct egress_http *h, const struct pairs *headers, const uint8_t *data,
                      size_t len, struct buf *out);
