/*
 * The keys that callers may bring, and whose they are, as the operator's file says it. A line is
 *
 *   key TENANT sha256:HEX [NAME]
 *   tenant TENANT [templates=A,B,…] [max-calls=N] [max-streams=N] [creates-per-minute=N]
 *
 * or empty, or a comment from # on. Keys are long and random, so their plain SHA-256 is safe to
 * store: there is nothing to guess. A keyring does not change; a new file makes a new one. Pure.
 */
#pragma once

#include "common/base/sha256.h"
#include "common/base/status.h"
#include "service/limits/limiter.h"

#include <stdatomic.h>
#include <stddef.h>

enum {
    KEYRING_TENANT_MAX = 63, /* letters of a tenant's name */
    KEYRING_KEYS_MAX = 4096,
    KEYRING_KEY_LEN_MAX = 512, /* longer ones are not looked at */
    KEYRING_FILE_MAX = 1 << 20,
};

struct keyring_tenant {
    char name[KEYRING_TENANT_MAX + 1];
    char **templates;   /* owned, as are they */
    size_t n_templates; /* 0: all are allowed */
    struct limits limits;
    bool has_line;
};

struct keyring_key {
    uint8_t digest[SHA256_LEN];
    size_t tenant; /* its index */
};

struct keyring {
    atomic_int refs;
    struct keyring_tenant *tenants; /* owned */
    size_t n_tenants;
    struct keyring_key *keys; /* owned */
    size_t n_keys;
};

/* defaults: the limits of tenants whose line does not say otherwise. st names the line, and nothing
 * of what stands in it: it may be a key that was pasted unhashed. */
bool keyring_parse(const char *text, size_t len, const struct limits *defaults,
                   struct keyring **ret, struct status *st);

struct keyring *keyring_ref(struct keyring *k);
void keyring_unref(struct keyring *k); /* NULL is fine */

/* Whose key this is; NULL: nobody's. Takes as long for one as for the other. */
const struct keyring_tenant *keyring_find(const struct keyring *k, const char *key);

/* A name that a tenant may have: small letters, digits, and - or single _ inside. */
bool keyring_is_tenant(const char *name);
