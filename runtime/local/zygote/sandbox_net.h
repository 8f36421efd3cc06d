/*
 * The network of a sandbox: a namespace with a loopback interface and nothing else. Every address
 * in the world is one of that interface's, and what programs send there arrives at two sockets that
 * were made inside and are served by the daemon outside. There is no other way out, whatever rules
 * the sandbox manages to change.
 *
 * Where the kernel has nf_tables, programs notice nothing: connections are redirected, and so are
 * questions to any name server. Elsewhere the same two sockets are an HTTP proxy and a name server,
 * and all other addresses are unreachable.
 */
#pragma once

#include "common/base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The sandbox's own address, and that of the two sockets; the same as in E2B's sandboxes. */
#define SANDBOX_NET_SELF "169.254.0.21"
#define SANDBOX_NET_GATEWAY "169.254.0.22"
enum { SANDBOX_NET_PORT = 61128 }; /* beyond the ports that are given out by themselves */
#define SANDBOX_NET_PROXY_URL "http://" SANDBOX_NET_GATEWAY ":61128"

enum { SANDBOX_NET_ROUTES_MAX = 512, SANDBOX_NET_RULES_MAX = 4096 };

/* Composed once, at the zygote's start; replayed for each sandbox. */
struct sandbox_net {
    bool redirects; /* else programs have to use the proxy */
    _Alignas(8) uint8_t routes[SANDBOX_NET_ROUTES_MAX];
    size_t routes_len;
    _Alignas(8) uint8_t rules[SANDBOX_NET_RULES_MAX];
    size_t rules_len;
};

struct sandbox_net_sockets {
    int tcp_fd; /* listens for connections */
    int dns_fd; /* receives questions */
};

/* Finds out what the kernel can do, in a namespace of its own. proxy: do not try to redirect. */
void sandbox_net_init(struct sandbox_net *net, bool proxy);

/*
 * Builds the network of the namespace the caller is in, over which it must have all capabilities.
 * False: errno, and *ret_step says what could not be done.
 */
bool sandbox_net_enter(const struct sandbox_net *net, struct sandbox_net_sockets *ret,
                       const char **ret_step);
