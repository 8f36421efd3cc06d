/* A connection to the first of several addresses that answers. */
#pragma once

#include "runtime/local/egress/egress.h"

struct egress_dial;

/* fd is -1, and error says why, when there is none. From the loop only. */
typedef void egress_dialled(void *ctx, int fd, uint32_t address, int error);

/*
 * Tries the addresses (host byte order, at most EGRESS_DNS_ADDRESSES_MAX) one after the other; each
 * is looked at once more right before, and left out if it may not be reached.
 */
struct egress_dial *egress_dial_start(struct egress_server *s, const uint32_t *addresses, size_t n,
                                      uint16_t port, egress_dialled *done, void *ctx);
void egress_dial_cancel(struct egress_dial *d); /* NULL is fine */
