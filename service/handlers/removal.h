/*
 * The end of a sandbox through us: what its commands wrote is archived first, where an archive is
 * kept. While that fails the sandbox stays.
 */
#pragma once

#include "service/app.h"
#include "service/archive/archive.h"
#include "service/e2b/e2b.h"
#include "service/handlers/validate.h"

struct removal {
    struct e2b_op op; /* set as any other; done once, with the outcome in op.st */

    /* Private. */
    const struct app *app;
    char sandbox_id[VALIDATE_ID_MAX + 1];
    struct e2b_op step;
    struct e2b_sandbox sandbox;
    bool woken, cancelled;
};

/* discard: without the archive. */
void removal_start(struct removal *r, const struct app *app, const char *sandbox_id, bool discard);
/* On the executor's thread: what was not begun is not begun any more. */
void removal_cancel(struct removal *r);
