/*
 * The way out of the sandboxes. Each has two sockets in its network namespace (sandbox_net.h) that
 * are served here: connections are judged by the sandbox's policy, dialled from the host and
 * relayed; names are looked up. All on the loop's thread.
 *
 * Whatever a policy says, no address of the host, of a private network or of a cloud's own services
 * is ever dialled, but those in `open`. An address is judged right before it is dialled, after
 * names are resolved: a name that changes its address gains nothing.
 *
 * What is denied is reset at once, or answered 403 where we are an HTTP proxy, so that programs
 * fail and do not wait.
 */
#pragma once

#include "common/base/list.h"
#include "runtime/local/egress/names.h"
#include "runtime/local/egress/policy.h"
#include "runtime/local/egress/resolver.h"

enum {
    EGRESS_CHUNK = 32 << 10,      /* one read; and about what waits per direction */
    EGRESS_CONNECTIONS_MAX = 512, /* of a sandbox; more wait to be accepted */
    EGRESS_QUESTIONS_MAX = 128,   /* of a sandbox at a time; more fail */
};

/* What all sandboxes share. */
struct egress_server {
    struct loop *loop;                /* borrowed */
    struct egress_resolver *resolver; /* owned */
    struct egress_ranges open;        /* reachable though private or the host's */
    int route_fd;                     /* owned; see egress_route.h */
    uint8_t *scratch;                 /* owned; EGRESS_CHUNK */
    size_t n_connections;
    size_t connections_max; /* so that descriptors are left for everything else */
};

/* name_servers: as of egress_resolver_new(). open: n texts "ADDRESS[/BITS][:PORT][,…]". */
bool egress_server_init(struct egress_server *s, struct loop *l, const char *name_servers,
                        const char *const *open, size_t n, struct status *st);
void egress_server_deinit(struct egress_server *s); /* may be called twice */

/* Whether the address is one that any sandbox may reach. port 0: at any port. */
bool egress_may_reach(const struct egress_server *s, uint32_t address, uint16_t port);

/* The way out of one sandbox. */
struct egress {
    struct egress_server *server; /* borrowed */
    char id[SANDBOX_ID_LEN + 1];  /* for the log */
    struct egress_policy policy;
    struct egress_names names;
    struct loop_fd listener;
    struct loop_fd dns;
    struct loop_timer breath; /* before accepting again, when descriptors ran out */
    struct list connections;
    size_t n_connections;
    struct list questions;
    size_t n_questions;
    unsigned n_told; /* denials that were logged since the policy was set */
};

/* Takes both descriptors and the policy. */
struct egress *egress_new(struct egress_server *s, const char *id, int take_tcp_fd, int take_dns_fd,
                          struct egress_policy *take);
/* Takes the policy, and cuts the connections it does not permit. */
void egress_set_policy(struct egress *e, struct egress_policy *take);
void egress_free(struct egress *e); /* cuts all; NULL is fine */

/* For the connections. */
void egress_connection_ended(struct egress *e);
/* Puts a denial into the log, the first few. */
void egress_tell_denied(struct egress *e, uint32_t address, uint16_t port, const char *name,
                        const char *why);
