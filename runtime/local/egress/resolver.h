/*
 * Names to addresses, as the host resolves them: its hosts file, then its name servers; or those
 * that are given. One for all sandboxes, on the loop's thread. Answers are kept for a short while.
 *
 * Callbacks come from the loop, never from inside a call.
 */
#pragma once

#include "common/http/loop.h"
#include "runtime/local/egress/dns.h"

struct egress_resolver;
struct egress_lookup;

/* servers: "IP[:PORT],…", or NULL for the host's; they are taken up when they change. */
struct egress_resolver *egress_resolver_new(struct loop *l, const char *servers, struct status *st);
/* Lookups under way are to be cancelled before. NULL is fine. */
void egress_resolver_free(struct egress_resolver *r);

/* EGRESS_DNS_OK without an address: the name exists, but has none of IPv4. */
typedef void egress_resolved(void *ctx, enum egress_dns_code code,
                             const struct egress_dns_address *addresses, size_t n);
/* The message of the server that was asked; NULL: there is none. */
typedef void egress_relayed(void *ctx, const uint8_t *data, size_t len);

/* Both last until their callback, or until cancelled. The name is one of egress_sniff.h. */
struct egress_lookup *egress_resolve(struct egress_resolver *r, const char *name,
                                     egress_resolved *done, void *ctx);
struct egress_lookup *egress_query(struct egress_resolver *r, const char *name, uint16_t type,
                                   egress_relayed *done, void *ctx);
void egress_lookup_cancel(struct egress_lookup *l); /* NULL is fine */
