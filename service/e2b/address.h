/*
 * What this pod remembers of running sandboxes, so that a call needs no look at the control plane:
 * where each is, its access token, and whether it has our recorder. A caller finds
 * only what was stored for its own scope (scope.h). Only a cache: capped, and what
 * is in it may be wrong; whoever finds out calls address_forget(). Any thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* What using it does. */
struct address_life {
    bool wakes;          /* when it is paused */
    int64_t idle_s;      /* it ends when it is not used for so long (idle.h); 0: not so */
    int64_t life_end_ns; /* wall clock: it is not prolonged beyond */
    int64_t due_ns;      /* a use from then on prolongs */
};

struct address {
    char *domain;      /* owned; NULL: the configured one */
    char *token;       /* owned; envd's access token; NULL: none is needed */
    bool has_recorder; /* it was seen running there */
    bool no_root;      /* there is no root to be had: the recorder lives in the user's home */
    struct address_life life;
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
/* The same. */
void address_note_life(struct address_cache *c, const char *scope, const char *sandbox_id,
                       const struct address_life *life);
/* The sandbox is used. True, to one of all who ask: it is time to prolong; the next is step_ns
 * later. */
bool address_use(struct address_cache *c, const char *scope, const char *sandbox_id, int64_t now_ns,
                 int64_t step_ns);
void address_forget(struct address_cache *c, const char *scope, const char *sandbox_id);
