/*
 * For whom an operation is done, as the adapter keeps it: the tenant, whose sandboxes alone exist
 * for it, and the key that E2B is shown. A sandbox belongs to the tenant that its label names, a
 * label that only this adapter sets. Immutable and shared; any thread.
 */
#pragma once

#include "service/e2b/e2b.h"

#include <stdatomic.h>

/* The label; callers cannot set keys that start with "sandboxd.". */
#define SCOPE_TENANT "sandboxd.tenant"

struct scope {
    atomic_int refs;
    char *tenant;  /* owned; NULL: tenancy is off */
    char *api_key; /* owned; NULL: the configured one */
    char *name; /* owned; what may be shared with others of the same name, and with no one else */
};

/* Copies. */
struct scope *scope_new(const struct e2b_caller *caller);
struct scope *scope_ref(struct scope *s);
void scope_unref(struct scope *s); /* NULL is fine */

bool scope_owns(const struct scope *s, const struct e2b_sandbox *sandbox);

/* Takes what belongs to others out of the list. E2B was asked for this tenant's only: this holds
 * even where it does not listen. */
void scope_filter(const struct scope *s, struct e2b_list *l);

/*
 * A tenant's snapshots are told apart by their names, for nothing else of a snapshot can be
 * labelled: "t_TENANT__" stands in front of what the tenant chose (no tenant's name has "__" in
 * it).
 */
char *scope_snapshot_name(const struct scope *s, const char *name); /* the caller's */
/* id: as E2B tells it, maybe with a namespace in front. Only for scopes with a tenant. */
bool scope_may_use_snapshot(const struct scope *s, const char *id);

/* Whether a sandbox may be made from it: not from another tenant's snapshot, and not from a
 * template that is not among those the operator allows. */
bool scope_may_use_template(const struct e2b_caller *caller, const char *template);

/*
 * What the caller may know of a failure. A tenant is told the same of a sandbox that is another's
 * and of one that never was, to the letter; and whoever brought a key of their own is told that it
 * is this key which E2B does not accept.
 */
void scope_translate(const struct scope *s, struct status *st);

/* Another's: as if it were not there. */
void scope_not_found(struct status *st);
/* The same of a template. */
void scope_no_template(struct status *st);
