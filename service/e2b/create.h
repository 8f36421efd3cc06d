/* "Create once": what create.c and hunt.c share. */
#pragma once

#include "service/e2b/request.h"

/* Labels of our own. Callers cannot set keys that start with "sandboxd.". */
#define CREATE_REQUEST_ID "sandboxd.request_id"
#define CREATE_REUSE_KEY "sandboxd.reuse_key"
#define CREATE_ATTEMPT "sandboxd.attempt"

/* Between two looks at who else made the same sandbox: longer than E2B takes to list what it has
 * stamped, and than its clocks differ. */
enum { CREATE_SETTLE_MS = 250 };

/* Makes x the exchange that lists the sandboxes with one label, oldest first; the caller starts it.
 */
void create_list_by_label(struct exchange *x, struct request *r, const char *key,
                          const char *value);
/* Reads its answer. */
bool create_read_list(struct exchange *x, struct e2b_list *ret, struct verdict *v);

/* The one of them that everybody agrees on: the oldest, of those the smallest id. NULL: none. */
struct e2b_sandbox *create_winner(const struct e2b_list *l);

/*
 * An attempt to create whose outcome is not known may still make a sandbox, minutes later: looks
 * for it by its nonce for a while and deletes it, unless key and value (NULL: none) make it the
 * sandbox that the caller's next try will be given.
 */
void hunt_start(const struct request *like, const char *nonce, const char *key, const char *value);

/* Deletes a sandbox, however long E2B refuses to, and waits for nothing. */
void hunt_delete(const struct request *like, const char *sandbox_id);
