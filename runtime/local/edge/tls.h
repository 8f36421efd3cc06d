/*
 * HTTPS on the port of HTTP: a connection whose first byte begins a TLS handshake is decrypted, and
 * handed to the HTTP server as one end of a pair of sockets; any other is handed on as it is. So
 * nothing else needs to know of TLS, tunnels included.
 *
 * Every name of the domain gets a certificate made for it: clients do not take a wildcard directly
 * below "localhost".
 */
#pragma once

#include "common/http/server.h"

struct tls_server;

/* dir: where the authority is kept. domain: with or without a port; NULL for none. */
struct tls_server *tls_server_new(struct loop *l, const char *dir, const char *domain,
                                  struct status *st);
void tls_server_free(struct tls_server *t); /* cuts every connection; NULL is fine */

/* Takes a new connection, which is for http in the end. */
void tls_server_take(struct tls_server *t, struct http_server *http, int fd);
