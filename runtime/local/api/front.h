/* What every answer of the control plane may carry: leave for browsers, and limits of rate. */
#pragma once

#include "runtime/local/daemon/daemon.h"

/*
 * Says whether a page of another origin may read the answer. Pages of this machine may, and any
 * page where a key of its own tells friends from strangers: a server that takes any key must not
 * serve whatever site a browser happens to show.
 */
void api_allow_origin(const struct daemon *d, struct http_exchange *x);
/* Answers a browser's question whether it may ask. */
void api_preflight(struct http_exchange *x);

/* Counts a request of that route. False: there were too many, and it is answered with 429. */
bool api_within_rate(struct daemon *d, struct http_exchange *x, size_t route);
