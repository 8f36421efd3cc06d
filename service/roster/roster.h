/*
 * The sandboxes of each tenant, for those who watch them. While anybody watches, E2B is asked for
 * the whole list, page by page, once in a period and for each tenant (and key), whatever the number
 * of watchers; while nobody does, it is not asked. Only a list that came whole replaces the one
 * before.
 *
 * One thread of its own asks. A watcher belongs to the thread of its executor.
 */
#pragma once

#include "common/base/list.h"
#include "common/base/status.h"
#include "common/base/task.h"
#include "service/roster/list.h"

struct e2b;
struct roster;
struct roster_feed;

enum {
    ROSTER_SANDBOXES_MAX = 10000,
    ROSTER_BYTES_MAX = 16 << 20,
    ROSTER_GIVE_UP_MS = 5 * 60 * 1000,
};

struct roster_config {
    struct e2b *e2b;      /* borrowed */
    int64_t period_ms;    /* from the beginning of one list to that of the next */
    int64_t give_up_ms;   /* for so long it may fail */
    size_t sandboxes_max; /* of one tenant */
    size_t bytes_max;     /* the same, in messages */
};

bool roster_new(const struct roster_config *config, struct roster **ret, struct status *st);
/* No watcher may be left; NULL is fine. */
void roster_free(struct roster *r);

struct roster_watcher {
    struct executor *executor; /* set before joining, as the two below */
    /* Look again. On the executor. */
    void (*changed)(struct roster_watcher *w);
    /* Once, after roster_leave(), or from within it: nothing comes any more. */
    void (*left)(struct roster_watcher *w);

    struct roster *roster; /* private, as all that follows */
    struct roster_feed *feed;
    struct list node;
    struct task task;
    bool posted, leaving;
};

/* caller's strings are copied. `changed` comes when there is something to see. */
void roster_join(struct roster *r, struct roster_watcher *w, const struct e2b_caller *caller);
void roster_leave(struct roster_watcher *w);

/*
 * How it stands; until it leaves. False: it is over, st says why. *ret: a reference to the newest
 * list, or NULL: there is none yet. *ret_failing: the last time E2B was asked it did not answer as
 * it should.
 */
bool roster_look(struct roster_watcher *w, struct roster_list **ret, bool *ret_failing,
                 struct status *st);
