/*
 * Whom a client means, by the first bytes it sends: the server name in a TLS ClientHello, or the
 * Host of an HTTP request. Pure, and made for hostile input.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

enum {
    EGRESS_NAME_MAX = 253,
    EGRESS_SNIFF_MAX = 32 << 10, /* what does not name anybody by then, does not */
};

enum egress_sniff {
    EGRESS_SNIFF_MORE, /* cannot be said yet */
    EGRESS_SNIFF_NAME,
    EGRESS_SNIFF_NONE, /* no name, or something else altogether */
};

/* A name of letters, digits, '-', '_' and '.', lower case, without a dot at the end. */
enum egress_sniff egress_sniff_tls(const uint8_t *data, size_t len,
                                   char name[static EGRESS_NAME_MAX + 1]);
enum egress_sniff egress_sniff_http(const uint8_t *data, size_t len,
                                    char name[static EGRESS_NAME_MAX + 1]);

/* Copies a name as it is described above; EGRESS_SNIFF_NONE when it is none. */
enum egress_sniff egress_name_copy(const char *from, size_t len,
                                   char name[static EGRESS_NAME_MAX + 1]);
