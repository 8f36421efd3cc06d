/* What the files below archive.h share. */
#pragma once

#include "service/archive/archive.h"
#include "service/archive/archived.h"
#include "service/archive/copy.h"
#include "service/archive/figures.h"
#include "service/archive/jobs.h"
#include "service/archive/read.h"

struct sweeper;

struct archive {
    struct store *store; /* owned */
    struct e2b *e2b;     /* borrowed */
    struct jobs reads, copies;
    struct sweeper *sweeper;         /* owned; NULL: none */
    struct archive_figures *figures; /* borrowed */
    int64_t timeout_ms;
};

/* What an operation is about: a sandbox, and for whom it is asked. */
struct target {
    char owner[RECORD_OWNER_MAX + 1];
    char sandbox_id[RECORD_ID_MAX + 1];
    char *tenant, *api_key; /* owned; NULL as in caller */
    struct e2b_caller caller;
};

/* Copies. False: there is no caller, or none that an archive can keep apart. */
bool target_init(struct target *t, const struct e2b_caller *caller, const char *sandbox_id,
                 struct status *st);
void target_deinit(struct target *t); /* also of one that is not whole */

struct archived_place target_place(const struct target *t, const struct archive *a);

/* So much is read or copied already, or the pod is about to stop; always false. */
bool archive_is_busy(struct status *st);

/* Waits, on the thread of a job or the sweeper. */
bool archive_copy_now(struct archive *a, const struct target *t, int64_t deadline_ns,
                      const atomic_bool *stopping, struct status *st);
