/*
 * What a sandbox may reach: the rules of E2B's `network` and `allow_internet_access`, read from
 * their JSON, and the questions they answer. Pure.
 *
 * Only IPv4 leaves a sandbox; entries for IPv6 are checked and have no effect.
 */
#pragma once

#include "common/base/status.h"
#include "runtime/local/daemon/registry.h"
#include "runtime/local/egress/range.h"

#include <json-c/json_object.h>

/* Headers that are set in requests to a domain. */
struct egress_rule {
    char *domain; /* owned */
    struct pairs headers;
};

struct egress_policy {
    struct egress_ranges allow; /* beats deny */
    struct egress_ranges deny;
    char **domains; /* owned; the patterns of allowOut */
    size_t n_domains;
    struct egress_rule *rules; /* owned */
    size_t n_rules;
};

/*
 * network: the object of a request, or NULL. internet false denies everything but what is allowed.
 * INVALID_ARGUMENT in E2B's words; PERMISSION_DENIED for what E2B has to be asked for. p is
 * initialised in any case.
 */
bool egress_policy_parse(struct egress_policy *p, const struct json_object *network, bool internet,
                         struct status *st);
void egress_policy_deinit(struct egress_policy *p);

enum egress_verdict {
    EGRESS_ALLOWED, /* by a rule */
    EGRESS_DENIED,
    EGRESS_NO_RULE, /* which means allowed */
};

enum egress_verdict egress_policy_address(const struct egress_policy *p, uint32_t address);
/* Whether allowOut names it. */
bool egress_policy_domain(const struct egress_policy *p, const char *name);
/* Whether a connection to the address may go on that was made for the name, if one is known. */
bool egress_policy_permits(const struct egress_policy *p, uint32_t address, const char *name);
/* Whether the name may be looked up: always, unless all addresses are denied. */
bool egress_policy_resolves(const struct egress_policy *p, const char *name);
/* The headers to set in requests to the name; NULL for none. */
const struct pairs *egress_policy_headers(const struct egress_policy *p, const char *name);

/* Whether the name fits: "*" all, "*.example.com" what is below it, else the same name. */
bool egress_domain_fits(const char *pattern, const char *name);
