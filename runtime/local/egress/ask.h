/* One question to the name server of a sandbox, from its bytes to the bytes of the answer. */
#pragma once

#include "runtime/local/egress/egress.h"

struct egress_asked;

/* answer: a whole message; its size is for the asker to look at. */
typedef void egress_answered(void *ctx, const struct egress_dns_question *q, struct buf *answer);

/*
 * The callback comes once, maybe from inside the call, and then NULL is returned; unless what was
 * asked is not to be answered at all, or cancelled.
 */
struct egress_asked *egress_ask(struct egress *e, const uint8_t *data, size_t len,
                                egress_answered *done, void *ctx);
void egress_ask_cancel(struct egress_asked *a); /* NULL is fine */

/* The UDP socket: e->dns is readable. */
void egress_ask_datagrams(struct egress *e);
void egress_ask_cancel_all(struct egress *e);
