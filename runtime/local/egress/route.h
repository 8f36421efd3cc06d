/*
 * Where the host's kernel would send packets to: the exact answer to whether an address is the
 * host's own, with all its interfaces and routing tables as they are at this moment.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* A socket to ask with; -1: errno. */
int egress_route_open(void);
/* Whether the address (host byte order) is on another machine and there is a way to it. */
bool egress_route_leaves(int fd, uint32_t address);
