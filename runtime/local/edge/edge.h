/* The answers the proxy gives in a sandbox's place, in the shapes E2B's clients look for. */
#pragma once

#include "common/http/server.h"

#include <stdint.h>

/* The header that opens the ports of a sandbox which are not for everybody. */
#define EDGE_TRAFFIC_TOKEN "e2b-traffic-access-token"

void edge_not_found(struct http_exchange *x, const char *sandbox_id);
void edge_port_closed(struct http_exchange *x, const char *sandbox_id, uint16_t port);
/* given: there was a token, a wrong one. */
void edge_traffic_refused(struct http_exchange *x, const char *sandbox_id, bool given);
/* A route of envd that is not for the outside. */
void edge_forbidden_path(struct http_exchange *x);
void edge_bad_route(struct http_exchange *x, const char *why);

/* Whether the path of a request to the agent is one of those. */
bool edge_is_forbidden_path(const struct http_head *h);
/* Whether a person looks at the answer. */
bool edge_is_browser(const struct http_head *h);
