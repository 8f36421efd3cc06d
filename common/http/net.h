/* Sockets by address. Names are not resolved: numeric addresses, "localhost", "*" for any. */
#pragma once

#include "common/base/status.h"

#include <stdbool.h>
#include <stddef.h>

/* Listens on "HOST:PORT" or "[V6]:PORT"; port 0 lets the kernel choose. */
bool net_listen_tcp(const char *address, int *ret_fd, struct status *st);
/* Listens on a path with a socket of that type. What an earlier process left there is removed. */
bool net_listen_unix(const char *path, int type, int *ret_fd, struct status *st);
/* Connects, and waits for it; the socket blocks. */
bool net_connect_tcp(const char *address, int *ret_fd, struct status *st);
/* Connects without waiting for it: writable when done, SO_ERROR says how. */
bool net_connect_unix(const char *path, int type, int *ret_fd, struct status *st);
/* The socket's own address as "HOST:PORT". */
bool net_local_name(int fd, char *text, size_t size);
