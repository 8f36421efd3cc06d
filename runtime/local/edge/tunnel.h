/* What a connection becomes after an upgrade: bytes both ways until both sides are done. */
#pragma once

#include "runtime/local/edge/proxy.h"

/*
 * Takes all of it: the client's socket, what it sent behind its request (to_server), what it has
 * still to get (to_client), and the server's socket.
 */
void tunnel_start(struct daemon *d, struct sandbox *s, int client_fd, struct buf *to_server,
                  struct buf *to_client, int server_fd);
