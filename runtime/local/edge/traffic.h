/* Requests for a sandbox: passed on, and if it does not run, it may be resumed for them. */
#pragma once

#include "runtime/local/daemon/daemon.h"
#include "runtime/local/edge/route.h"

void traffic_request(struct daemon *d, struct http_exchange *x, const struct route *route);
