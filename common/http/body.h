/* A request's body as a whole, for handlers that need all of it before they begin. */
#pragma once

#include "common/http/server.h"

/*
 * Calls done with the body once it is complete; the bytes belong to the caller of done, the
 * exchange is the handler's again (attach what it needs). A body over max is answered with 413.
 */
void http_collect(struct http_exchange *x, size_t max,
                  void (*done)(struct http_exchange *x, void *ctx, const uint8_t *data, size_t len),
                  void *ctx);
