/* Connections to a sandbox's agent that wait for the next request. */
#pragma once

#include "runtime/local/daemon/daemon.h"

/* Takes a connection on which nothing is pending. */
void pool_put(struct daemon *d, struct sandbox *s, int fd);
/* One that was open a moment ago; -1: there is none. */
int pool_take(struct sandbox *s);
void pool_clear(struct sandbox *s);
