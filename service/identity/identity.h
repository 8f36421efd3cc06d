/*
 * Who may call, and as whom: the gate in front of every method. Made by main; any thread.
 *
 * Three ways: everybody is let in and nobody told apart (AUTH_NONE); callers bring a key of the
 * operator's file, which names their tenant (AUTH_KEYS); callers bring their own E2B key, with
 * which everything of theirs is done, and E2B tells them apart (AUTH_PASSTHROUGH).
 */
#pragma once

#include "common/base/status.h"
#include "service/identity/clients.h"
#include "service/identity/watch.h"
#include "service/limits/limiter.h"
#include "service/rpc/gate.h"

#include <stdbool.h>

enum auth_mode { AUTH_NONE, AUTH_KEYS, AUTH_PASSTHROUGH };

struct identity_config {
    enum auth_mode mode;
    const char *keys_file;   /* of AUTH_KEYS; borrowed */
    struct clients *clients; /* borrowed: who judges client certificates; NULL: none are needed */
    bool health_is_open;     /* these need no key */
    bool reflection_is_open;
    /* Any thread: whether there is no memory for another stream. May be NULL. */
    bool (*queue_is_full)(void *ctx);
    void *ctx;
    struct limits tenant; /* of each, unless the file says otherwise */
    struct limits pod;
};

struct identity;

/* Reads the keys, and has them watched. */
bool identity_new(const struct identity_config *config, struct watch *watch, struct identity **ret,
                  struct status *st);
/* After the server and the watch. NULL is fine. */
void identity_free(struct identity *i);

struct gate *identity_gate(struct identity *i);

/* For whoever watches. */
struct identity_counts {
    int64_t keys, tenants;
    int64_t reloads, failed_reloads;
    int64_t refused; /* no key, or one that is not known */
    struct limiter_counts limits;
};
void identity_count(struct identity *i, struct identity_counts *ret);
