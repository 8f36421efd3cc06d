/* The certificate of the gRPC port: what each new connection is met with, replaceable at any time.
 */
#pragma once

#include "service/rpc/server.h"

#include <grpc/grpc_security.h>

struct tls;

struct tls *tls_new(const struct server_certificate *first);
void tls_free(struct tls *t); /* after core's credentials; NULL is fine */

/* Any thread. Copies. */
void tls_set(struct tls *t, const struct server_certificate *c);

/* For one port. */
grpc_server_credentials *tls_credentials(struct tls *t);
