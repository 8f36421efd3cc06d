/* Maps of a request, checked and copied for the adapter. */
#pragma once

#include "common/base/status.h"
#include "sandbox/v1/sandbox.pb-c.h"
#include "service/e2b/e2b.h"

/* protobuf-c makes a type for every map; all maps from string to string have the same shape. */
typedef Sandbox__V1__CreateSandboxRequest__MetadataEntry pairs_metadata_entry;
typedef Sandbox__V1__CreateSandboxRequest__EnvsEntry pairs_envs_entry;

struct pairs {
    struct e2b_pair *items; /* owned, each too */
    size_t n;
};

void pairs_deinit(struct pairs *p);

/* Labels of a sandbox: at most 64, keys 1 to 128 bytes and not sandboxd's own, values 1024 bytes.
 */
bool pairs_metadata(struct pairs *p, pairs_metadata_entry *const *entries, size_t n,
                    struct status *st);
/* Those of a sandbox, without sandboxd's own, in place of what p has. */
void pairs_copy_own(struct pairs *p, const struct e2b_pair *from, size_t n);
/* Environment variables: as validate_env() has them, at most VALIDATE_ENVS_MAX. */
bool pairs_envs(struct pairs *p, pairs_envs_entry *const *entries, size_t n, struct status *st);
