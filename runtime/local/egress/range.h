/* Ranges of IPv4 addresses, and which of them no sandbox may reach. Pure. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Addresses in host byte order. */
struct egress_range {
    uint32_t base;
    uint32_t mask;
    uint16_t port; /* 0: all; only --egress-allow names one */
};

struct egress_ranges {
    struct egress_range *at; /* owned */
    size_t n;
};

/* "A.B.C.D", "A.B.C.D/N"; with_port: and ":PORT" behind it. False: it is none. */
bool egress_range_parse(const char *text, bool with_port, struct egress_range *ret);
void egress_ranges_add(struct egress_ranges *r, struct egress_range range);
/* port 0: that of the range does not matter. */
bool egress_ranges_have(const struct egress_ranges *r, uint32_t address, uint16_t port);

/* Never reachable from a sandbox: private, link-local, loopback, shared, multicast, reserved. */
bool egress_is_private(uint32_t address);
/*
 * An IPv6 address or range. *ret_v4: it stands for IPv4 (::ffff:0:0/96) and is put into *ret.
 * *ret_unset: its address is "::". False: it is none.
 */
bool egress_range_parse_v6(const char *text, struct egress_range *ret, bool *ret_v4,
                           bool *ret_unset);
