/*
 * Which client certificates are good: signed by one of the operator's authorities, for clients, and
 * valid now. The authorities may be replaced while the server runs. Any thread.
 *
 * This is asked at the gate, for each call, and not in the handshake: gRPC core ends a handshake
 * that fails without an alert, so a client whose certificate expired yesterday would only see a
 * connection that closes. (That the client has the certificate's key is proven in the handshake.)
 */
#pragma once

#include "common/base/status.h"

#include <stdint.h>

struct clients;

/* authorities: PEM, checked before. */
struct clients *clients_new(const char *authorities);
void clients_free(struct clients *c); /* NULL is fine */
void clients_set_authorities(struct clients *c, const char *authorities);

/* own: PEM; NULL: it brought none. others: PEM, what may lead from it to an authority; NULL:
 * nothing. What was found good is remembered, so that most calls cost a hash. */
bool clients_check(struct clients *c, const char *own, const char *others, int64_t now_ns,
                   struct status *st);
