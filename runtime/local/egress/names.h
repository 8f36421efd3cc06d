/*
 * Which names a sandbox was given which addresses for: what lets a connection to an allowed domain
 * through that does not say itself whom it is for. Bounded: the oldest is forgotten. Pure.
 */
#pragma once

#include "runtime/local/egress/policy.h"

enum { EGRESS_NAMES_MAX = 512 };

struct egress_name {
    char *name; /* owned */
    uint32_t address;
    int64_t until_ns;
};

struct egress_names {
    struct egress_name *at; /* owned; a ring */
    size_t next;
};

void egress_names_deinit(struct egress_names *n);
void egress_names_add(struct egress_names *n, const char *name, uint32_t address, int64_t until_ns);
/* A name for the address that the policy allows; NULL when there is none. */
const char *egress_names_find(const struct egress_names *n, uint32_t address,
                              const struct egress_policy *policy, int64_t now_ns);
