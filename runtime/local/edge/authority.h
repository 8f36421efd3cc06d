/*
 * A certificate authority of our own, kept in the data directory, and the certificates it issues.
 *
 *   authority.pem  its key and certificate, for us alone
 *   ca.pem         its certificate, for clients to trust
 */
#pragma once

#include "common/base/status.h"

#include <openssl/types.h>
#include <stddef.h>

struct authority {
    X509 *certificate; /* owned */
    EVP_PKEY *key;     /* owned */
    EVP_PKEY *leaf;    /* owned; the key of all it issues, new with every load */
};

#define AUTHORITY_CA_FILE "ca.pem"

/* Reads the one in the directory, or makes it. */
bool authority_load(struct authority *a, const char *dir, struct status *st);
void authority_deinit(struct authority *a); /* may be called twice */

/*
 * A certificate for a->leaf under these names: DNS names or IP addresses. The caller's to free;
 * NULL when a name is not fit for one.
 */
X509 *authority_issue(const struct authority *a, const char *const *names, size_t n);
