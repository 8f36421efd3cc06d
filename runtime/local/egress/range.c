/* See egress_range.h. */
#include "runtime/local/egress/range.h"

#include "common/base/cleanup.h"
#include "common/base/mem.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

static uint32_t mask_of(unsigned bits)
{
    return bits == 0 ? 0 : UINT32_MAX << (32 - bits);
}

static bool parse_number(const char *text, unsigned max, unsigned *ret)
{
    size_t len = strlen(text);

    if (len == 0 || len > 5 || strspn(text, "0123456789") != len)
        return false;
    *ret = (unsigned)strtoul(text, NULL, 10);
    return *ret <= max;
}

/* Cuts text at the last c; the part behind it, or NULL. */
static char *split_at(char *text, char c)
{
    char *at = strrchr(text, c);

    if (at != NULL)
        *at++ = '\0';
    return at;
}

bool egress_range_parse(const char *text, bool with_port, struct egress_range *ret)
{
    AUTO_FREE char *copy = xstrdup(text);
    char *port_text = with_port ? split_at(copy, ':') : NULL;
    char *bits_text = split_at(copy, '/');
    unsigned bits = 32, port = 0;
    struct in_addr v4;

    if (inet_pton(AF_INET, copy, &v4) != 1 ||
        (bits_text != NULL && !parse_number(bits_text, 32, &bits)) ||
        (port_text != NULL && (!parse_number(port_text, 65535, &port) || port == 0)))
        return false;
    *ret = (struct egress_range){.mask = mask_of(bits), .port = (uint16_t)port};
    ret->base = ntohl(v4.s_addr) & ret->mask;
    return true;
}

void egress_ranges_add(struct egress_ranges *r, struct egress_range range)
{
    r->at = xrealloc(r->at, (r->n + 1) * sizeof(*r->at));
    r->at[r->n++] = range;
}

bool egress_ranges_have(const struct egress_ranges *r, uint32_t address, uint16_t port)
{
    for (size_t i = 0; i < r->n; i++) {
        const struct egress_range *range = &r->at[i];

        if ((address & range->mask) == range->base &&
            (port == 0 || range->port == 0 || range->port == port))
            return true;
    }
    return false;
}

bool egress_is_private(uint32_t address)
{
    static const struct {
        uint32_t base;
        unsigned bits;
    } ranges[] = {
        {0x00000000, 8},  /* this network */
        {0x0a000000, 8},  /* private */
        {0x64400000, 10}, /* shared: carriers' NAT, and clouds' own services */
        {0x7f000000, 8},  /* loopback */
        {0xa9fe0000, 16}, /* link-local, and clouds' metadata */
        {0xac100000, 12}, /* private */
        {0xc0000000, 24}, /* protocol assignments, among them NAT64's discovery */
        {0xc0586300, 24}, /* relays from IPv6 */
        {0xc0a80000, 16}, /* private */
        {0xc6120000, 15}, /* benchmarks */
        {0xe0000000, 4},  /* multicast */
        {0xf0000000, 4},  /* reserved, and broadcast */
    };

    for (size_t i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++) {
        if ((address & mask_of(ranges[i].bits)) == ranges[i].base)
            return true;
    }
    return false;
}

bool egress_range_parse_v6(const char *text, struct egress_range *ret, bool *ret_v4,
                           bool *ret_unset)
{
    static const struct in6_addr unset;
    AUTO_FREE char *copy = xstrdup(text);
    char *bits_text = split_at(copy, '/');
    unsigned bits = 128;
    struct in6_addr v6;
    uint32_t low;

    if (inet_pton(AF_INET6, copy, &v6) != 1 ||
        (bits_text != NULL && !parse_number(bits_text, 128, &bits)))
        return false;
    *ret_v4 = IN6_IS_ADDR_V4MAPPED(&v6) && bits >= 96;
    *ret_unset = memcmp(&v6, &unset, sizeof(v6)) == 0;
    if (*ret_v4) {
        memcpy(&low, &v6.s6_addr[12], sizeof(low));
        *ret = (struct egress_range){.mask = mask_of(bits - 96)};
        ret->base = ntohl(low) & ret->mask;
    }
    return true;
}
