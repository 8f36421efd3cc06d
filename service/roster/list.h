/*
 * All sandboxes that somebody sees, as they were at one moment. Made once, then only read, by any
 * thread that holds a reference.
 */
#pragma once

#include "service/e2b/e2b.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct roster_entry {
    struct e2b_sandbox sandbox; /* its metadata in the order of the keys */
    uint64_t revision;          /* the number of the list in which it became as it is */
    size_t bytes;               /* about, on the wire */
};

struct roster_list {
    atomic_int refs;
    uint64_t number;              /* higher ones are later */
    struct roster_entry *entries; /* in the order of their ids, each once */
    size_t n;
};

/* About as long is a message of it. */
size_t roster_weight(const struct e2b_sandbox *s);

/*
 * Takes the sandboxes, and the array; of two with one id the later one counts. before: the list
 * until now, NULL for none. Its own reference is the caller's; NULL: nothing is other than before.
 */
struct roster_list *roster_list_new(struct e2b_sandbox *sandboxes, size_t n,
                                    const struct roster_list *before);

struct roster_list *roster_list_ref(struct roster_list *l);
void roster_list_unref(struct roster_list *l); /* NULL is fine */

/* The first one whose id comes after this one. */
size_t roster_list_after(const struct roster_list *l, const char *id);
