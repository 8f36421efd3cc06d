/* Heads on their way through the proxy: written anew, without what concerns one hop only. */
#pragma once

#include "common/http/server.h"

enum { FORWARD_HEAD_MAX = 2 * HTTP_HEAD_MAX };

/*
 * The head for the server behind us. host: the Host it gets, and the real one as X-Forwarded-Host;
 * NULL: as it is. keep: the connection to it may be used again.
 */
void forward_request(struct buf *out, const struct http_head *h, const char *host, bool upgrade,
                     bool keep);
/* The fields of a response, between http_begin() and http_start(). */
void forward_fields(struct http_exchange *x, const struct http_head *h);
