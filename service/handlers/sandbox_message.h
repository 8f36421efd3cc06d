/* From what the adapter knows of a sandbox to the API's message. */
#pragma once

#include "sandbox/v1/sandbox.pb-c.h"
#include "service/e2b/e2b.h"

/* Points into s, which must outlive it; sandbox_message_deinit() frees the rest. Keys of metadata
 * that are sandboxd's own are left out. */
struct sandbox_message {
    Sandbox__V1__Sandbox m;
    Sandbox__V1__Network network;
    Google__Protobuf__Timestamp start, end;
    Google__Protobuf__Duration idle_timeout;
    Sandbox__V1__Sandbox__MetadataEntry *entries;   /* owned */
    Sandbox__V1__Sandbox__MetadataEntry **pointers; /* owned */
};

void sandbox_message_init(struct sandbox_message *to, const struct e2b_sandbox *s);
void sandbox_message_deinit(struct sandbox_message *to);
