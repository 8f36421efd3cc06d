/*
 * The Idempotency-Key of a create: saying the same twice makes one sandbox. The key lives as long
 * as its sandbox, with a digest of what was asked for under it.
 */
#pragma once

#include "common/base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct creation_key {
    char *text;         /* owned; NULL: none was given */
    uint8_t digest[32]; /* of the request */
};

/* Both copied. False: the text is not of the form that E2B takes. text NULL: no key. */
bool creation_key_set(struct creation_key *k, const char *text, const char *request, size_t len,
                      struct status *st);
struct creation_key creation_key_copy(const struct creation_key *k);
void creation_key_deinit(struct creation_key *k);

/* Neither is ever so where no key was given. */
bool creation_key_is(const struct creation_key *k, const struct creation_key *other);
bool creation_key_asked_the_same(const struct creation_key *k, const struct creation_key *other);
