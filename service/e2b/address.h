/*
 * What this pod remembers of running sandboxes, so that a call needs no look at the control plane:
 * where each is, its access token, and whether it has our recorder. A caller finds
 * only what was stored for its own scope (scope.h). Only a cache: capped, and what
 * is in it may be wrong; whoever finds out calls address_forget(). Any thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct address {
    char *domain;      /* owned; NULL: the configured one */
    char *token;       /* owned; envd's access token; NULL: none is needed */
    bool has_recorder; /* it was seen running there */
    bool no_root;      /* there is no root to be had: the recorder lives in the user's home */
};

void address_deinit(struct address *a); /* may be called twice */

struct address_cache;

struct address_cache *address_cache_new(unsigned max, int64_t ttl_ns);
void address_cache_free(struct address_cache *c);

/* False: not known (any more). *ret is the caller's. */
bool address_lookup(struct address_cache *c, const char *scope, const char *sandbox_id,
                    int64_t now_ns, struct address *ret);
/* domain and token may be NULL. What is known of the recorder stays. */
void address_store(struct address_cache *c, const char *scope, const char *sandbox_id,
                   const char *domain, const char *token, int64_t now_ns);
/* Of a sandbox that is known; else nothing happens. */
void address_note_recorder(struct address_cache *c, const char *scope, const char *sandbox_id,
                           bool has_recorder, bool no_root);
void address_forget(struct address_cache *c, const char *scope, const char *sandbox_id);
