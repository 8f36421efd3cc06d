/*
 * The server's certificate and what belongs to it, read from files and checked before it is used: a
 * rotation that went wrong must not take the place of one that works.
 */
#pragma once

#include "common/base/status.h"
#include "service/identity/watch.h"
#include "service/rpc/server.h"

#include <stdint.h>

struct certificate_files {
    const char *chain, *key; /* paths */
    const char *client_ca;   /* path; NULL: clients need no certificate */
};

struct certificate {
    struct server_certificate pem; /* its strings are owned */
    int64_t not_after_ns;          /* when the first of the chain expires; wall clock */
    char subject[256];
};

/* False: they cannot be used, st says why. */
bool certificate_read(const struct certificate_files *files, int64_t now_ns,
                      struct certificate *ret, struct status *st);
void certificate_deinit(struct certificate *c); /* may be called twice */
