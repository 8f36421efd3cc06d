/* Reaching TCP ports of the sandbox from outside: connects, and gives the socket away (zygote.h).
 */
#pragma once

#include "common/base/list.h"
#include "common/http/loop.h"

#include <stdbool.h>

struct dial {
    struct loop *loop; /* borrowed */
    struct loop_fd listener;
};

/* Takes a listening SOCK_SEQPACKET socket. */
bool dial_init(struct dial *d, struct loop *l, int fd, struct status *st);
