/*
 * The edge: relays requests to the agent of a sandbox or to a TCP port inside it, as they come, in
 * both directions at once, with memory bounded by what one side is ahead of the other.
 */
#pragma once

#include "runtime/local/daemon/daemon.h"
#include "runtime/local/edge/route.h"

/* Something that goes on with a sandbox, and is cut when that ends. */
struct proxied {
    struct list in_sandbox;
    void (*cut)(struct proxied *p); /* takes it out of the list and frees it */
};

/* Whether the request may go to that port; answered when not. */
bool proxy_admits(const struct sandbox *s, struct http_exchange *x, const struct route *route);
/* Takes the exchange. */
void proxy_request(struct daemon *d, struct http_exchange *x, const struct route *route);
/* Cuts everything, abruptly, so that no stream looks complete. */
void proxy_cut(struct sandbox *s);
