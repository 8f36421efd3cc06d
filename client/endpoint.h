/* An address, and the connection to it that calls share. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct endpoint; /* must outlive its calls */

struct endpoint_tls {
    const char *ca, *cert, *key, *server_name; /* as in struct sandbox_client_options */
};

/* tls is read now; NULL: connections are not encrypted. */
struct endpoint *endpoint_new(const char *address, int64_t connect_timeout_ms,
                              const char *user_agent, const struct endpoint_tls *tls);
void endpoint_free(struct endpoint *e); /* NULL is fine */
const char *endpoint_address(const struct endpoint *e);

/*
 * Waits for a connection until until_ns (monotonic), so that a call which fails afterwards may have
 * been heard and one that fails before was not. False: there is none.
 */
bool endpoint_connect(struct endpoint *e, int64_t until_ns);
