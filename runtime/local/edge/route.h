/*
 * Where a request goes, by its Host and E2B's two routing headers: the control plane or a port of a
 * sandbox. Pure.
 */
#pragma once

#include "common/http/parser.h"
#include "runtime/local/daemon/registry.h"

enum { ROUTE_ID_MAX = 64, ROUTE_ENVD_PORT = 49983 };

enum route_result {
    ROUTE_API,
    ROUTE_SANDBOX,
    ROUTE_BAD, /* why says what is wrong */
};

struct route {
    char sandbox_id[ROUTE_ID_MAX + 1];
    uint16_t port;
    const char *why;
};

/* domain: that of --domain, with or without a port; NULL for none. */
enum route_result route_find(const struct http_head *h, const char *domain, struct route *ret);

/*
 * Whether the control plane answers to this Host without a key of its own to tell friends from
 * strangers. A page of any site can make a browser call us under a name of its own (DNS rebinding),
 * so only addresses, "localhost", names without a dot, and the domain are taken.
 */
bool route_host_is_local(const struct http_head *h, const char *domain);
/* The same for the origin of a page, as browsers send it: "http://NAME[:PORT]". */
bool route_origin_is_local(const char *origin, const char *domain);
