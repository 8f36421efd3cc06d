/* Asks a sandbox's agent for a TCP connection to a port inside, without waiting for it. */
#pragma once

#include "common/http/loop.h"

#include <stdint.h>

struct dial;

/* fd is a connected, non-blocking TCP socket that is the callee's; or -1, and error an errno. */
typedef void dial_done(void *ctx, int fd, int error);

/* path: the sandbox's dial.sock. NULL, with errno set, when the agent cannot be asked. */
struct dial *dial_start(struct loop *l, const char *path, uint16_t port, dial_done *done,
                        void *ctx);
/* done is not called any more. NULL is fine. */
void dial_cancel(struct dial *d);
