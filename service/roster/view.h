/*
 * What one watcher was told, and what it is to be told next. It keeps but the id and revision of
 * each sandbox, and looks for the rest in whatever list is the newest when it can say something: so
 * a slow watcher costs no more than a fast one, and hears of each sandbox how it is now, not all it
 * was.
 *
 * A walk goes through a list and what was told, both in the order of ids. It may be left at any
 * point and go on in a later list; once it is over and the list is later than the one it began
 * with, there is another. Pure; for one thread.
 */
#pragma once

#include "service/roster/list.h"

enum roster_change_kind { ROSTER_ADDED, ROSTER_CHANGED, ROSTER_REMOVED };

struct roster_change {
    enum roster_change_kind kind;
    const struct roster_entry *entry; /* of the list; NULL: it is gone altogether */
    char *id;                         /* owned by the caller, only without an entry */
};

struct roster_known {
    char *id; /* owned */
    uint64_t revision;
};

struct roster_filter {               /* borrowed, all of it */
    const struct e2b_pair *metadata; /* all of these */
    size_t n_metadata;
    bool running, paused; /* both false: both */
};

struct roster_view { /* zeroed but for the filter: nothing was told */
    struct roster_filter filter;
    struct roster_known *told; /* owned; before the walk, from `at` on not walked through yet */
    size_t n_told, at;
    struct roster_known *found; /* owned; by the walk, becomes told at its end */
    size_t n_found, size_found;
    char *last;        /* owned; the walk is behind this id; NULL: no walk is under way */
    uint64_t began_in; /* the number of the list */
    uint64_t done;     /* of the list that the last walk began with; 0: none was ended yet */
};

void roster_view_deinit(struct roster_view *v);

/* Something may be left to be told. */
bool roster_view_is_due(const struct roster_view *v, const struct roster_list *l);
/* The next thing to be told. False: nothing, the walk is over. */
bool roster_view_next(struct roster_view *v, const struct roster_list *l,
                      struct roster_change *ret);
